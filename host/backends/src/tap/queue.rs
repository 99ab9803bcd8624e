//! One queue of a TAP device. Each frame is a system call: the kernel has no other way here.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, readv, writev};
use tandem_device::{
    Batch, Csum, DeviceError, FRAGS_MAX, Frame, Pool, Queue, RxOffloads, Stats, TransmitOutcome,
    TxOffloads,
};
use tandem_packet::virtio_net_hdr::VIRTIO_NET_HEADER_LEN;
use tandem_packet::{VirtioNetRepr, VirtioNetView};
use tandem_virtio::header;

use super::FRAME_LEN_MAX;
use crate::counters::Counters;

/// Buffers that one received frame may span.
pub(super) const BUFFERS_MAX: usize = FRAGS_MAX + 1;

/// Tokens kept for who does not ask for completions; then the queue counts as full.
const TOKENS_MAX: usize = 4096;

pub(super) struct TapQueue {
    name: Arc<str>,
    fd: OwnedFd,
    pool: Pool,
    tx: TxOffloads,
    rx: RxOffloads,
    /// Bytes of the longest frame that may be sent without segmentation.
    frame_len_max: usize,
    /// How many buffers the longest frame that may arrive takes.
    buffers_needed: usize,
    /// Empty buffers for the next read.
    ready: Vec<Frame>,
    tokens: Vec<u64>,
    gone: Option<String>,
    counters: Counters,
    stats: Stats,
}

impl TapQueue {
    #[allow(clippy::too_many_arguments)] // a constructor of parts that open() made one by one
    pub(super) fn new(
        name: Arc<str>,
        fd: OwnedFd,
        pool: Pool,
        (tx, rx): (TxOffloads, RxOffloads),
        frame_len_max: usize,
        buffers_needed: usize,
        counters: Counters,
    ) -> Self {
        Self {
            name,
            fd,
            pool,
            tx,
            rx,
            frame_len_max,
            buffers_needed,
            ready: Vec::with_capacity(buffers_needed),
            tokens: Vec::with_capacity(64),
            gone: None,
            counters,
            stats: Stats::default(),
        }
    }

    fn check(&self) -> Result<(), DeviceError> {
        match &self.gone {
            None => Ok(()),
            Some(reason) => Err(DeviceError::Gone {
                name: format!("tap {}", self.name),
                reason: reason.clone(),
            }),
        }
    }

    fn lost(&mut self, errno: Errno, what: &str) -> DeviceError {
        self.gone.get_or_insert(format!("{what}: {errno} (was the interface deleted?)"));
        self.check().expect_err("set above")
    }

    /// One frame from the kernel. `Ok(None)` when there is no more, `Ok(Some(None))` when it was dropped.
    fn read_frame(&mut self) -> Result<Option<Option<Frame>>, DeviceError> {
        while self.ready.len() < self.buffers_needed {
            // The pool counts that it was empty. A frame that needs more than there are is cut off
            // by the kernel and dropped here.
            let Ok(frame) = self.pool.alloc() else { break };
            self.ready.push(frame);
        }
        if self.ready.is_empty() {
            return Ok(None);
        }
        let mut header = [0; VIRTIO_NET_HEADER_LEN];
        let mut room = 0;
        let read = {
            let mut parts: arrayvec::ArrayVec<_, { BUFFERS_MAX + 1 }> = arrayvec::ArrayVec::new();
            parts.push(IoSliceMut::new(&mut header));
            for frame in &mut self.ready {
                let tail = frame.tailroom();
                room += tail;
                parts.push(IoSliceMut::new(frame.push_back(tail).expect("all there is")));
            }
            loop {
                match readv(&self.fd, &mut parts) {
                    Err(Errno::INTR) => {}
                    read => break read,
                }
            }
        };
        let len = match read {
            Ok(len) => len,
            Err(errno) => {
                self.ready.iter_mut().for_each(|frame| frame.truncate(0));
                return match errno {
                    Errno::AGAIN => Ok(None),
                    // The kernel dropped the frame itself: it did not know how to describe it.
                    Errno::INVAL => {
                        self.stats.rx_errors += 1;
                        Ok(Some(None))
                    }
                    errno => Err(self.lost(errno, "reading failed")),
                };
            }
        };
        let Some(len) = len.checked_sub(VIRTIO_NET_HEADER_LEN) else {
            self.ready.iter_mut().for_each(|frame| frame.truncate(0));
            self.stats.rx_errors += 1;
            return Ok(Some(None));
        };
        let mut rest = len;
        let mut used = 0;
        for frame in &mut self.ready {
            used += usize::from(rest > 0);
            let here = rest.min(frame.len());
            frame.truncate(here);
            rest -= here;
        }
        let mut taken = self.ready.drain(..used.max(1));
        let mut frame = taken.next().expect("at least one buffer was ready");
        for mut more in taken {
            let len = more.len();
            more.share(0..len, |payload| {
                frame.push_payload(payload).expect("BUFFERS_MAX is what a frame can have");
            });
        }
        // A read that fills all room may have been cut off.
        let cut = len == room && room < FRAME_LEN_MAX;
        let meta = (!cut)
            .then(|| {
                let view = VirtioNetView::new(&header).ok()?;
                let repr = VirtioNetRepr::parse(&view).ok()?;
                header::report(&repr, frame.head(), len, self.rx).ok()
            })
            .flatten();
        let Some(meta) = meta.filter(|_| frame.head().len() >= 14) else {
            self.stats.rx_errors += 1;
            return Ok(Some(None));
        };
        *frame.meta_mut() = meta;
        self.stats.rx_packets += u64::from(meta.wire_frames());
        self.stats.rx_bytes += len as u64;
        self.stats.rx_csum_valid += u64::from(meta.csum == Csum::Valid);
        self.stats.multicast += u64::from(frame.head()[0] & 1);
        Ok(Some(Some(frame)))
    }

