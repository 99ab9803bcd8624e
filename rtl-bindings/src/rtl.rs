//! The verilated NIC behind the `Nic` trait.
//!
//! One call of [`Rtl::step`] is one clock cycle:
//!
//! ```text
//!   drive inputs -> clk 0, eval -> sample handshakes -> clk 1, eval
//!        ^                              |
//!        |        bursts and frames     v
//!        +------ HostPort, WirePort <---+
//! ```
//!
//! Inputs are functions of earlier cycles only, so a combinational path through the RTL settles in the
//! low phase and handshakes are seen as registers will see them. While the NIC says that it only waits
//! for memory, the clock jumps to the moment at which something can happen: cycles in which nothing can
//! change are not evaluated. The RTL's own cycle counter does not see those.

mod access;
mod axi;
mod mac;
mod options;
mod stall;

use std::time::{Duration, Instant};

use tandem_contract::nic::{Bus, Cycle, FunctionControl, Nic, NicError, NicParams, Run, Width};
use tandem_contract::trace::Event;

use crate::{Model, ModelDef, ModelError, Port};
use access::Access;
use axi::Axi;
use mac::{MacIn, MacOut};
use options::Waves;
pub use options::{RtlError, RtlOptions, Stalls, WaveRequest, WaveStart};

/// Nanoseconds a cycle, in waves and assertion messages.
pub const NS_PER_CYCLE: u64 = 4;

/// Cycles without a handshake anywhere after which a busy NIC is said to hang.
pub const HANG_CYCLES: Cycle = 50_000;

/// Cycles in which a register access must be answered.
pub const ACCESS_CYCLES_MAX: Cycle = 10_000;

/// Decisions kept until [`Nic::drain_trace`]; later ones are counted in [`RtlStats::trace_lost`].
pub const TRACE_EVENTS_MAX: usize = 1 << 20;

/// Consecutive cycles without `busy_o` before the NIC is believed to be idle.
const QUIET_CYCLES: u32 = 2;

/// Cycles of reset at start.
const RESET_CYCLES: u32 = 8;

/// One evaluated cycle in this many is timed.
const TIMED_EVERY: u64 = 64;

/// A timed cycle that took longer was interrupted by the system and is left out.
const TIMED_MAX: Duration = Duration::from_micros(50);

/// What an [`Rtl`] has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RtlStats {
    /// Cycles that Verilator evaluated.
    pub cycles_evaluated: u64,
    /// Cycles that were jumped over, waiting for memory or idle.
    pub cycles_skipped: u64,
    /// Time spent inside Verilator, in nanoseconds, extrapolated from one cycle in 64.
    pub eval_ns: u64,
    /// Read bursts.
    pub reads: u64,
    /// Bytes read, over-read to whole beats included.
    pub read_bytes: u64,
    /// Write bursts.
    pub writes: u64,
    /// Bytes written.
    pub write_bytes: u64,
    /// Frames from the wire.
    pub frames_in: u64,
    /// Bytes of them.
    pub bytes_in: u64,
    /// Frames to the wire.
    pub frames_out: u64,
    /// Bytes of them.
    pub bytes_out: u64,
    /// Decisions that nobody drained in time.
    pub trace_lost: u64,
}

macro_rules! ports {
    ($($name:ident),* $(,)?) => {
        /// The ports, found once by name.
        struct Ports { $($name: Port),* }

        impl Ports {
            fn find(model: &Model) -> Result<Self, ModelError> {
                Ok(Self { $($name: model.port(stringify!($name))?),* })
            }
        }
    };
}

ports! {
    clk_i, rst_ni,
    s_axil_awaddr_i, s_axil_awvalid_i, s_axil_awready_o, s_axil_wdata_i, s_axil_wstrb_i,
    s_axil_wvalid_i, s_axil_wready_o, s_axil_bvalid_o, s_axil_bready_i, s_axil_araddr_i,
    s_axil_arvalid_i, s_axil_arready_o, s_axil_rdata_o, s_axil_rresp_o, s_axil_rvalid_o,
    s_axil_rready_i,
    cfg_valid_i, cfg_write_i, cfg_addr_i, cfg_be_i, cfg_wdata_i, cfg_ready_o, cfg_rdata_o,
    bus_master_en_i, msix_en_i, msix_mask_i, flr_req_i, flr_done_o, link_up_i,
    m_axi_awid_o, m_axi_awaddr_o, m_axi_awlen_o, m_axi_awsize_o, m_axi_awburst_o, m_axi_awuser_o,
    m_axi_awvalid_o, m_axi_awready_i, m_axi_wdata_o, m_axi_wstrb_o, m_axi_wlast_o,
    m_axi_wvalid_o, m_axi_wready_i, m_axi_bid_i, m_axi_bresp_i, m_axi_bvalid_i, m_axi_bready_o,
    m_axi_arid_o, m_axi_araddr_o, m_axi_arlen_o, m_axi_arsize_o, m_axi_arburst_o, m_axi_aruser_o,
    m_axi_arvalid_o, m_axi_arready_i, m_axi_rid_i, m_axi_rdata_i, m_axi_rresp_i, m_axi_rlast_i,
    m_axi_rvalid_i, m_axi_rready_o,
    m_mac_tdata_o, m_mac_tkeep_o, m_mac_tlast_o, m_mac_tvalid_o, m_mac_tready_i,
    s_mac_tdata_i, s_mac_tkeep_i, s_mac_tlast_i, s_mac_tvalid_i, s_mac_tuser_i,
    trace_valid_o, trace_word_o, busy_o, waiting_o,
}

