//! The AXI4 memory side: beats to bursts, responses to beats, and the rules of both.
//!
//! Write data may run ahead of its address by one burst; AXI4 lets a slave hold further data back until
//! the address has come (A3.3.1). Bytes that strobes leave out split a burst into several requests to
//! the host, which the NIC sees answered as one.

use std::collections::VecDeque;

use tandem_contract::nic::{Cycle, DmaKind, DmaRequest, DmaResponse, HostPort};

use super::options::Stalls;
use super::stall::StallCheck;
use super::{Ports, RtlStats};
use crate::{Model, Port};

/// Bursts in flight a direction; more is a fault of the NIC.
const OUTSTANDING_MAX: usize = 512;

/// AXI4's longest burst, in beats (A3.4.1).
const BURST_BEATS_MAX: usize = 256;

/// `AxBURST` of an incrementing burst.
const INCR: u64 = 1;

/// `xRESP` of an error by the slave.
const SLVERR: u64 = 2;

/// An accepted address.
#[derive(Debug, Clone, Copy)]
struct Burst {
    id: u16,
    function: u8,
    addr: u64,
    beats: usize,
}

/// A write that the host has not answered in full.
#[derive(Debug)]
struct Unanswered {
    id: u16,
    /// Requests to the host still out.
    parts: usize,
    error: bool,
}

/// The memory side.
#[derive(Debug)]
pub(super) struct Axi {
    beat_bytes: usize,
    /// Addresses whose data is not complete.
    addressed: VecDeque<Burst>,
    /// Data of the burst that is coming in, whole beats.
    data: Vec<u8>,
    strobes: Vec<u64>,
    /// `data` is complete and waits for its address.
    complete: bool,
    unanswered: VecDeque<Unanswered>,
    /// Write responses to give to the NIC.
    b: VecDeque<(u16, bool)>,
    b_offered: bool,
    /// Value of the port `bvalid`.
    b_valid: bool,
    reads: VecDeque<Burst>,
    /// Read responses to give to the NIC.
    r: VecDeque<DmaResponse>,
    r_beat: usize,
    r_offered: bool,
    /// Value of the port `rvalid`.
    r_valid: bool,
    spare: Vec<DmaResponse>,
    ready: Ready,
    stall_aw: StallCheck,
    stall_w: StallCheck,
    stall_ar: StallCheck,
}

/// Values of the ready inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Ready {
    aw: bool,
    w: bool,
    ar: bool,
}

impl Axi {
    pub(super) fn new(beat_bytes: usize) -> Self {
        Self {
            beat_bytes,
            addressed: VecDeque::with_capacity(64),
            data: Vec::with_capacity(4096),
            strobes: Vec::with_capacity(BURST_BEATS_MAX),
            complete: false,
            unanswered: VecDeque::with_capacity(64),
            b: VecDeque::with_capacity(64),
            b_offered: false,
            b_valid: false,
            reads: VecDeque::with_capacity(64),
            r: VecDeque::with_capacity(64),
            r_beat: 0,
            r_offered: false,
            r_valid: false,
            spare: Vec::with_capacity(64),
            ready: Ready::default(),
            stall_aw: StallCheck::default(),
            stall_w: StallCheck::default(),
            stall_ar: StallCheck::default(),
        }
    }

    /// Whether no beat is in motion or could be.
    pub(super) fn is_still(&self) -> bool {
        self.b.is_empty()
            && self.r.is_empty()
            && self.strobes.is_empty()
            && self.addressed.is_empty()
    }

    /// Whether memory owes an answer.
    pub(super) fn is_outstanding(&self) -> bool {
        !self.unanswered.is_empty() || !self.reads.is_empty()
    }

