//! The calls of the application (RFC 9293 section 3.10.1 to 3.10.6) and of the network's management.

use tandem_device::{Frame, Payload, Pool};

use super::config::{BUFFER_BYTES_MAX, BUFFER_BYTES_MIN};
use super::state::Event;
use super::{
    Changes, Connection, ConnectionError, ReadError, Readiness, ResetOwed, State, WriteError,
};
use crate::time::Instant;

impl Connection {
    /// What can be done without waiting.
    pub fn readiness(&self) -> Readiness {
        let mut readiness = Readiness::empty();
        let read_closed = self.read_is_closed();
        readiness.set(Readiness::READ_CLOSED, read_closed);
        readiness.set(Readiness::READABLE, self.receive.len() > 0 || read_closed);
        readiness.set(Readiness::WRITE_CLOSED, self.write_shut || self.state == State::Closed);
        let can_write = match self.state {
            State::SynSent | State::SynReceived => false,
            State::Established | State::CloseWait => self.write_shut || self.send_room() > 0,
            _ => true,
        };
        readiness.set(Readiness::WRITABLE, can_write);
        readiness.set(Readiness::CLOSED, self.state == State::Closed);
        readiness.set(Readiness::ERROR, self.error.is_some());
        readiness
    }

    /// The peer's FIN is in sequence, or there will be none.
    fn read_is_closed(&self) -> bool {
        matches!(
            self.state,
            State::CloseWait | State::Closing | State::LastAck | State::TimeWait | State::Closed
        )
    }

    /// Bytes that a write would take now.
    pub fn send_room(&self) -> usize {
        if self.send.pieces() >= self.config.send_pieces_max.max(1) as usize {
            return 0;
        }
        self.config.send_limit().saturating_sub(self.send.len())
    }

    /// Bytes to be read now.
    pub fn readable_bytes(&self) -> usize {
        self.receive.len()
    }

    fn can_write(&mut self) -> Result<usize, WriteError> {
        if let Some(error) = self.error {
            return Err(error.into());
        }
        // RFC 9293 section 3.10.2: in the closing states the connection is closing.
        if self.write_shut || self.state == State::Closed {
            return Err(WriteError::Closed);
        }
        match self.send_room() {
            0 => {
                self.stats.send_buffer_full += 1;
                self.write_blocked = true;
                Err(WriteError::WouldBlock)
            }
            room => Ok(room),
        }
    }

    /// SEND by copy: the one copy of the way out, into buffers of `pool`. Returns how many bytes were taken.
    /// Before the handshake is over they are queued.
    ///
    /// # Errors
    /// See [`WriteError`]; nothing was taken then. Writing no bytes is no error while writing is possible.
    pub fn write(&mut self, pool: &Pool, bytes: &[u8]) -> Result<usize, WriteError> {
        if bytes.is_empty() {
            return self.can_write().map(|_| 0);
        }
        let room = self.can_write()?;
        let taken = self.send.write(pool, &bytes[..bytes.len().min(room)])?;
        if taken < bytes.len() {
            self.write_blocked = true;
        }
        Ok(taken)
    }

    /// SEND by reference, all or nothing. When the peer has acknowledged its last byte, or the connection
    /// has ended, [`Self::pop_completed`] returns `token`; a device may still hold a copy's reference then.
    ///
    /// # Errors
    /// The payload comes back with the reason. [`WriteError::WouldBlock`] when it does not fit now;
    /// one that is larger than the whole send buffer is taken when the buffer is empty.
    pub fn write_payload(
        &mut self,
        payload: Payload,
        token: Option<u64>,
    ) -> Result<(), (WriteError, Payload)> {
        match self.can_write() {
            Ok(room) if payload.len() <= room || self.send.len() == 0 => {
                self.send.write_payload(payload, token);
                Ok(())
            }
            Ok(_) => {
                self.stats.send_buffer_full += 1;
                self.write_blocked = true;
                Err((WriteError::WouldBlock, payload))
            }
            Err(error) => Err((error, payload)),
        }
    }

    /// A token of [`Self::write_payload`] whose data is done with.
    pub fn pop_completed(&mut self) -> Option<u64> {
        self.send.completed()
    }

    /// Why there is nothing to read; `Ok` for the end of the stream.
    fn nothing_to_read(&self) -> Result<(), ReadError> {
        if let Some(error) = self.error {
            return Err(error.into());
        }
        if self.read_is_closed() { Ok(()) } else { Err(ReadError::WouldBlock) }
    }

    /// RECEIVE by copy: the one copy of the way in. Returns how many bytes, 0 at the end of the stream (or
    /// when `out` is empty).
    ///
    /// # Errors
    /// See [`ReadError`]. What came before a failure is read first.
    pub fn read(&mut self, out: &mut [u8]) -> Result<usize, ReadError> {
        if out.is_empty() {
            return Ok(0);
        }
        match self.receive.read(out) {
            0 => self.nothing_to_read().map(|()| 0),
            len => {
                self.after_read();
                Ok(len)
            }
        }
    }

    /// RECEIVE by borrowing: the first bytes as they lie in the frame they came in, not all that there is.
    /// Empty when there is nothing. [`Self::consume`] drops them.
    pub fn read_payload(&self) -> &[u8] {
        self.receive.peek()
    }

    /// Drops bytes that were read by [`Self::read_payload`].
    ///
    /// # Panics
    /// When there are fewer.
    pub fn consume(&mut self, len: usize) {
        assert!(len <= self.receive.len(), "{len} of {} bytes consumed", self.receive.len());
        self.receive.consume(len);
        self.after_read();
    }

