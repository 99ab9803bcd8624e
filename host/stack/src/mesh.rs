//! What joins shards: one bounded mailbox each, without a lock.

use std::net::IpAddr;
use std::sync::Arc;

use crossbeam_queue::ArrayQueue;
use tandem_device::Frame;
use tandem_packet::MacAddr;

use crate::limits;
use crate::namespace::IfaceId;
use crate::neighbour::Evidence;

/// What one shard hands to another.
#[derive(Debug)]
pub(crate) enum Mail {
    /// A frame that landed on the wrong shard; its checksum has been judged.
    Frame { iface: IfaceId, frame: Frame },
    /// What was heard of a neighbour, for those who asked for it.
    Neighbour { iface: IfaceId, address: IpAddr, mac: Option<MacAddr>, evidence: Evidence },
}

/// The mailboxes of a set of shards. Clones are the same mesh.
#[derive(Debug, Clone)]
pub struct Mesh {
    boxes: Arc<[ArrayQueue<Mail>]>,
}

impl Mesh {
    /// Mailboxes for this many shards.
    ///
    /// # Panics
    /// For no shards or more than [`limits::SHARDS_MAX`].
    pub fn new(shards: u16) -> Self {
        assert!((1..=limits::SHARDS_MAX).contains(&shards), "{shards} shards");
        // A lone shard has nobody to write to.
        let len = if shards == 1 { 1 } else { limits::MAILBOX_MAX };
        Self { boxes: (0..shards).map(|_| ArrayQueue::new(len)).collect() }
    }

    /// How many shards there are.
    pub fn shards(&self) -> u16 {
        self.boxes.len() as u16
    }

    /// Puts mail into a box; returns it when the box is full.
    pub(crate) fn post(&self, shard: u16, mail: Mail) -> Result<(), Mail> {
        self.boxes[usize::from(shard)].push(mail)
    }

    pub(crate) fn take(&self, shard: u16) -> Option<Mail> {
        self.boxes[usize::from(shard)].pop()
    }

    /// Whether mail waits for a shard: look before sleeping.
    pub fn has_mail(&self, shard: u16) -> bool {
        !self.boxes[usize::from(shard)].is_empty()
    }
}
