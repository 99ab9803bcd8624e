//! Verilator's C++ runtime and the few functions of it that Rust calls.
//!
//! This crate is raw material for `tandem-rtl-bindings`, which makes a safe type of it. It stands
//! apart so that the runtime is compiled once however many models there are and however often they
//! change.

use std::ffi::{c_char, c_int, c_uint, c_void};

// The C libraries inside these crates are linked because the crates are named.
#[cfg(feature = "fst")]
use libz_sys as _;
#[cfg(feature = "fst")]
use lz4_sys as _;

unsafe extern "C" {
    /// Makes a context. With `randomise` all state starts with values drawn from `seed`.
    pub fn tandem_vl_context_new(seed: c_uint, randomise: c_int, traced: c_int) -> *mut c_void;
    /// Frees a context; its models must be gone.
    pub fn tandem_vl_context_delete(context: *mut c_void);
    /// Sets the simulated time, in units of 1 ns.
    pub fn tandem_vl_context_time(context: *mut c_void, time: u64);
    /// Failures noted in this thread since the last [`tandem_vl_take_failure`].
    pub safe fn tandem_vl_failures() -> c_uint;
    /// Copies the first failure into `out` (at most `room` bytes), forgets all, returns the length.
    pub fn tandem_vl_take_failure(out: *mut c_char, room: usize) -> usize;
}

#[cfg(feature = "fst")]
unsafe extern "C" {
    /// Makes an FST writer; a traced model must be attached before it is opened.
    pub safe fn tandem_vl_fst_new() -> *mut c_void;
    /// Opens the file; 0 when it cannot be written.
    pub fn tandem_vl_fst_open(fst: *mut c_void, path: *const c_char) -> c_int;
    /// Writes the values at `time`, in units of 1 ns.
    pub fn tandem_vl_fst_dump(fst: *mut c_void, time: u64);
    /// Flushes to the file.
    pub fn tandem_vl_fst_flush(fst: *mut c_void);
    /// Closes and frees.
    pub fn tandem_vl_fst_delete(fst: *mut c_void);
}

/// The first failure that a model noted in this thread since the last call, if any.
pub fn take_failure() -> Option<String> {
    if tandem_vl_failures() == 0 {
        return None;
    }
    let mut text = vec![0u8; 1024];
    // SAFETY: the buffer has the length that is passed; the callee writes no more than that.
    let len = unsafe { tandem_vl_take_failure(text.as_mut_ptr().cast(), text.len()) };
    text.truncate(len);
    Some(String::from_utf8_lossy(&text).into_owned())
}
