//! Capture files as a device: frames are received from one file and transmitted into another.
//!
//! The reading side replays as fast as it is polled and then falls silent; [`Pcap::exhausted`] tells.
//! Written files have nanosecond timestamps, from the frame's metadata where it has one, else from the
//! system's clock.

use std::fs::File;
use std::io::BufWriter;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pcap_file::pcap::{PcapHeader, PcapPacket, PcapReader, PcapWriter};
use pcap_file::{DataLink, PcapError, TsResolution};
use tandem_device::{
    Batch, Caps, Device, DeviceError, DeviceFlags, DeviceInfo, OperState, Pool, Queue, QueueLens,
    ReceiveMode, Stats, TransmitOutcome,
};
use tandem_packet::MacAddr;
use thiserror::Error;

use crate::counters::Counters;

/// Longest frame that is written; what pcap tools take without asking.
pub const SNAP_LEN: u32 = 262_144;

/// Why a capture cannot be used.
#[derive(Debug, Error)]
pub enum CaptureError {
    /// The file cannot be opened or made.
    #[error("cannot open {}", path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// It is no pcap file (pcapng is not read), or writing its head failed.
    #[error("{} is not a usable pcap file", path.display())]
    Format {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: PcapError,
    },
    /// Its frames are not Ethernet.
    #[error("{} has link type {link:?}, not Ethernet", path.display())]
    LinkType {
        /// Which.
        path: PathBuf,
        /// Its link type.
        link: DataLink,
    },
}

/// A device over capture files.
pub struct Pcap {
    info: DeviceInfo,
    queue: Option<PcapQueue>,
    exhausted: Arc<AtomicBool>,
    counters: Counters,
}

impl Pcap {
    /// Receives from `input` and transmits into `output` (made or overwritten), each where given. Frames
    /// sent without an output are dropped and counted.
    ///
    /// # Errors
    /// See [`CaptureError`].
    pub fn open_files(
        input: Option<&Path>,
        output: Option<&Path>,
        mac: MacAddr,
        mtu: u32,
        pool: Pool,
    ) -> Result<Self, CaptureError> {
        let reader = input.map(open_reader).transpose()?;
        let writer = output.map(open_writer).transpose()?;
        let names: Vec<_> =
            [input, output].into_iter().flatten().map(|path| path.display().to_string()).collect();
        let exhausted = Arc::new(AtomicBool::new(reader.is_none()));
        let counters = Counters::default();
        let name = format!("pcap {}", names.join(" > "));
        Ok(Self {
            info: DeviceInfo {
                name: name.clone(),
                mac,
                mtu,
                flags: DeviceFlags::BROADCAST | DeviceFlags::MULTICAST,
                speed_mbit_s: None,
                queues: 1,
            },
            queue: Some(PcapQueue {
                name,
                reader,
                writer,
                pool,
                exhausted: exhausted.clone(),
                tokens: Vec::new(),
                bytes: Vec::with_capacity(2048),
                counters: counters.clone(),
                stats: Stats::default(),
            }),
            exhausted,
            counters,
        })
    }

    /// Whether all of the input was received.
    pub fn exhausted(&self) -> bool {
        self.exhausted.load(Ordering::Acquire)
    }

    fn unsupported(&self, what: &'static str) -> DeviceError {
        DeviceError::Unsupported { name: self.info.name.clone(), what }
    }
}

fn open_reader(path: &Path) -> Result<PcapReader<File>, CaptureError> {
    let open = |source| CaptureError::Open { path: path.into(), source };
    let format = |source| CaptureError::Format { path: path.into(), source };
    let reader = PcapReader::new(File::open(path).map_err(open)?).map_err(format)?;
    match reader.header().datalink {
        DataLink::ETHERNET => Ok(reader),
        link => Err(CaptureError::LinkType { path: path.into(), link }),
    }
}

fn open_writer(path: &Path) -> Result<PcapWriter<BufWriter<File>>, CaptureError> {
    let file =
        File::create(path).map_err(|source| CaptureError::Open { path: path.into(), source })?;
    let header = PcapHeader {
        snaplen: SNAP_LEN,
        datalink: DataLink::ETHERNET,
        ts_resolution: TsResolution::NanoSecond,
        ..PcapHeader::default()
    };
    PcapWriter::with_header(BufWriter::new(file), header)
        .map_err(|source| CaptureError::Format { path: path.into(), source })
}

impl Device for Pcap {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn caps(&self) -> Caps {
        Caps::plain(self.info.mtu)
    }

    fn oper_state(&mut self) -> OperState {
        if self.info.flags.contains(DeviceFlags::UP) { OperState::Up } else { OperState::Down }
    }

    fn open(&mut self) -> Result<(), DeviceError> {
        self.info.flags |= DeviceFlags::UP;
        Ok(())
    }

    fn close(&mut self) -> Result<(), DeviceError> {
        self.info.flags -= DeviceFlags::UP;
        Ok(())
    }

