//! The NIC as a PCI device on a vfio-user socket.