/// The NIC as verilated RTL.
pub struct Rtl {
    model: Model,
    ports: Ports,
    params: NicParams,
    cycle: Cycle,
    access: Access,
    axi: Axi,
    mac_in: MacIn,
    mac_out: MacOut,
    stalls: Stalls,
    trace: Vec<Event>,
    waves: Option<Waves>,
    stats: RtlStats,
    busy: bool,
    waiting: bool,
    /// Consecutive cycles without `busy_o`.
    quiet_cycles: u32,
    /// Cycle of the last handshake on any port.
    progress_at: Cycle,
    /// Time inside Verilator of the timed cycles.
    timed_ns: u64,
    timed_cycles: u64,
    /// The first failure; a model that failed once is not run again.
    failed: Option<NicError>,
}

impl Rtl {
    /// Makes a NIC and holds it in reset for a few cycles; its clock then reads 0.
    ///
    /// # Errors
    /// [`RtlError`]: no such model in this build, or the RTL failed an assertion in reset.
    pub fn new(options: RtlOptions) -> Result<Self, RtlError> {
        Self::with_model(options.model()?, options)
    }

    /// The same with a model that is named, whatever `options` would choose; it must have the ports of
    /// the NIC.
    ///
    /// # Errors
    /// [`RtlError`].
    pub fn with_model(def: &'static ModelDef, options: RtlOptions) -> Result<Self, RtlError> {
        let mut model = Model::new(def, options.model_options())?;
        let ports = Ports::find(&model)?;
        let width_bits = model.bits(ports.m_mac_tdata_o);
        if let Some(bug) = options.bug {
            let port = model.port("bug_i").map_err(|_| RtlError::NoBugs(def.name))?;
            model.set(port, bug.into());
        }
        let waves = options.waves.clone().map(Waves::new);
        let mut rtl = Self {
            params: options::params(def, width_bits)?,
            axi: Axi::new(width_bits as usize / 8),
            mac_in: MacIn::new(),
            mac_out: MacOut::new(width_bits as usize / 8),
            access: Access::default(),
            stalls: options.stalls,
            trace: Vec::new(),
            waves,
            stats: RtlStats::default(),
            busy: false,
            waiting: false,
            quiet_cycles: 0,
            progress_at: 0,
            timed_ns: 0,
            timed_cycles: 0,
            failed: None,
            cycle: 0,
            model,
            ports,
        };
        rtl.reset()?;
        Ok(rtl)
    }

    /// What it has done so far.
    pub fn stats(&self) -> RtlStats {
        let eval_ns = match self.timed_cycles {
            0 => 0,
            n => {
                (u128::from(self.timed_ns) * u128::from(self.stats.cycles_evaluated)
                    / u128::from(n)) as u64
            }
        };
        RtlStats { eval_ns, ..self.stats }
    }

    /// The instance underneath, for ports beyond those that the trait speaks of.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Asks for waves, whatever was asked before. The file is opened when its first cycle comes.
    ///
    /// # Errors
    /// [`RtlError::Model`] when this build of the model has no waves.
    pub fn request_waves(&mut self, request: WaveRequest) -> Result<(), RtlError> {
        if !self.model.def().traced() {
            return Err(ModelError::NotTraced(self.model.def().name).into());
        }
        self.model.close_waves();
        self.waves = Some(Waves::new(request));
        Ok(())
    }

    fn reset(&mut self) -> Result<(), ModelError> {
        let (model, ports) = (&mut self.model, &self.ports);
        for (port, def) in (0..).zip(model.def().ports) {
            if def.input && def.name != "bug_i" {
                model.set(Port::nth(port), 0);
            }
        }
        for cycle in 0..RESET_CYCLES {
            model.set(ports.rst_ni, 0);
            model.set(ports.clk_i, 0);
            model.eval()?;
            model.set(ports.clk_i, 1);
            model.eval()?;
            if cycle + 1 == RESET_CYCLES {
                model.set(ports.clk_i, 0);
                model.set(ports.rst_ni, 1);
                model.eval()?;
            }
        }
        self.busy = self.model.is_set(self.ports.busy_o);
        self.waiting = self.model.is_set(self.ports.waiting_o);
        Ok(())
    }

