//! The contract between the NIC and all who meet it: drivers, models, test benches, documents.
//!
//! One source for what would otherwise be written four times: which virtio features the NIC offers
//! and which each client is expected to take ([`features`]), where registers live ([`layout`]), what
//! the decision trace says ([`trace`]), and the trait that every model of the NIC, verilated or plain
//! Rust, implements ([`nic`]). The SystemVerilog package and the tables of the book are generated
//! from here.

#![forbid(unsafe_code)]

pub mod book;
pub mod features;
pub mod layout;
pub mod nic;
pub mod sv;
pub mod trace;
