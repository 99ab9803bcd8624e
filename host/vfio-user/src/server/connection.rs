//! One client: its socket, its memory, its interrupts.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use zerocopy::IntoBytes;

use super::{Counters, ServerConfig};
use crate::dma::{DmaError, DmaTable, Piece};
use crate::irq::{IrqTable, Triggered};
use crate::message::{Capabilities, Command, DmaAccess, DmaFlags, Header, HeaderFlags, Kind, head};
use crate::socket::{Channel, Received, SharedFds, SocketError};

/// Room in a message for everything but the data of a transfer.
pub(crate) const MESSAGE_OVERHEAD_BYTES: usize = 8192;

/// Most bytes of commands that are kept while an answer to a DMA message is awaited, in largest messages.
const QUEUED_MESSAGES_MAX: usize = 4;

/// Why a client is dropped.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientFault {
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error("protocol version {0}.{1} is not spoken here")]
    Version(u16, u16),
    #[error("too many commands while an answer to a DMA message is awaited")]
    Flood,
}

impl ClientFault {
    /// The client went by its own will.
    pub(super) fn is_departure(&self) -> bool {
        matches!(self, Self::Socket(SocketError::Closed { mid_message: false }))
    }
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) channel: Channel,
    pub(super) dma: DmaTable,
    pub(super) irqs: IrqTable,
    /// What the client can take; `None` before `VERSION`.
    pub(super) peer: Option<Capabilities>,
    /// Set when the connection is to end once everything is sent.
    pub(super) closing: Option<ClientFault>,
    /// Commands that came while an answer to a DMA message was awaited.
    queue: VecDeque<Received>,
    queued_bytes: usize,
    queued_commands_max: usize,
    message_bytes_max: usize,
    data_xfer_bytes_max: usize,
    dma_timeout: Duration,
    next_id: u16,
    /// The client has once not answered a DMA message in time; it is not asked again.
    dma_messages_dead: bool,
}

impl Connection {
    pub(super) fn new(stream: UnixStream, config: &ServerConfig) -> Self {
        let message_bytes_max = MESSAGE_OVERHEAD_BYTES + config.limits.data_xfer_bytes_max as usize;
        Self {
            channel: Channel::new(stream, message_bytes_max),
            dma: DmaTable::default(),
            irqs: IrqTable::new(&config.irqs),
            peer: None,
            closing: None,
            queue: VecDeque::new(),
            queued_bytes: 0,
            queued_commands_max: config.limits.queued_commands_max,
            message_bytes_max,
            data_xfer_bytes_max: config.limits.data_xfer_bytes_max as usize,
            dma_timeout: config.limits.dma_timeout,
            next_id: 0,
            dma_messages_dead: false,
        }
    }

    pub(super) fn negotiated(&self) -> bool {
        self.peer.is_some()
    }

    pub(super) fn wants_write(&self) -> bool {
        self.channel.wants_write()
    }

    pub(super) fn has_work(&self) -> bool {
        self.closing.is_some() || (!self.queue.is_empty() && !self.wants_write())
    }

    /// The next command, from the queue or the socket.
    pub(super) fn next_command(
        &mut self,
        counters: &mut Counters,
    ) -> Result<Option<Received>, SocketError> {
        if let Some(command) = self.queue.pop_front() {
            self.queued_bytes -= command.body.len();
            return Ok(Some(command));
        }
        while let Some(message) = self.channel.try_receive()? {
            if message.header.kind() == Some(Kind::Command) {
                return Ok(Some(message));
            }
            // Nothing is awaited here: a late answer, or one to a question that was never asked.
            counters.stray_replies += 1;
            self.channel.recycle(message.body);
        }
        Ok(None)
    }

    /// Sends a DMA message and waits for its answer, which `reply` takes apart.
    fn exchange(
        &mut self,
        command: Command,
        parts: &[&[u8]],
        counters: &mut Counters,
    ) -> Result<Received, ClientFault> {
        let deadline = Instant::now() + self.dma_timeout;
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        self.channel.queue(Header::command(id, command), parts, SharedFds::new())?;
        loop {
            self.channel.flush()?;
            while let Some(message) = self.channel.try_receive()? {
                let header = message.header;
                if header.kind() == Some(Kind::Command) {
                    self.keep(message)?;
                } else if header.id == id && header.command == command as u16 {
                    return Ok(message);
                } else {
                    counters.stray_replies += 1;
                    self.channel.recycle(message.body);
                }
            }
            self.channel.wait(deadline)?;
        }
    }

    fn keep(&mut self, command: Received) -> Result<(), ClientFault> {
        self.queued_bytes += command.body.len();
        let bytes_max = QUEUED_MESSAGES_MAX * self.message_bytes_max;
        if self.queue.len() >= self.queued_commands_max || self.queued_bytes > bytes_max {
            return Err(ClientFault::Flood);
        }
        self.queue.push_back(command);
        Ok(())
    }

