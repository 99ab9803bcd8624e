//! The verilated NIC as a safe type that implements Nic.
