//! Tests against Linux, tshark and QEMU.