    /// Takes responses from the host and shows the next ones to the NIC.
    pub(super) fn drive(
        &mut self,
        model: &mut Model,
        ports: &Ports,
        host: &mut dyn HostPort,
        now: Cycle,
        stalls: &mut Stalls,
    ) -> Result<(), String> {
        if self.is_outstanding() {
            self.collect(host, now)?;
        }
        self.drive_r(model, ports, stalls)?;
        if !self.b_offered
            && let Some(&(id, error)) = self.b.front()
            && !stalls.roll()
        {
            model.set(ports.m_axi_bid_i, id.into());
            model.set(ports.m_axi_bresp_i, if error { SLVERR } else { 0 });
            self.b_offered = true;
        }
        if self.r_offered != self.r_valid {
            model.set(ports.m_axi_rvalid_i, self.r_offered.into());
            self.r_valid = self.r_offered;
        }
        if self.b_offered != self.b_valid {
            model.set(ports.m_axi_bvalid_i, self.b_offered.into());
            self.b_valid = self.b_offered;
        }
        let ready =
            Ready { aw: !stalls.roll(), w: !self.complete && !stalls.roll(), ar: !stalls.roll() };
        if ready != self.ready {
            model.set(ports.m_axi_awready_i, ready.aw.into());
            model.set(ports.m_axi_wready_i, ready.w.into());
            model.set(ports.m_axi_arready_i, ready.ar.into());
            self.ready = ready;
        }
        Ok(())
    }

    fn collect(&mut self, host: &mut dyn HostPort, now: Cycle) -> Result<(), String> {
        loop {
            let mut response = self.spare.pop().unwrap_or_default();
            if !host.response(now, &mut response) {
                self.spare.push(response);
                return Ok(());
            }
            if response.write {
                let id = response.id;
                let entry = self.unanswered.iter_mut().find(|u| u.id == id && u.parts > 0);
                let entry = entry.ok_or("the host answered a write that was not asked")?;
                entry.parts -= 1;
                entry.error |= response.error;
                self.spare.push(response);
                self.release(id);
            } else {
                self.r.push_back(response);
            }
        }
    }

    /// Answers writes of one identifier in order, as far as the host has.
    fn release(&mut self, id: u16) {
        while let Some(at) = self.unanswered.iter().position(|u| u.id == id)
            && self.unanswered[at].parts == 0
            && let Some(done) = self.unanswered.remove(at)
        {
            self.b.push_back((id, done.error));
        }
    }

    fn drive_r(
        &mut self,
        model: &mut Model,
        ports: &Ports,
        stalls: &mut Stalls,
    ) -> Result<(), String> {
        if self.r_offered || self.r.is_empty() || stalls.roll() {
            return Ok(());
        }
        let response = &self.r[0];
        let burst = self.reads.iter().find(|read| read.id == response.id);
        let burst = burst.ok_or("the host answered a read that was not asked")?;
        let lane = (burst.addr % self.beat_bytes as u64) as usize;
        if !response.error && response.data.len() != burst.beats * self.beat_bytes - lane {
            return Err("the host answered a read with a wrong length".to_owned());
        }
        if response.error {
            model.set(ports.m_axi_rdata_i, 0);
        } else if self.r_beat == 0 && lane != 0 {
            let mut beat = [0; 64];
            beat[lane..self.beat_bytes].copy_from_slice(&response.data[..self.beat_bytes - lane]);
            model.write(ports.m_axi_rdata_i, &beat[..self.beat_bytes]);
        } else {
            let from = self.r_beat * self.beat_bytes - lane;
            model.write(ports.m_axi_rdata_i, &response.data[from..from + self.beat_bytes]);
        }
        model.set(ports.m_axi_rid_i, response.id.into());
        model.set(ports.m_axi_rresp_i, if response.error { SLVERR } else { 0 });
        model.set(ports.m_axi_rlast_i, (self.r_beat + 1 == burst.beats).into());
        self.r_offered = true;
        Ok(())
    }

