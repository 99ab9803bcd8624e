// What Verilator calls at $finish, $stop, a failed assertion and a runtime error, and the few context
// functions that Rust needs.
//
// The defaults end the process. Here a failure is noted in the thread that evaluates the model; its
// owner asks after each evaluation. A fatal error must not return to Verilator's loops, so it leaves by
// an exception, which the generated shims catch.

#include "verilated.h"

#include <cstdio>
#include <cstring>
#include <stdexcept>
#include <string>

namespace {

thread_local std::string first_failure;
thread_local unsigned failure_count = 0;

void note(const char* what, const char* file, int line, const char* hier, const char* msg) {
    if (failure_count++ != 0) return;
    first_failure = std::string{what} + " at " + (file ? file : "?") + ":" + std::to_string(line);
    if (hier && *hier) first_failure += std::string{" in "} + hier;
    if (msg && *msg) first_failure += std::string{": "} + msg;
}

}  // namespace

void vl_finish(const char* file, int line, const char* hier) {
    note("$finish", file, line, hier, nullptr);
}

void vl_stop(const char* file, int line, const char* hier) {
    note("assertion failed or $stop", file, line, hier, nullptr);
}

void vl_fatal(const char* file, int line, const char* hier, const char* msg) {
    note("fatal", file, line, hier, msg);
    throw std::runtime_error{"fatal error in a verilated model"};
}

extern "C" {

void* tandem_vl_context_new(unsigned seed, int randomise, int traced) {
    auto* const context = new VerilatedContext;
    // 0: all bits zero at start; 2: random values from the seed (+verilator+rand+reset+2).
    context->randReset(randomise ? 2 : 0);
    context->randSeed(static_cast<int>(seed));
    context->assertOn(true);
    if (traced) context->traceEverOn(true);
    return context;
}

void tandem_vl_context_delete(void* context) { delete static_cast<VerilatedContext*>(context); }

void tandem_vl_context_time(void* context, uint64_t time) {
    static_cast<VerilatedContext*>(context)->time(time);
}

unsigned tandem_vl_failures() { return failure_count; }

// Copies the first failure noted in this thread, cut to fit, and forgets all of them.
size_t tandem_vl_take_failure(char* out, size_t room) {
    const size_t len = first_failure.size() < room ? first_failure.size() : room;
    std::memcpy(out, first_failure.data(), len);
    first_failure.clear();
    failure_count = 0;
    return len;
}

// For the shims' catch blocks.
void tandem_vl_note_exception(const char* msg) { note("exception", nullptr, 0, nullptr, msg); }

}  // extern "C"
