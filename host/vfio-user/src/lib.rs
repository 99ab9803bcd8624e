//! The vfio-user protocol, both ends: messages, client, server.