    /// One clock cycle.
    fn step(&mut self, bus: &mut Bus<'_>) -> Result<(), NicError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        match self.step_inner(bus) {
            Ok(()) => Ok(()),
            Err(what) => {
                let error = NicError::Protocol { what, at: self.cycle };
                self.model.close_waves();
                self.failed = Some(error.clone());
                Err(error)
            }
        }
    }

    /// The cycle proper; the error says which rule was broken.
    fn step_inner(&mut self, bus: &mut Bus<'_>) -> Result<(), String> {
        let now = self.cycle;
        self.access.drive(&mut self.model, &self.ports);
        self.axi.drive(&mut self.model, &self.ports, bus.host, now, &mut self.stalls)?;
        self.mac_in.drive(&mut self.model, &self.ports, bus.wire, now, &mut self.stats);
        self.mac_out.drive(&mut self.model, &self.ports, bus.wire, now);
        let waves = self.waves_begin(now)?;

        let timed = self.stats.cycles_evaluated.is_multiple_of(TIMED_EVERY).then(Instant::now);
        self.model.set(self.ports.clk_i, 0);
        self.model.eval().map_err(|e| e.to_string())?;
        let mut spent = timed.map(|t| t.elapsed());
        if waves {
            self.model.dump(now * NS_PER_CYCLE);
        }

        let mut progress = self.access.sample(&self.model, &self.ports);
        progress |= self.axi.sample(&self.model, &self.ports, bus.host, now, &mut self.stats)?;
        progress |= self.mac_in.sample();
        progress |=
            self.mac_out.sample(&self.model, &self.ports, bus.wire, now, &mut self.stats)?;
        if self.model.is_set(self.ports.trace_valid_o) {
            self.record(now)?;
            progress = true;
        }
        if progress {
            self.progress_at = now;
        }

        let timed = spent.map(|_| Instant::now());
        self.model.set(self.ports.clk_i, 1);
        self.model.eval().map_err(|e| e.to_string())?;
        if let (Some(spent), Some(timed)) = (&mut spent, timed) {
            *spent += timed.elapsed();
            if *spent < TIMED_MAX {
                self.timed_ns += spent.as_nanos() as u64;
                self.timed_cycles += 1;
            }
        }
        if waves {
            self.model.dump(now * NS_PER_CYCLE + NS_PER_CYCLE / 2);
            self.waves_end(now);
        }

        self.busy = self.model.is_set(self.ports.busy_o);
        self.waiting = self.model.is_set(self.ports.waiting_o);
        self.mac_out.look_ahead(&self.model, &self.ports);
        self.quiet_cycles = if self.busy { 0 } else { self.quiet_cycles.saturating_add(1) };
        self.stats.cycles_evaluated += 1;
        self.cycle += 1;
        Ok(())
    }

    fn record(&mut self, now: Cycle) -> Result<(), String> {
        let mut word = [0; 16];
        self.model.read(self.ports.trace_word_o, &mut word);
        let word = u128::from_le_bytes(word);
        let event = Event::from_word(now, word)
            .ok_or_else(|| format!("decision trace word {word:#034x} is of no known kind"))?;
        if self.trace.len() < TRACE_EVENTS_MAX {
            self.trace.push(event);
        } else {
            self.stats.trace_lost += 1;
        }
        Ok(())
    }

    /// Whether waves are written in this cycle; opens the file when its first one has come.
    fn waves_begin(&mut self, now: Cycle) -> Result<bool, String> {
        let Some(waves) = &mut self.waves else { return Ok(false) };
        if waves.first.is_none() && waves.due(now, &self.stats) {
            waves.first = Some(now);
            self.model.open_waves(&waves.request.path).map_err(|e| e.to_string())?;
        }
        // Assertions print the time; without waves it is not worth a call every cycle.
        self.model.set_time(now * NS_PER_CYCLE);
        Ok(waves.first.is_some())
    }

    fn waves_end(&mut self, now: Cycle) {
        if let Some(waves) = &self.waves
            && waves.first.is_some_and(|first| now - first + 1 >= waves.request.cycles)
        {
            self.model.close_waves();
            self.waves = None;
        }
    }

    /// Whether nothing is in motion between the NIC and this wrapper, and the NIC has none of its own.
    fn quiet(&self) -> bool {
        self.quiet_cycles >= QUIET_CYCLES
            && self.access.is_idle()
            && self.axi.is_still()
            && self.mac_in.is_idle()
            && self.mac_out.is_idle()
    }

    fn hang(&mut self, what: &'static str, since: Cycle) -> NicError {
        let error = NicError::Hang { what, cycles: self.cycle - since, at: self.cycle };
        self.model.close_waves();
        self.failed = Some(error.clone());
        error
    }

    /// Steps until the pending access is answered.
    fn finish_access(&mut self, bus: &mut Bus<'_>, what: &'static str) -> Result<(), NicError> {
        let start = self.cycle;
        while !self.access.is_idle() {
            if self.cycle - start >= ACCESS_CYCLES_MAX {
                return Err(self.hang(what, start));
            }
            self.step(bus)?;
        }
        Ok(())
    }
}