    /// RECEIVE by moving: the first frame, which holds nothing but payload. `None` at the end of the
    /// stream.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn read_frame(&mut self) -> Result<Option<Frame>, ReadError> {
        match self.receive.pop() {
            Some(frame) => {
                self.after_read();
                Ok(Some(frame))
            }
            None => self.nothing_to_read().map(|()| None),
        }
    }

    /// Says that there is room again, when it is worth a segment (RFC 9293 section 3.8.6.2.2).
    fn after_read(&mut self) {
        if !self.state.receives() {
            return;
        }
        let limit = self.receive_limit();
        let gain = self.offerable_window().saturating_sub(self.receive_window());
        let worth = (limit / 2).min((2 * self.rcv.mss).max(limit / 4));
        if gain >= worth {
            self.acks_owed = self.acks_owed.max(1);
        }
    }

    /// The application will send no more (half-close): a FIN follows what is queued. Reading goes on.
    /// Does nothing when that was said before.
    pub fn shutdown_write(&mut self, now: Instant) -> Changes {
        if self.write_shut || self.state == State::Closed {
            return Changes::empty();
        }
        self.write_shut = true;
        // In SYN-SENT and SYN-RECEIVED this waits for ESTABLISHED (RFC 9293 section 3.10.4).
        self.advance(now, Event::Close)
    }

    /// CLOSE (RFC 9293 section 3.10.4): what is queued is still delivered, with a FIN behind it; nothing
    /// is read any more. With unread data, or when more arrives, the peer is reset, so that it learns
    /// of the loss (RFC 9293 section 3.6.1, MUST-17 in RFC 1122 section 4.2.2.13).
    pub fn close(&mut self, now: Instant) -> Changes {
        match self.state {
            State::Closed => return Changes::empty(),
            // SYN-SENT: delete the TCB.
            State::SynSent => {
                self.closed_by_owner = true;
                return self.fail(now, ConnectionError::Aborted);
            }
            _ => {}
        }
        self.closed_by_owner = true;
        if self.receive.len() > 0 {
            return self.abort(now);
        }
        let changes = self.shutdown_write(now);
        self.start_fin_wait_2(now);
        changes
    }

    /// ABORT (RFC 9293 section 3.10.5): everything queued is dropped and the peer reset.
    pub fn abort(&mut self, now: Instant) -> Changes {
        match self.state {
            State::Closed => return Changes::empty(),
            // <SEQ=SND.NXT><CTL=RST>; with an acknowledgement, which every receiver accepts too.
            State::SynReceived
            | State::Established
            | State::FinWait1
            | State::FinWait2
            | State::CloseWait => {
                let ack = Some(self.rcv.nxt);
                self.reset_owed = Some(ResetOwed { seq: self.snd.max, ack });
            }
            State::SynSent | State::Closing | State::LastAck | State::TimeWait => {}
        }
        self.receive.clear();
        self.fail(now, ConnectionError::Aborted)
    }

    /// The owner gives up waiting for a closed connection, or the device of a dead one: forgets everything
    /// without a word to the peer.
    pub fn forget(&mut self, now: Instant) -> Changes {
        self.receive.clear();
        self.reset_owed = None;
        self.fail(now, ConnectionError::Aborted)
    }

    /// The network says that the peer cannot be reached. In SYN-SENT that ends the attempt when `hard`
    /// (RFC 5461 section 4); elsewhere it is remembered for the time-out (RFC 9293 section 3.9.2.2).
    /// Its caller has checked [`Self::is_in_flight`].
    pub fn unreachable(&mut self, now: Instant, hard: bool) -> Changes {
        if hard && self.state == State::SynSent {
            return self.fail(now, ConnectionError::Unreachable);
        }
        self.soft_error = Some(ConnectionError::Unreachable);
        Changes::empty()
    }

    /// The path has another MTU: a route changed, or a packet was too big (RFC 1191, RFC 8201). Whatever is in
    /// flight and too big now is sent again at once, without the meaning of congestion (RFC 9293 section
    /// 3.9.2.2; RFC 8899 section 3). Values below [`super::Family::mtu_min`] count as that.
    pub fn path_changed(&mut self, _now: Instant, mtu: u32) {
        let before = self.mss();
        self.path.mtu = mtu;
        let mss = self.mss();
        if !self.state.is_synchronized() {
            return;
        }
        self.congestion.mss_changed(u32::from(mss));
        if mss < before && self.snd.nxt.gt(self.snd.una) {
            self.snd.nxt = self.snd.una;
            self.timed = None;
            self.recovery.timed_out(self.snd.max);
        }
    }

    /// Switches the Nagle algorithm off or on (RFC 9293 section 3.7.4, MUST-17).
    pub fn set_nodelay(&mut self, nodelay: bool) {
        self.config.nodelay = nodelay;
    }

    /// Sets how long sent data may stay unacknowledged (RFC 9293 section 3.8.3; R2).
    pub fn set_user_timeout(&mut self, timeout: core::time::Duration) {
        self.config.user_timeout = timeout;
    }

    /// Sets the send buffer's limit in bytes. Falling below what is queued only refuses more.
    pub fn set_send_buffer(&mut self, bytes_max: u32) {
        self.config.send_buffer_bytes_max = bytes_max.clamp(BUFFER_BYTES_MIN, BUFFER_BYTES_MAX);
    }

    /// Sets the receive buffer's limit in bytes. The window scale was fixed by the SYN: beyond 65,535 times
    /// two to its power the limit has no effect. A window once offered is never taken back (RFC 9293
    /// section 3.8.6, SHLD-14).
    pub fn set_receive_buffer(&mut self, bytes_max: u32) {
        self.config.receive_buffer_bytes_max = bytes_max.clamp(BUFFER_BYTES_MIN, BUFFER_BYTES_MAX);
    }
}
