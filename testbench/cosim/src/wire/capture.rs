//! A pcapng file of both MAC directions, in which each packet's comment names it.
//!
//! What names a frame, its function, queue and descriptor, is known only from the decision trace: for
//! one that leaves at its last beat, for one that arrives when it has been placed. So packets are held
//! back, in order, until they are named or too many wait.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::{DataLink, PcapError};
use tandem_contract::nic::Cycle;
use tandem_contract::trace::{Drop as DropReason, Event, Kind, Verdict};
use thiserror::Error;

/// Packets held back for their names; beyond, the oldest is written without.
const HELD_MAX: usize = 4096;

/// Nanoseconds a cycle.
const NS_PER_CYCLE: u64 = 4;

/// `epb_flags`, direction (pcapng 4.3.1): 1 inbound, 2 outbound.
const INBOUND: u32 = 1;
const OUTBOUND: u32 = 2;

/// `epb_flags` bit 24: CRC error.
const CRC_ERROR: u32 = 1 << 24;

/// Why a capture failed.
#[derive(Debug, Error)]
pub enum CaptureError {
    /// The file cannot be made.
    #[error("cannot create {path}")]
    Create {
        /// File.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It cannot be written.
    #[error("cannot write the capture")]
    Write(#[from] PcapError),
    /// It cannot be flushed.
    #[error("cannot write the capture")]
    Flush(#[from] std::io::Error),
}

/// What a capture has written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CaptureStats {
    /// Packets written.
    pub written: u64,
    /// Of those, without a name.
    pub unnamed: u64,
}

#[derive(Debug)]
struct Held {
    cycle: Cycle,
    arrived: bool,
    /// Number in its direction.
    number: u64,
    error: bool,
    frame: Vec<u8>,
    verdict: Option<&'static str>,
    name: Option<String>,
}

/// A pcapng file being written.
pub struct Capture {
    writer: PcapNgWriter<BufWriter<File>>,
    held: VecDeque<Held>,
    spare: Vec<Vec<u8>>,
    arrivals: u64,
    departures: u64,
    named_departures: u64,
    stats: CaptureStats,
    /// The first error in writing; kept for [`Capture::finish`], nothing is written after it.
    failed: Option<PcapError>,
}

impl std::fmt::Debug for Capture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Capture").field("stats", &self.stats).finish_non_exhaustive()
    }
}

impl Capture {
    /// Makes the file. `name` is that of the interface in it, such as `rtl mac0`.
    ///
    /// # Errors
    /// [`CaptureError`].
    pub fn create(path: &Path, name: &str) -> Result<Self, CaptureError> {
        let file = File::create(path)
            .map_err(|source| CaptureError::Create { path: path.to_owned(), source })?;
        let mut writer = PcapNgWriter::new(BufWriter::new(file))?;
        writer.write_pcapng_block(InterfaceDescriptionBlock {
            linktype: DataLink::ETHERNET,
            snaplen: 0,
            options: vec![
                InterfaceDescriptionOption::IfName(Cow::Borrowed(name)),
                // Nanoseconds: 10^-9.
                InterfaceDescriptionOption::IfTsResol(9),
            ],
        })?;
        Ok(Self {
            writer,
            held: VecDeque::new(),
            spare: Vec::new(),
            arrivals: 0,
            departures: 0,
            named_departures: 0,
            stats: CaptureStats::default(),
            failed: None,
        })
    }

    /// What it has written so far.
    pub fn stats(&self) -> CaptureStats {
        self.stats
    }

    pub(super) fn arrived(&mut self, cycle: Cycle, frame: &[u8], error: bool) {
        let number = self.arrivals;
        self.arrivals += 1;
        self.hold(cycle, true, number, error, frame);
    }

    pub(super) fn departed(&mut self, cycle: Cycle, frame: &[u8]) {
        let number = self.departures;
        self.departures += 1;
        self.hold(cycle, false, number, false, frame);
    }

    fn hold(&mut self, cycle: Cycle, arrived: bool, number: u64, error: bool, frame: &[u8]) {
        if self.held.len() >= HELD_MAX
            && let Some(oldest) = self.held.pop_front()
        {
            self.write(oldest);
        }
        let mut copy = self.spare.pop().unwrap_or_default();
        copy.clear();
        copy.extend_from_slice(frame);
        self.held.push_back(Held {
            cycle,
            arrived,
            number,
            error,
            frame: copy,
            verdict: None,
            name: None,
        });
    }

