// FST files, for the shims of traced models.

#include "verilated.h"
#include "verilated_fst_c.h"

extern "C" {

void* tandem_vl_fst_new() {
    auto* const fst = new VerilatedFstC;
    fst->set_time_unit("1ns");
    fst->set_time_resolution("1ns");
    return fst;
}

int tandem_vl_fst_open(void* fst, const char* path) {
    auto* const file = static_cast<VerilatedFstC*>(fst);
    file->open(path);
    return file->isOpen() ? 1 : 0;
}

void tandem_vl_fst_dump(void* fst, uint64_t time) { static_cast<VerilatedFstC*>(fst)->dump(time); }

void tandem_vl_fst_flush(void* fst) { static_cast<VerilatedFstC*>(fst)->flush(); }

void tandem_vl_fst_delete(void* fst) { delete static_cast<VerilatedFstC*>(fst); }

}  // extern "C"