    fn request(&self, frame: &Frame) -> Option<VirtioNetRepr> {
        let meta = frame.meta();
        let longest = if meta.gso.is_some() { FRAME_LEN_MAX } else { self.frame_len_max };
        (14..=longest)
            .contains(&frame.len())
            .then(|| header::request(meta, frame.len(), self.tx).ok())
            .flatten()
    }

    fn transmit_batch(&mut self, batch: &mut Batch) -> Result<TransmitOutcome, DeviceError> {
        let mut outcome = TransmitOutcome::default();
        while let Some(frame) = batch.front() {
            if self.tokens.len() >= TOKENS_MAX {
                outcome.full = true;
                break;
            }
            let mut sent = false;
            if let Some(repr) = self.request(frame) {
                let mut header = [0; VIRTIO_NET_HEADER_LEN];
                repr.emit(&mut header);
                let mut parts: arrayvec::ArrayVec<_, { BUFFERS_MAX + 1 }> =
                    arrayvec::ArrayVec::new();
                parts.push(IoSlice::new(&header));
                parts.extend(frame.pieces().map(IoSlice::new));
                let written = loop {
                    match writev(&self.fd, &parts) {
                        Err(Errno::INTR) => {}
                        written => break written,
                    }
                };
                match written {
                    Ok(_) => sent = true,
                    Err(Errno::AGAIN) => {
                        outcome.full = true;
                        break;
                    }
                    // Deleted under us.
                    Err(errno @ (Errno::BADFD | Errno::BADF | Errno::NODEV)) => {
                        return Err(self.lost(errno, "writing failed"));
                    }
                    // Link down (EIO), no memory, or the kernel finds the frame malformed.
                    Err(errno) => {
                        tracing::debug!(tap = %self.name, %errno, "frame dropped");
                    }
                }
            }
            if sent {
                self.stats.tx_packets += u64::from(frame.meta().wire_frames());
                self.stats.tx_bytes += frame.len() as u64;
                let partial = matches!(frame.meta().csum, Csum::Partial { .. });
                self.stats.tx_csum += u64::from(partial);
                self.stats.doorbells += 1;
            } else {
                self.stats.tx_errors += 1;
                self.stats.tx_dropped += 1;
            }
            // The kernel has copied it.
            self.tokens.extend(frame.meta().token);
            batch.pop_front();
            outcome.taken += 1;
        }
        Ok(outcome)
    }
}

impl Queue for TapQueue {
    fn receive(&mut self, budget: usize, batch: &mut Batch) -> Result<usize, DeviceError> {
        self.check()?;
        let mut count = 0;
        // Dropped frames count against the budget too, so that a flood of them cannot keep us here.
        for _ in 0..budget {
            match self.read_frame() {
                Ok(None) => break,
                Ok(Some(None)) => {}
                Ok(Some(Some(frame))) => {
                    batch.push_back(frame);
                    count += 1;
                }
                Err(error) if count == 0 => return Err(error),
                Err(_) => break,
            }
        }
        self.counters.publish(&self.stats);
        Ok(count)
    }

    fn transmit(&mut self, batch: &mut Batch) -> Result<TransmitOutcome, DeviceError> {
        self.check()?;
        let result = self.transmit_batch(batch);
        self.counters.publish(&self.stats);
        result
    }

    fn completed(&mut self, tokens: &mut Vec<u64>) -> Result<(), DeviceError> {
        tokens.append(&mut self.tokens);
        self.check()
    }

    fn in_flight(&self) -> usize {
        0
    }

    fn arm(&mut self) -> Result<bool, DeviceError> {
        self.check()?;
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
        match poll(&mut fds, Some(&now)) {
            // An error is work too: the next receive tells what it is.
            Ok(ready) => Ok(ready == 0 && self.tokens.is_empty()),
            Err(Errno::INTR) => Ok(false),
            Err(errno) => Err(self.lost(errno, "polling failed")),
        }
    }

    fn wait_handle(&self) -> Option<BorrowedFd<'_>> {
        Some(self.fd.as_fd())
    }

    fn stats(&self) -> Stats {
        self.stats
    }
}