    /// Looks at the handshakes; true when one took place.
    pub(super) fn sample(
        &mut self,
        model: &Model,
        ports: &Ports,
        host: &mut dyn HostPort,
        now: Cycle,
        stats: &mut RtlStats,
    ) -> Result<bool, String> {
        let mut progress = self.sample_addresses(model, ports, host, now, stats)?;

        let w_valid = model.is_set(ports.m_axi_wvalid_o);
        let w_payload = [ports.m_axi_wdata_o, ports.m_axi_wstrb_o, ports.m_axi_wlast_o];
        self.stall_w.check(model, "AXI W", w_valid, self.ready.w, &w_payload)?;
        if w_valid && self.ready.w {
            progress = true;
            self.data.extend_from_slice(model.bytes(ports.m_axi_wdata_o));
            self.strobes.push(model.get(ports.m_axi_wstrb_o));
            self.complete = model.is_set(ports.m_axi_wlast_o);
            if !self.complete && self.strobes.len() >= BURST_BEATS_MAX {
                return Err("AXI W: 256 beats without wlast".to_owned());
            }
        }
        if self.complete
            && let Some(burst) = self.addressed.pop_front()
        {
            self.write(burst, host, now, stats)?;
        }
        Ok(progress)
    }

    fn sample_addresses(
        &mut self,
        model: &Model,
        ports: &Ports,
        host: &mut dyn HostPort,
        now: Cycle,
        stats: &mut RtlStats,
    ) -> Result<bool, String> {
        let mut progress = false;
        let aw = [
            ports.m_axi_awid_o,
            ports.m_axi_awaddr_o,
            ports.m_axi_awlen_o,
            ports.m_axi_awsize_o,
            ports.m_axi_awburst_o,
            ports.m_axi_awuser_o,
        ];
        let aw_valid = model.is_set(ports.m_axi_awvalid_o);
        self.stall_aw.check(model, "AXI AW", aw_valid, self.ready.aw, &aw)?;
        if aw_valid && self.ready.aw {
            progress = true;
            self.addressed.push_back(self.burst(model, "AXI AW", aw)?);
            if self.addressed.len() + self.unanswered.len() > OUTSTANDING_MAX {
                return Err("AXI AW: more writes in flight than any queue holds".to_owned());
            }
        }
        let ar = [
            ports.m_axi_arid_o,
            ports.m_axi_araddr_o,
            ports.m_axi_arlen_o,
            ports.m_axi_arsize_o,
            ports.m_axi_arburst_o,
            ports.m_axi_aruser_o,
        ];
        let ar_valid = model.is_set(ports.m_axi_arvalid_o);
        self.stall_ar.check(model, "AXI AR", ar_valid, self.ready.ar, &ar)?;
        if ar_valid && self.ready.ar {
            progress = true;
            let burst = self.burst(model, "AXI AR", ar)?;
            self.reads.push_back(burst);
            if self.reads.len() > OUTSTANDING_MAX {
                return Err("AXI AR: more reads in flight than any queue holds".to_owned());
            }
            let lane = burst.addr % self.beat_bytes as u64;
            let len = (burst.beats * self.beat_bytes) as u32 - lane as u32;
            stats.reads += 1;
            stats.read_bytes += u64::from(len);
            host.request(
                now,
                DmaRequest {
                    kind: DmaKind::Read,
                    id: burst.id,
                    function: burst.function,
                    addr: burst.addr,
                    len,
                    data: &[],
                },
            );
        }
        progress |= self.sample_r(model, ports);
        if self.b_offered && model.is_set(ports.m_axi_bready_o) {
            progress = true;
            self.b.pop_front();
            self.b_offered = false;
        }
        Ok(progress)
    }

    fn sample_r(&mut self, model: &Model, ports: &Ports) -> bool {
        if !self.r_offered || !model.is_set(ports.m_axi_rready_o) {
            return false;
        }
        self.r_offered = false;
        self.r_beat += 1;
        let id = self.r[0].id;
        let at = self.reads.iter().position(|read| read.id == id);
        if let Some(at) = at
            && self.r_beat >= self.reads[at].beats
        {
            self.reads.remove(at);
            self.r_beat = 0;
            self.spare.extend(self.r.pop_front());
        }
        true
    }

