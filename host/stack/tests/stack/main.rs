//! The stack over virtual wires in virtual time.
mod datagrams;
mod failover;
mod hostile;
mod neighbours;
mod peer;
mod shards;
mod streams;
mod wire;
