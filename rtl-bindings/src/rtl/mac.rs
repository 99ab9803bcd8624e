//! The MAC's two streams: frames to beats, beats to frames.

use tandem_contract::nic::{Cycle, WirePort};

use super::stall::StallCheck;
use super::{Ports, RtlStats};
use crate::Model;

/// A departing frame longer than this is a fault of the NIC, whatever its frame limit.
const FRAME_BYTES_MAX: usize = 1 << 17;

/// Wire to NIC.
#[derive(Debug, Default)]
pub(super) struct MacIn {
    frame: Vec<u8>,
    error: bool,
    sent: usize,
    active: bool,
    /// The port says that there is no beat.
    parked: bool,
}

impl MacIn {
    /// As the port is after reset: no beat.
    pub(super) fn new() -> Self {
        Self { parked: true, ..Self::default() }
    }

    pub(super) fn is_idle(&self) -> bool {
        !self.active
    }

    pub(super) fn drive(
        &mut self,
        model: &mut Model,
        ports: &Ports,
        wire: &mut dyn WirePort,
        now: Cycle,
        stats: &mut RtlStats,
    ) {
        if !self.active {
            // An empty frame has no first byte; there is nothing to show to the NIC.
            if let Some(arrival) = wire.arriving(now, &mut self.frame)
                && !self.frame.is_empty()
            {
                self.error = arrival.error;
                self.sent = 0;
                self.active = true;
                stats.frames_in += 1;
                stats.bytes_in += self.frame.len() as u64;
            }
        }
        if !self.active {
            if !self.parked {
                model.set(ports.s_mac_tvalid_i, 0);
                self.parked = true;
            }
            return;
        }
        let beat_bytes = model.bytes(ports.s_mac_tdata_i).len();
        let rest = &self.frame[self.sent..];
        let here = rest.len().min(beat_bytes);
        let last = here == rest.len();
        model.write(ports.s_mac_tdata_i, &rest[..here]);
        model.set(ports.s_mac_tkeep_i, ones(here));
        model.set(ports.s_mac_tlast_i, last.into());
        model.set(ports.s_mac_tuser_i, (last && self.error).into());
        if self.parked {
            model.set(ports.s_mac_tvalid_i, 1);
            self.parked = false;
        }
        self.sent += here;
    }

    /// A beat is always taken: receive never stalls.
    pub(super) fn sample(&mut self) -> bool {
        let beat = self.active;
        self.active = beat && self.sent < self.frame.len();
        beat
    }
}

/// NIC to wire.
#[derive(Debug)]
pub(super) struct MacOut {
    beat_bytes: usize,
    frame: Vec<u8>,
    in_frame: bool,
    /// The NIC offers a beat.
    offered: bool,
    ready: bool,
    stall: StallCheck,
}

impl MacOut {
    pub(super) fn new(beat_bytes: usize) -> Self {
        Self {
            beat_bytes,
            frame: Vec::new(),
            in_frame: false,
            offered: false,
            ready: false,
            stall: StallCheck::default(),
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        !self.in_frame && !self.offered
    }

    /// Whether the NIC is held up by the wire.
    pub(super) fn is_stalled_by_wire(&self) -> bool {
        self.offered && !self.ready
    }

    pub(super) fn drive(
        &mut self,
        model: &mut Model,
        ports: &Ports,
        wire: &mut dyn WirePort,
        now: Cycle,
    ) {
        // The wire is asked only when there is a beat to take, so that its pacing counts beats.
        let ready = self.offered && wire.ready(now);
        if ready != self.ready {
            model.set(ports.m_mac_tready_i, ready.into());
            self.ready = ready;
        }
    }

    pub(super) fn sample(
        &mut self,
        model: &Model,
        ports: &Ports,
        wire: &mut dyn WirePort,
        now: Cycle,
        stats: &mut RtlStats,
    ) -> Result<bool, String> {
        let valid = model.is_set(ports.m_mac_tvalid_o);
        if self.in_frame && !valid {
            return Err("MAC transmit: a gap inside a frame".to_owned());
        }
        if valid || self.offered {
            let payload = [ports.m_mac_tdata_o, ports.m_mac_tkeep_o, ports.m_mac_tlast_o];
            self.stall.check(model, "MAC transmit", valid, self.ready, &payload)?;
        }
        if !valid || !self.ready {
            return Ok(false);
        }
        let last = model.is_set(ports.m_mac_tlast_o);
        let keep = model.get(ports.m_mac_tkeep_o);
        let count = keep.trailing_ones() as usize;
        if keep != ones(count) || count == 0 || (!last && count != self.beat_bytes) {
            return Err(format!("MAC transmit: tkeep {keep:#x} with tlast {last}"));
        }
        self.frame.extend_from_slice(&model.bytes(ports.m_mac_tdata_o)[..count]);
        if self.frame.len() > FRAME_BYTES_MAX {
            return Err("MAC transmit: a frame without end".to_owned());
        }
        self.in_frame = !last;
        if last {
            stats.frames_out += 1;
            stats.bytes_out += self.frame.len() as u64;
            wire.departed(now, &self.frame);
            self.frame.clear();
        }
        Ok(true)
    }

    /// After the clock's edge: does the NIC offer a beat?
    pub(super) fn look_ahead(&mut self, model: &Model, ports: &Ports) {
        self.offered = model.is_set(ports.m_mac_tvalid_o);
    }
}

/// The `count` low bits set; `count` is at most 64.
fn ones(count: usize) -> u64 {
    if count >= 64 { u64::MAX } else { (1 << count) - 1 }
}
