//! The demo: our stack fetches files from a Linux web server through our NIC, and says what moved.

pub mod http;
pub mod nic;
pub mod peer;
pub mod rows;
pub mod trace;
pub mod transfer;
