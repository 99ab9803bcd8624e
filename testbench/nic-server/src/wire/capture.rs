//! Writes what passes over a wire to a pcapng file.

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::{Duration, SystemTime};

use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::{DataLink, PcapError};
use tandem_contract::nic::{Arrival, Cycle, WirePort};

use super::{Wire, WireCounters};

/// Nanoseconds of a cycle.
const NS_PER_CYCLE: u64 = 4;
/// Direction in the flags of a packet, as the NIC sees it.
const INBOUND: u32 = 1;
const OUTBOUND: u32 = 2;

/// A wire whose frames are written down, both directions, with the cycle in each packet's comment. The time of a
/// packet is the moment at which the file was opened plus the NIC's own time.
pub struct Capture {
    wire: Box<dyn Wire>,
    writer: PcapNgWriter<BufWriter<File>>,
    opened: Duration,
    /// The first failure to write; nothing is written after it.
    failure: Option<std::io::Error>,
}

impl Capture {
    /// Writes the frames of `wire` to a new file at `path`.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn create(path: &Path, wire: Box<dyn Wire>) -> std::io::Result<Self> {
        let file = BufWriter::new(File::create(path)?);
        let mut writer = PcapNgWriter::new(file).map_err(io_error)?;
        // The writer counts in nanoseconds whatever this says, so it must say nanoseconds.
        let options = vec![
            InterfaceDescriptionOption::IfName(Cow::Borrowed("tandem-mac")),
            InterfaceDescriptionOption::IfTsResol(9),
        ];
        let interface =
            InterfaceDescriptionBlock { linktype: DataLink::ETHERNET, snaplen: 0, options };
        writer.write_pcapng_block(interface).map_err(io_error)?;
        let opened = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Ok(Self { wire, writer, opened, failure: None })
    }

    fn record(&mut self, cycle: Cycle, frame: &[u8], direction: u32) {
        if self.failure.is_some() {
            return;
        }
        let packet = EnhancedPacketBlock {
            interface_id: 0,
            timestamp: self.opened + Duration::from_nanos(cycle.saturating_mul(NS_PER_CYCLE)),
            original_len: frame.len() as u32,
            data: Cow::Borrowed(frame),
            options: vec![
                EnhancedPacketOption::Flags(direction),
                EnhancedPacketOption::Comment(Cow::Owned(format!("cycle {cycle}"))),
            ],
        };
        if let Err(error) = self.writer.write_pcapng_block(packet) {
            tracing::error!(%error, "the capture file cannot be written any more");
            self.failure = Some(io_error(error));
        }
    }
}

fn io_error(error: PcapError) -> std::io::Error {
    match error {
        PcapError::IoError(error) => error,
        other => std::io::Error::other(other.to_string()),
    }
}

impl WirePort for Capture {
    fn arriving(&mut self, cycle: Cycle, frame: &mut Vec<u8>) -> Option<Arrival> {
        let arrival = self.wire.as_wire_port().arriving(cycle, frame)?;
        self.record(cycle, frame, INBOUND);
        Some(arrival)
    }

    fn next_arrival_at(&self) -> Option<Cycle> {
        self.wire.next_arrival_at()
    }

    fn ready(&mut self, cycle: Cycle) -> bool {
        self.wire.as_wire_port().ready(cycle)
    }

    fn departed(&mut self, cycle: Cycle, frame: &[u8]) {
        self.record(cycle, frame, OUTBOUND);
        self.wire.as_wire_port().departed(cycle, frame);
    }
}

impl Wire for Capture {
    fn as_wire_port(&mut self) -> &mut dyn WirePort {
        self
    }

    fn next_arrival_at(&self) -> Option<Cycle> {
        self.wire.next_arrival_at()
    }

    fn poll(&mut self, now: Cycle) {
        self.wire.poll(now);
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.wire.fd()
    }

    fn driver_ready(&mut self) {
        self.wire.driver_ready();
    }

    fn driver_gone(&mut self) {
        self.wire.driver_gone();
        // Whoever looks now finds whole packets.
        let _ = self.writer.get_mut().flush();
    }

    fn finish(&mut self) -> std::io::Result<()> {
        self.wire.finish()?;
        match self.failure.take() {
            Some(error) => Err(error),
            None => self.writer.get_mut().flush(),
        }
    }

    fn counters(&self) -> WireCounters {
        self.wire.counters()
    }
}