impl Nic for Rtl {
    fn params(&self) -> &NicParams {
        &self.params
    }

    fn now(&self) -> Cycle {
        self.cycle
    }

    fn bar_read(&mut self, bus: &mut Bus<'_>, offset: u32, width: Width) -> Result<u32, NicError> {
        self.access.start_read(offset);
        self.finish_access(bus, "BAR read")?;
        Ok(self.access.lane(offset, width))
    }

    fn bar_write(
        &mut self,
        bus: &mut Bus<'_>,
        offset: u32,
        width: Width,
        value: u32,
    ) -> Result<(), NicError> {
        self.access.start_write(offset, width, value);
        self.finish_access(bus, "BAR write")
    }

    fn config_read(&mut self, bus: &mut Bus<'_>, offset: u16) -> Result<u32, NicError> {
        self.access.start_config(offset, None);
        self.finish_access(bus, "configuration read")?;
        Ok(self.access.answer())
    }

    fn config_write(
        &mut self,
        bus: &mut Bus<'_>,
        offset: u16,
        value: u32,
        enable: u8,
    ) -> Result<(), NicError> {
        self.access.start_config(offset, Some((value, enable)));
        self.finish_access(bus, "configuration write")
    }

    fn set_control(&mut self, control: FunctionControl) {
        self.model.set(self.ports.bus_master_en_i, control.bus_master.into());
        self.model.set(self.ports.msix_en_i, control.msix_enable.into());
        self.model.set(self.ports.msix_mask_i, control.msix_function_mask.into());
        // Unmasking can set a pending message free.
        self.quiet_cycles = 0;
    }

    fn function_reset(&mut self, bus: &mut Bus<'_>) -> Result<(), NicError> {
        self.access.start_reset();
        let start = self.cycle;
        while !self.access.is_idle() {
            // The drain waits for memory, however slow; only silence is a hang.
            if self.cycle - self.progress_at.max(start) >= HANG_CYCLES
                && bus.host.next_response_at().is_none()
            {
                return Err(self.hang("function-level reset", start));
            }
            self.step(bus)?;
        }
        Ok(())
    }

    fn run(&mut self, bus: &mut Bus<'_>, cycles: Cycle) -> Result<Run, NicError> {
        let start = self.cycle;
        let end = start.saturating_add(cycles);
        let mut idle = false;
        while self.cycle < end {
            if self.quiet() {
                let response_at = bus.host.next_response_at();
                let arrival_at = bus.wire.next_arrival_at();
                let next = match (response_at, arrival_at) {
                    (Some(a), Some(b)) => Some(a.min(b)),
                    (a, b) => a.or(b),
                };
                if next.is_none_or(|at| at > self.cycle) {
                    if !self.waiting && !self.axi.is_outstanding() {
                        idle = true;
                        break;
                    }
                    if response_at.is_none() {
                        return Err(self.hang("a response that memory does not owe", self.cycle));
                    }
                    let target = next.map_or(end, |at| at.min(end));
                    self.stats.cycles_skipped += target - self.cycle;
                    self.cycle = target;
                    self.progress_at = target;
                    continue;
                }
            } else if self.cycle - self.progress_at >= HANG_CYCLES
                && bus.host.next_response_at().is_none()
                && !self.mac_out.is_stalled_by_wire()
            {
                return Err(self.hang("progress of any kind", self.progress_at));
            }
            self.step(bus)?;
        }
        Ok(Run { cycles: self.cycle - start, idle })
    }

    fn skip_to(&mut self, cycle: Cycle) {
        if cycle > self.cycle {
            self.stats.cycles_skipped += cycle - self.cycle;
            self.cycle = cycle;
            self.progress_at = cycle;
        }
    }

    fn set_link(&mut self, up: bool) {
        self.model.set(self.ports.link_up_i, up.into());
        // A change of state is a configuration interrupt.
        self.quiet_cycles = 0;
    }

    fn drain_trace(&mut self, out: &mut Vec<Event>) {
        out.append(&mut self.trace);
    }
}