    /// As [`exchange`](Self::exchange), with the failures of a client turned into those of a DMA access. What
    /// cannot be survived is remembered in `closing`.
    fn dma_exchange(
        &mut self,
        command: Command,
        access: DmaAccess,
        data: &[u8],
        counters: &mut Counters,
    ) -> Result<Received, DmaError> {
        if self.closing.is_some() {
            return Err(DmaError::Gone);
        }
        if self.dma_messages_dead {
            return Err(DmaError::NoAnswer);
        }
        let reply = match self.exchange(command, &[access.as_bytes(), data], counters) {
            Ok(reply) => reply,
            Err(ClientFault::Socket(SocketError::TimedOut)) => {
                self.dma_messages_dead = true;
                return Err(DmaError::NoAnswer);
            }
            Err(fault) => {
                self.closing = Some(fault);
                return Err(DmaError::Gone);
            }
        };
        let address = access.address;
        if reply.header.flag_bits().contains(HeaderFlags::ERROR) {
            return Err(DmaError::Refused { address, errno: reply.header.error as i32 });
        }
        // The count is 8 bytes in a read's reply; in a write's the specification says 4 and others send 8.
        let echoed = head::<[u32; 3]>(command, &reply.body).map(|(words, _)| words);
        let wanted = [address as u32, (address >> 32) as u32, access.count as u32];
        let (low, high) = if cfg!(target_endian = "little") { (0, 1) } else { (1, 0) };
        if reply.defect.is_some()
            || !echoed.is_ok_and(|got| [got[low], got[high], got[2]] == wanted)
        {
            return Err(DmaError::Refused { address, errno: 0 });
        }
        counters.dma_message_bytes += access.count;
        Ok(reply)
    }

    fn data_bytes_max(&self) -> usize {
        let peer = self.peer.map_or(usize::MAX, |peer| peer.data_xfer_bytes_max());
        self.data_xfer_bytes_max.min(peer)
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

/// The client's memory and interrupts, as the device sees them.
#[derive(Debug)]
pub struct Host<'a> {
    connection: &'a mut Connection,
    counters: &'a mut Counters,
}

impl<'a> Host<'a> {
    pub(super) fn new(connection: &'a mut Connection, counters: &'a mut Counters) -> Self {
        Self { connection, counters }
    }

    /// Reads the client's memory. The access may span mapped ranges; nothing is read unless all of it is
    /// mapped for reading.
    ///
    /// # Errors
    /// [`DmaError`]. Where messages are needed, an earlier part of `data` may have been filled.
    pub fn dma_read(&mut self, address: u64, data: &mut [u8]) -> Result<(), DmaError> {
        let outcome = self.read_pieces(address, data);
        self.counters.dma_errors += u64::from(outcome.is_err());
        outcome
    }

    fn read_pieces(&mut self, address: u64, data: &mut [u8]) -> Result<(), DmaError> {
        self.connection.dma.check(address, data.len(), DmaFlags::READ)?;
        let mut done = 0;
        while done < data.len() {
            let at = address + done as u64;
            done += match self.connection.dma.read_piece(at, &mut data[done..])? {
                Piece::Done(len) => len,
                Piece::Messages(len) => {
                    let len = len.min(self.connection.data_bytes_max());
                    let access = DmaAccess { address: at, count: len as u64 };
                    let reply = self.connection.dma_exchange(
                        Command::DmaRead,
                        access,
                        &[],
                        self.counters,
                    )?;
                    let bytes =
                        reply.body.get(size_of::<DmaAccess>()..).filter(|bytes| bytes.len() == len);
                    let bytes = bytes.ok_or(DmaError::Refused { address: at, errno: 0 })?;
                    data[done..done + len].copy_from_slice(bytes);
                    self.connection.channel.recycle(reply.body);
                    len
                }
            };
        }
        Ok(())
    }

    /// Writes the client's memory, under the same rules.
    ///
    /// # Errors
    /// [`DmaError`]. Where messages are needed, an earlier part may have been written.
    pub fn dma_write(&mut self, address: u64, data: &[u8]) -> Result<(), DmaError> {
        let outcome = self.write_pieces(address, data);
        self.counters.dma_errors += u64::from(outcome.is_err());
        outcome
    }

    fn write_pieces(&mut self, address: u64, data: &[u8]) -> Result<(), DmaError> {
        self.connection.dma.check(address, data.len(), DmaFlags::WRITE)?;
        let mut done = 0;
        while done < data.len() {
            let at = address + done as u64;
            done += match self.connection.dma.write_piece(at, &data[done..])? {
                Piece::Done(len) => len,
                Piece::Messages(len) => {
                    let len = len.min(self.connection.data_bytes_max());
                    let access = DmaAccess { address: at, count: len as u64 };
                    let bytes = &data[done..done + len];
                    let reply = self.connection.dma_exchange(
                        Command::DmaWrite,
                        access,
                        bytes,
                        self.counters,
                    )?;
                    self.connection.channel.recycle(reply.body);
                    len
                }
            };
        }
        Ok(())
    }

    /// Raises an interrupt.
    pub fn trigger(&mut self, index: u32, vector: u32) -> Triggered {
        let outcome = self.connection.irqs.trigger(index, vector);
        self.counters.irqs_unarmed += u64::from(outcome == Triggered::Unarmed);
        outcome
    }

    /// The mapped ranges.
    pub fn dma_table(&self) -> &DmaTable {
        &self.connection.dma
    }
}
