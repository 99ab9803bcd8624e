//! Tests of the whole connection: scripts of segments, two connections over a virtual link, arbitrary
//! segments, and smoltcp as a peer that shares no code with us.

mod arbitrary;
mod link;
mod script;
mod scripts_closing;
mod scripts_data;
mod scripts_open;
mod smoltcp_peer;
mod transfer;

use tandem_device::{Frame, Pool, PoolConfig};

use super::*;

/// A pool of frames that also serves for payload.
fn pool(buffers: u32) -> Pool {
    Pool::new(PoolConfig::frames(buffers)).unwrap()
}

/// A frame that holds nothing but payload, in as many pieces as it takes.
fn frame(pool: &Pool, bytes: &[u8]) -> Frame {
    let mut frame = pool.alloc().unwrap();
    if bytes.len() <= frame.tailroom() {
        frame.append(bytes).unwrap();
        return frame;
    }
    let mut rest = bytes;
    while !rest.is_empty() {
        let mut filler = pool.filler().unwrap();
        let len = filler.write(rest);
        frame.push_payload(filler.payload(0..len)).unwrap();
        rest = &rest[len..];
    }
    frame
}

fn payload_bytes(outgoing: &Outgoing) -> Vec<u8> {
    let bytes: Vec<u8> = outgoing.payload.iter().flat_map(|piece| piece.bytes().to_vec()).collect();
    assert_eq!(bytes.len(), outgoing.payload_len as usize, "payload_len tells the truth");
    bytes
}

impl Connection {
    /// What holds between any two calls.
    fn check(&self) {
        let SendSequence { iss, una, nxt, max, .. } = self.snd;
        assert!(una.le(nxt) && nxt.le(max), "una {una} nxt {nxt} max {max}");
        assert!(max - una <= config::BUFFER_BYTES_MAX + 2);
        assert!(self.rcv.last_ack_sent.le(self.rcv.nxt));
        let data_end = self.send.end();
        assert!(una.le(data_end + 1), "more was acknowledged than there is");
        if self.state == State::Closed {
            assert_eq!(self.next_deadline(), None, "a closed connection arms nothing");
            assert_eq!(self.send.len(), 0);
        } else {
            let start = data_end - self.send.len() as u32;
            let expected = una.max(iss + 1).min(data_end);
            assert_eq!(start, expected, "the send buffer begins at the first unacknowledged byte");
            assert!(self.send.len() <= self.config.send_limit().max(1 << 16));
        }
        if self.state.is_synchronized() && self.state != State::TimeWait {
            assert!(self.congestion.cwnd() >= u32::from(self.mss()), "cwnd below a segment");
        }
        // Nothing is stuck: what waits for the peer has a timer, or is about to be sent.
        let outstanding = una != max;
        let unsent = (self.state.sends() && self.send.end().gt(nxt))
            || self.fin_seq().is_some_and(|fin| self.state.sends() && nxt.le(fin));
        if self.state != State::Closed && (outstanding || unsent) {
            assert!(
                self.next_deadline().is_some() || self.wants_output(),
                "stuck in {:?}: {:?}",
                self.state,
                self.snd
            );
        }
        // And nothing else arms a timer.
        if self.state == State::Established && !outstanding && !unsent && !self.wants_output() {
            assert_eq!(self.timers.retransmit, None);
            assert_eq!(self.timers.persist, None);
            assert_eq!(self.timers.linger, None);
        }
        if self.timers.persist.is_some() {
            assert_eq!(self.timers.retransmit, None, "one of the two at a time");
        }
        assert!(self.receive.len() as u32 <= self.config.receive_limit().max(1 << 16));
        assert!(self.acks_owed <= config::DUPLICATE_ACKS_OWED_MAX);
    }
}

#[test]
fn a_connection_is_small() {
    let size = size_of::<Connection>();
    eprintln!("a connection is {size} bytes");
    assert!(size <= 1280, "{size} bytes");
    assert!(size_of::<TimeWait>() <= 64, "{} bytes", size_of::<TimeWait>());
}
