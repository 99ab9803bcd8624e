//! Frames from a capture file.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use pcap_file::pcap::PcapReader;
use pcap_file::pcapng::{Block, PcapNgReader};
use pcap_file::{DataLink, PcapError};
use tandem_contract::nic::{Arrival, Cycle, WirePort};
use thiserror::Error;

use super::{Pacer, Wire, WireCounters};

/// Most bytes of frames that are taken from a file.
const REPLAY_BYTES_MAX: usize = 1 << 30;

/// Why a file cannot be replayed.
#[derive(Debug, Error)]
pub enum ReplayError {
    /// It cannot be read.
    #[error("{0}")]
    Read(#[from] std::io::Error),
    /// It is no capture.
    #[error("not a pcap or pcapng file, or a damaged one: {0}")]
    Format(#[from] PcapError),
    /// Its frames are not Ethernet.
    #[error("its frames are not Ethernet")]
    NotEthernet,
    /// It is too long.
    #[error("it has more than {REPLAY_BYTES_MAX} bytes of frames")]
    TooLong,
}

/// The frames of a file, at line rate, beginning when the driver is ready. The times in the file are not kept.
#[derive(Debug, Default)]
pub struct Replay {
    frames: std::collections::VecDeque<Vec<u8>>,
    started: bool,
    pacer: Pacer,
    counters: WireCounters,
}

impl Replay {
    /// Reads the whole file.
    ///
    /// # Errors
    /// See [`ReplayError`].
    pub fn open(path: &Path) -> Result<Self, ReplayError> {
        let mut file = File::open(path)?;
        let mut magic = [0; 4];
        file.read_exact(&mut magic)?;
        file.seek(SeekFrom::Start(0))?;
        let mut replay = Self::default();
        // The block type of a pcapng section header is the same in both byte orders.
        if magic == [0x0a, 0x0d, 0x0d, 0x0a] {
            replay.read_pcapng(file)?
        } else {
            replay.read_pcap(file)?
        }
        Ok(replay)
    }

    fn read_pcap(&mut self, file: File) -> Result<(), ReplayError> {
        let mut reader = PcapReader::new(BufReader::new(file))?;
        if reader.header().datalink != DataLink::ETHERNET {
            return Err(ReplayError::NotEthernet);
        }
        let mut bytes = 0;
        while let Some(packet) = reader.next_packet() {
            self.add(&packet?.data, &mut bytes)?;
        }
        Ok(())
    }

    fn read_pcapng(&mut self, file: File) -> Result<(), ReplayError> {
        let mut reader = PcapNgReader::new(BufReader::new(file))?;
        let mut bytes = 0;
        while let Some(block) = reader.next_block() {
            match block? {
                Block::InterfaceDescription(interface)
                    if interface.linktype != DataLink::ETHERNET =>
                {
                    return Err(ReplayError::NotEthernet);
                }
                Block::EnhancedPacket(packet) => self.add(&packet.data, &mut bytes)?,
                Block::SimplePacket(packet) => self.add(&packet.data, &mut bytes)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn add(&mut self, frame: &[u8], bytes: &mut usize) -> Result<(), ReplayError> {
        *bytes += frame.len();
        if *bytes > REPLAY_BYTES_MAX {
            return Err(ReplayError::TooLong);
        }
        if !frame.is_empty() {
            self.frames.push_back(frame.to_vec());
        }
        Ok(())
    }

    /// Frames that have not arrived yet.
    pub fn left(&self) -> usize {
        self.frames.len()
    }
}

impl WirePort for Replay {
    fn arriving(&mut self, cycle: Cycle, frame: &mut Vec<u8>) -> Option<Arrival> {
        frame.clear();
        if !self.started || self.pacer.begin(0) > cycle {
            return None;
        }
        let next = self.frames.pop_front()?;
        self.pacer.occupy(cycle, next.len());
        *frame = next;
        self.counters.arrived += 1;
        Some(Arrival { error: false })
    }

    fn next_arrival_at(&self) -> Option<Cycle> {
        self.frames.front().filter(|_| self.started).map(|_| self.pacer.begin(0))
    }

    fn ready(&mut self, _: Cycle) -> bool {
        true
    }

    fn departed(&mut self, _: Cycle, _: &[u8]) {
        self.counters.departed += 1;
    }
}

impl Wire for Replay {
    fn as_wire_port(&mut self) -> &mut dyn WirePort {
        self
    }

    fn next_arrival_at(&self) -> Option<Cycle> {
        WirePort::next_arrival_at(self)
    }

    fn poll(&mut self, _: Cycle) {}

    fn driver_ready(&mut self) {
        self.started = true;
    }

    fn driver_gone(&mut self) {
        self.started = false;
    }

    fn counters(&self) -> WireCounters {
        self.counters
    }
}