    /// There is one queue, for the life of the device: a file is read and written once.
    fn take_queue(&mut self, index: u16) -> Result<Box<dyn Queue>, DeviceError> {
        let up = self.info.flags.contains(DeviceFlags::UP);
        match self.queue.take_if(|_| up && index == 0) {
            Some(queue) => Ok(Box::new(queue)),
            None => Err(DeviceError::NoQueue { name: self.info.name.clone(), index }),
        }
    }

    fn set_mac(&mut self, mac: MacAddr) -> Result<(), DeviceError> {
        self.info.mac = mac;
        Ok(())
    }

    fn set_receive_mode(&mut self, _: ReceiveMode) -> Result<(), DeviceError> {
        Ok(())
    }

    fn set_mtu(&mut self, mtu: u32) -> Result<(), DeviceError> {
        if !(68..=65_535).contains(&mtu) {
            let (min, max) = (68, 65_535);
            return Err(DeviceError::OutOfRange { what: "MTU", value: mtu.into(), min, max });
        }
        self.info.mtu = mtu;
        Ok(())
    }

    fn queue_lens(&self) -> QueueLens {
        QueueLens { rx: 1, tx: 1 }
    }

    fn set_queue_lens(&mut self, _: QueueLens) -> Result<(), DeviceError> {
        Err(self.unsupported("setting queue lengths"))
    }

    fn stats(&self) -> Stats {
        self.counters.snapshot()
    }
}

struct PcapQueue {
    name: String,
    reader: Option<PcapReader<File>>,
    writer: Option<PcapWriter<BufWriter<File>>>,
    pool: Pool,
    exhausted: Arc<AtomicBool>,
    tokens: Vec<u64>,
    bytes: Vec<u8>,
    counters: Counters,
    stats: Stats,
}

fn failed(what: String, error: PcapError) -> DeviceError {
    let source = match error {
        PcapError::IoError(error) => error,
        error => std::io::Error::other(error),
    };
    DeviceError::Io { what, source }
}

impl Queue for PcapQueue {
    /// An error of the file ends the input; it is told once.
    fn receive(&mut self, budget: usize, batch: &mut Batch) -> Result<usize, DeviceError> {
        let mut count = 0;
        let mut result = Ok(());
        for _ in 0..budget {
            let Some(reader) = &mut self.reader else { break };
            // Only when a buffer is there, so that no frame is lost.
            let Ok(mut frame) = self.pool.alloc() else { break };
            match reader.next_packet() {
                Some(Ok(packet)) => {
                    let cut = packet.orig_len as usize != packet.data.len();
                    if cut || packet.data.len() < 14 || frame.append(&packet.data).is_err() {
                        self.stats.rx_dropped += 1;
                        continue;
                    }
                    self.stats.rx_packets += 1;
                    self.stats.rx_bytes += packet.data.len() as u64;
                    self.stats.multicast += u64::from(packet.data[0] & 1);
                    let ns = u64::try_from(packet.timestamp.as_nanos()).ok();
                    frame.meta_mut().timestamp_ns = ns;
                    batch.push_back(frame);
                    count += 1;
                }
                Some(Err(error)) => {
                    self.reader = None;
                    result = Err(failed(format!("reading {}", self.name), error));
                }
                None => self.reader = None,
            }
        }
        self.exhausted.store(self.reader.is_none(), Ordering::Release);
        self.counters.publish(&self.stats);
        result.map(|()| count)
    }

    fn transmit(&mut self, batch: &mut Batch) -> Result<TransmitOutcome, DeviceError> {
        let mut outcome = TransmitOutcome::default();
        while let Some(frame) = batch.pop_front() {
            outcome.taken += 1;
            let meta = *frame.meta();
            self.tokens.extend(meta.token);
            let plain = meta.gso.is_none() && meta.vlan.is_none();
            let complete = !matches!(meta.csum, tandem_device::Csum::Partial { .. });
            let fits = frame.len() <= SNAP_LEN as usize;
            let (Some(writer), true) = (&mut self.writer, plain && complete && fits) else {
                self.stats.tx_dropped += 1;
                continue;
            };
            self.bytes.resize(frame.len(), 0);
            frame.copy_to(0, &mut self.bytes);
            let time = meta.timestamp_ns.map_or_else(
                || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
                Duration::from_nanos,
            );
            let packet = PcapPacket::new(time, self.bytes.len() as u32, &self.bytes);
            writer
                .write_packet(&packet)
                .map_err(|error| failed(format!("writing {}", self.name), error))?;
            self.stats.tx_packets += 1;
            self.stats.tx_bytes += self.bytes.len() as u64;
        }
        self.counters.publish(&self.stats);
        Ok(outcome)
    }

    fn completed(&mut self, tokens: &mut Vec<u64>) -> Result<(), DeviceError> {
        tokens.append(&mut self.tokens);
        Ok(())
    }

    fn in_flight(&self) -> usize {
        0
    }

    fn arm(&mut self) -> Result<bool, DeviceError> {
        Ok(self.reader.is_none() && self.tokens.is_empty())
    }

    fn wait_handle(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn stats(&self) -> Stats {
        self.stats
    }
}

#[cfg(test)]
mod tests;
