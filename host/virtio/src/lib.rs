//! Driver side of virtio-net over a PCI transport trait: rings, negotiation, control.