    /// Takes note of decisions, and writes what they name.
    pub(super) fn learn(&mut self, events: &[Event]) {
        for event in events {
            let place = format!(
                "function {} queue {} wrap {} descriptor {}",
                event.function,
                event.queue,
                u8::from(event.wrap),
                event.slot
            );
            let (arrived, number, name) = match event.kind {
                Kind::TxFrame => {
                    let number = self.named_departures;
                    self.named_departures += 1;
                    let csum = if event.code & 1 == 1 { ", checksum by hardware" } else { "" };
                    (false, number, format!("{place}{csum}"))
                }
                Kind::RxAccept => {
                    if let Some(held) = self.find(true, event.arg.into()) {
                        held.verdict = verdict(event.code);
                    }
                    continue;
                }
                Kind::RxPlace => {
                    let name = format!("{place}, placed in cycle {}", event.cycle);
                    (true, u64::from(event.arg), name)
                }
                Kind::RxDrop => {
                    (true, u64::from(event.arg), format!("dropped: {}", reason(event.code)))
                }
                _ => continue,
            };
            if let Some(held) = self.find(arrived, number) {
                held.name = Some(name);
            }
        }
        while let Some(named) = self.held.pop_front_if(|held| held.name.is_some()) {
            self.write(named);
        }
    }

    fn find(&mut self, arrived: bool, number: u64) -> Option<&mut Held> {
        // The hardware counts in 32 bits.
        self.held.iter_mut().find(|held| {
            held.arrived == arrived && held.number & 0xFFFF_FFFF == number & 0xFFFF_FFFF
        })
    }

    fn write(&mut self, held: Held) {
        let way = if held.arrived { "rx" } else { "tx" };
        self.stats.unnamed += u64::from(held.name.is_none());
        let name = held.name.as_deref().unwrap_or("not named by the NIC");
        let mut comment = format!("{way} {} cycle {}: {name}", held.number, held.cycle);
        if let Some(verdict) = held.verdict {
            comment.push_str(", ");
            comment.push_str(verdict);
        }
        let mut flags = if held.arrived { INBOUND } else { OUTBOUND };
        if held.error {
            flags |= CRC_ERROR;
        }
        let block = EnhancedPacketBlock {
            interface_id: 0,
            timestamp: Duration::from_nanos(held.cycle.saturating_mul(NS_PER_CYCLE)),
            original_len: held.frame.len() as u32,
            data: Cow::Borrowed(&held.frame),
            options: vec![
                EnhancedPacketOption::Comment(Cow::Owned(comment)),
                EnhancedPacketOption::Flags(flags),
            ],
        };
        if self.failed.is_none() {
            match self.writer.write_pcapng_block(block) {
                Ok(_) => self.stats.written += 1,
                Err(error) => self.failed = Some(error),
            }
        }
        self.spare.push(held.frame);
    }

    /// Writes what is still held back and closes the file.
    ///
    /// # Errors
    /// The first error of all writing.
    pub fn finish(mut self) -> Result<CaptureStats, CaptureError> {
        while let Some(held) = self.held.pop_front() {
            self.write(held);
        }
        if let Some(error) = self.failed {
            return Err(error.into());
        }
        let stats = self.stats;
        std::io::Write::flush(&mut self.writer.into_inner())?;
        Ok(stats)
    }
}

fn verdict(code: u8) -> Option<&'static str> {
    [
        (Verdict::NotJudged, "checksum not judged"),
        (Verdict::Valid, "checksum valid"),
        (Verdict::Bad, "checksum bad"),
    ]
    .into_iter()
    .find_map(|(verdict, text)| (verdict as u8 == code).then_some(text))
}

fn reason(code: u8) -> &'static str {
    [
        (DropReason::FifoFull, "receive FIFO full"),
        (DropReason::NoBuffer, "no buffer in the ring"),
        (DropReason::MacError, "MAC error"),
        (DropReason::Runt, "runt"),
        (DropReason::TooLong, "too long"),
        (DropReason::Filter, "for another station"),
        (DropReason::NotReady, "queue not ready"),
        (DropReason::BadRequest, "bad request"),
        (DropReason::BufferTooShort, "buffer too short"),
    ]
    .into_iter()
    .find_map(|(drop, text)| (drop as u8 == code).then_some(text))
    .unwrap_or("unknown reason")
}
