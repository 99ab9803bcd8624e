//! Packets per second.
fn main() {}
