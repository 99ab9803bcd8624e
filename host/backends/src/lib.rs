//! Device implementations: virtio over vfio-user, TAP, loopback, pcap.
