//! The same NIC as plain Rust, written from the standard and not from the RTL.
