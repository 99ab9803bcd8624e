//! The demo: our stack fetches files from a Linux web server through our NIC, and says what moved.

pub mod bench;
pub mod fetch;
pub mod http;
pub mod local;
pub mod nic;
pub mod peer;
pub mod rows;
pub mod serve;
pub mod server;
pub mod stages;
pub mod trace;
pub mod transfer;