    /// Reads an address channel and holds it to the rules.
    fn burst(&self, model: &Model, channel: &str, ports: [Port; 6]) -> Result<Burst, String> {
        let [id, addr, len, size, kind, user] = ports.map(|port| model.get(port));
        let beats = len as usize + 1;
        if 1usize << size != self.beat_bytes {
            return Err(format!("{channel}: beats of {} bytes, not full width", 1u64 << size));
        }
        if kind != INCR && beats > 1 {
            return Err(format!("{channel}: burst type {kind}, not INCR"));
        }
        let first = addr - addr % self.beat_bytes as u64;
        let Some(last) = first.checked_add((beats * self.beat_bytes) as u64 - 1) else {
            return Err(format!("{channel}: {addr:#x} with {beats} beats wraps around"));
        };
        // A3.4.1: a burst must not cross a 4 KiB address boundary.
        if addr >> 12 != last >> 12 {
            return Err(format!("{channel}: {addr:#x} with {beats} beats crosses 4 KiB"));
        }
        Ok(Burst { id: id as u16, function: user as u8, addr, beats })
    }

    /// Hands a complete write to the host, one request for each run of enabled bytes.
    fn write(
        &mut self,
        burst: Burst,
        host: &mut dyn HostPort,
        now: Cycle,
        stats: &mut RtlStats,
    ) -> Result<(), String> {
        if self.strobes.len() != burst.beats {
            let got = self.strobes.len();
            return Err(format!("AXI W: wlast after {got} beats of {}", burst.beats));
        }
        let lane = (burst.addr % self.beat_bytes as u64) as usize;
        let base = burst.addr - lane as u64;
        let total = self.data.len();
        let mut parts = 0;
        let mut from = next_run(&self.strobes, self.beat_bytes, 0, true);
        if from < lane {
            return Err(format!("AXI W: a byte below the address {:#x} is enabled", burst.addr));
        }
        while from < total {
            let to = next_run(&self.strobes, self.beat_bytes, from, false);
            let len = (to - from) as u32;
            stats.write_bytes += u64::from(len);
            host.request(
                now,
                DmaRequest {
                    kind: DmaKind::Write,
                    id: burst.id,
                    function: burst.function,
                    addr: base + from as u64,
                    len,
                    data: &self.data[from..to],
                },
            );
            parts += 1;
            from = next_run(&self.strobes, self.beat_bytes, to, true);
        }
        stats.writes += 1;
        self.unanswered.push_back(Unanswered { id: burst.id, parts, error: false });
        self.release(burst.id);
        self.data.clear();
        self.strobes.clear();
        self.complete = false;
        Ok(())
    }
}

/// Index of the first byte at or after `from` whose enable is `enabled`, or the number of bytes.
fn next_run(strobes: &[u64], beat_bytes: usize, from: usize, enabled: bool) -> usize {
    let mut at = from;
    while let Some(&strobe) = strobes.get(at / beat_bytes) {
        let lane = at % beat_bytes;
        let wanted = if enabled { strobe } else { !strobe } >> lane;
        let skip = wanted.trailing_zeros() as usize;
        if skip < beat_bytes - lane {
            return at + skip;
        }
        at += beat_bytes - lane;
    }
    strobes.len() * beat_bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_enabled_bytes() {
        let strobes = [0b1110_0000, 0xFF, 0b0000_0111, 0, 0b0101_0000];
        let mut runs = Vec::new();
        let mut from = next_run(&strobes, 8, 0, true);
        while from < 40 {
            let to = next_run(&strobes, 8, from, false);
            runs.push((from, to));
            from = next_run(&strobes, 8, to, true);
        }
        assert_eq!(runs, [(5, 19), (36, 37), (38, 39)]);
        assert_eq!(next_run(&[u64::MAX; 2], 64, 0, true), 0);
        assert_eq!(next_run(&[u64::MAX; 2], 64, 0, false), 128);
    }
}
