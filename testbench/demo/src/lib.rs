//! The demo: a Linux web server seen through our NIC.
