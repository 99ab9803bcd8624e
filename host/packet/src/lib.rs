//! Packet formats: a checked view and a plain Repr per protocol.
