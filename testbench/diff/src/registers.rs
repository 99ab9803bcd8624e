//! The same register accesses on both models.
