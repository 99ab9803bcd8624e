//! Cosimulation: clock, host memory, wires, and the in-process PCI transport.
