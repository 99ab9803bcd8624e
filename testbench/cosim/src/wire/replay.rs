//! A capture file at the far end: its frames arrive at their times.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use pcap_file::PcapError;
use pcap_file::pcap::PcapReader;
use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionOption;
use pcap_file::pcapng::{Block, PcapNgReader};
use tandem_contract::nic::{Arrival, Cycle};
use thiserror::Error;

use super::{FramePort, WIRE_FRAME_BYTES_MAX};

/// Frames of a capture that are replayed at most.
pub const REPLAY_FRAMES_MAX: usize = 1_000_000;

/// First bytes of a pcapng file: the section header's block type.
const PCAPNG_MAGIC: [u8; 4] = [0x0A, 0x0D, 0x0D, 0x0A];

/// Why a capture cannot be replayed.
#[derive(Debug, Error)]
pub enum ReplayError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Io {
        /// File.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is no capture, or a damaged one.
    #[error("{path} is not a capture that can be read")]
    Format {
        /// File.
        path: PathBuf,
        /// Why.
        #[source]
        source: PcapError,
    },
}

/// Frames from a pcap or pcapng file.
#[derive(Debug)]
pub struct Replay {
    frames: VecDeque<(Cycle, Vec<u8>)>,
    sent: u64,
    skipped: u64,
}

impl Replay {
    /// Reads a capture. Times count from its first frame, which arrives at cycle `start`, with cycles
    /// of 4 ns; time that runs backwards is held at the latest so far. Frames that are empty or too
    /// long, and those beyond [`REPLAY_FRAMES_MAX`], are skipped and counted.
    ///
    /// # Errors
    /// [`ReplayError`].
    pub fn open(path: &Path, start: Cycle) -> Result<Self, ReplayError> {
        let io = |source| ReplayError::Io { path: path.to_owned(), source };
        let format = |source| ReplayError::Format { path: path.to_owned(), source };
        let mut file = BufReader::new(File::open(path).map_err(io)?);
        let mut magic = [0; 4];
        file.read_exact(&mut magic).map_err(io)?;
        file.seek(SeekFrom::Start(0)).map_err(io)?;
        let mut replay = Self { frames: VecDeque::new(), sent: 0, skipped: 0 };
        let mut zero = None;
        let mut add = |ns: u128, data: &[u8]| {
            let since = ns.saturating_sub(*zero.get_or_insert(ns));
            replay.add(start.saturating_add(u64::try_from(since / 4).unwrap_or(0)), data);
        };
        if magic == PCAPNG_MAGIC {
            let mut reader = PcapNgReader::new(file).map_err(format)?;
            let mut units = Vec::new();
            while let Some(block) = reader.next_block() {
                match block.map_err(format)? {
                    Block::InterfaceDescription(interface) => {
                        units.push(unit_ns(&interface.options));
                    }
                    Block::EnhancedPacket(packet) => {
                        // The reader takes every unit for a nanosecond.
                        let unit = units.get(packet.interface_id as usize).copied().unwrap_or(1.0);
                        let ns = packet.timestamp.as_nanos() as f64 * unit;
                        add(ns as u128, &packet.data);
                    }
                    _ => {}
                }
            }
        } else {
            let mut reader = PcapReader::new(file).map_err(format)?;
            while let Some(packet) = reader.next_packet() {
                let packet = packet.map_err(format)?;
                add(packet.timestamp.as_nanos(), &packet.data);
            }
        }
        Ok(replay)
    }

    fn add(&mut self, at: Cycle, data: &[u8]) {
        let good = !data.is_empty() && data.len() <= WIRE_FRAME_BYTES_MAX;
        if !good || self.frames.len() >= REPLAY_FRAMES_MAX {
            self.skipped += 1;
            return;
        }
        let latest = self.frames.back().map_or(0, |(at, _)| *at);
        self.frames.push_back((at.max(latest), data.to_vec()));
    }

    /// Frames that are still to come.
    pub fn remaining(&self) -> usize {
        self.frames.len()
    }

    /// Frames that were not taken over.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }
}

/// Nanoseconds of an interface's unit of time: `if_tsresol`, by default 10^-6 s (pcapng 4.2).
fn unit_ns(options: &[InterfaceDescriptionOption<'_>]) -> f64 {
    let resolution = options.iter().find_map(|option| match option {
        InterfaceDescriptionOption::IfTsResol(value) => Some(*value),
        _ => None,
    });
    let value = resolution.unwrap_or(6);
    let exponent = -i32::from(value & 0x7F);
    let base: f64 = if value & 0x80 == 0 { 10.0 } else { 2.0 };
    base.powi(exponent) * 1e9
}

impl FramePort for Replay {
    fn receive(&mut self, cycle: Cycle, frame: &mut Vec<u8>) -> Option<Arrival> {
        let (_, next) = self.frames.pop_front_if(|(at, _)| *at <= cycle)?;
        *frame = next;
        Some(Arrival { error: false })
    }

    fn next_at(&self) -> Option<Cycle> {
        self.frames.front().map(|(at, _)| *at)
    }

    fn send(&mut self, _cycle: Cycle, _frame: &[u8]) {
        self.sent += 1;
    }
}
