//! A NIC, its host's memory, its wire, its PCIe core, and the clock that governs them.

use tandem_contract::layout::{BAR0_LEN, MSIX_TABLE_BASE};
use tandem_contract::nic::{Bus, Cycle, Nic, NicError, NicParams, Width, WirePort};
use tandem_contract::trace::Event;
use thiserror::Error;

use crate::memory::{HostMemory, MSI_BASE, VECTORS_MAX};
use crate::regions::{AddressSpace, RegionTable};
use crate::shell::PciShell;
use crate::wire::Wire;

/// Nanoseconds a cycle in a free-running cosimulation.
pub const NS_PER_CYCLE: u64 = 4;

/// Cycles between two looks at what the NIC decided and at interrupts.
const SLICE_CYCLES: Cycle = 256;

/// What governs time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Clock {
    /// Everything is simulated: a cycle is 4 ns, idle time is skipped up to the next deadline, runs
    /// repeat.
    #[default]
    FreeRunning,
    /// Something real is on the other end: the clock runs when there is work and stands otherwise.
    /// Nothing repeats, and seconds mean nothing.
    WallCoupled,
}

/// When a run is to end, whichever comes first of this and of what [`Ended`] lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// At this cycle; a free-running clock gets there even if nothing happens on the way.
    Cycle(Cycle),
    /// When nothing is under way and nothing is known to come, but no later than this cycle.
    Idle(Cycle),
    /// When an interrupt came that was not taken, but no later than this cycle.
    Interrupt(Cycle),
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The cycle was reached.
    Deadline,
    /// Nothing is under way and nothing is known to come.
    Idle,
    /// An interrupt came.
    Interrupt,
    /// The NIC is gone.
    Gone,
}

/// Why a cosimulation failed: each is a finding about the model.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CosimError {
    /// The NIC broke a rule or hangs.
    #[error("the NIC ({model}) failed")]
    Nic {
        /// Which model.
        model: &'static str,
        /// How.
        #[source]
        source: NicError,
    },
}

/// A NIC in its environment.
pub struct Cosim<N, A = RegionTable> {
    nic: N,
    memory: HostMemory<A>,
    wire: Wire,
    shell: PciShell,
    clock: Clock,
    gone: bool,
    failed: Option<CosimError>,
    events: Vec<Event>,
    keep_events: bool,
    scratch: Vec<Event>,
}

/// Decisions kept for [`Cosim::take_events`]; later ones go only to the capture.
pub const EVENTS_MAX: usize = 1 << 22;

impl<N: Nic, A: AddressSpace + 'static> Cosim<N, A> {
    /// Puts a NIC into its environment, with the link up.
    pub fn new(mut nic: N, memory: HostMemory<A>, wire: Wire, clock: Clock) -> Self {
        nic.set_link(true);
        let shell = PciShell::new(nic.params().msix_vectors.min(VECTORS_MAX));
        nic.set_control(shell.control());
        Self {
            nic,
            memory,
            wire,
            shell,
            clock,
            gone: false,
            failed: None,
            events: Vec::new(),
            keep_events: false,
            scratch: Vec::new(),
        }
    }

    /// The NIC.
    pub fn nic(&self) -> &N {
        &self.nic
    }

    /// The NIC, for what only its model can do.
    pub fn nic_mut(&mut self) -> &mut N {
        &mut self.nic
    }

    /// Facts about the NIC.
    pub fn params(&self) -> &NicParams {
        self.nic.params()
    }

    /// The host's memory.
    pub fn memory(&self) -> &HostMemory<A> {
        &self.memory
    }

    /// The host's memory, to map, to observe and to change its manners.
    pub fn memory_mut(&mut self) -> &mut HostMemory<A> {
        &mut self.memory
    }

    /// The wire.
    pub fn wire(&self) -> &Wire {
        &self.wire
    }

    /// The wire, to replace it, to capture it, to damage frames.
    pub fn wire_mut(&mut self) -> &mut Wire {
        &mut self.wire
    }

    /// Configuration space.
    pub fn shell(&self) -> &PciShell {
        &self.shell
    }

    /// The clock.
    pub fn now(&self) -> Cycle {
        self.nic.now()
    }

    /// The clock in nanoseconds; means something only when it runs free.
    pub fn now_ns(&self) -> u64 {
        self.now().saturating_mul(NS_PER_CYCLE)
    }

    /// What governs time.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Whether the NIC was pulled out.
    pub fn is_gone(&self) -> bool {
        self.gone
    }

    /// Pulls the NIC out: it issues nothing any more, reads of it give all ones, writes are lost.
    pub fn pull_out(&mut self) {
        self.gone = true;
        self.memory.abandon();
        self.memory.clear_messages();
        self.note_events();
    }

    /// Keeps the NIC's decisions for [`Cosim::take_events`], or stops to.
    pub fn keep_events(&mut self, keep: bool) {
        self.keep_events = keep;
    }

    /// The decisions since the last call.
    pub fn take_events(&mut self) -> Vec<Event> {
        self.note_events();
        std::mem::take(&mut self.events)
    }

    fn note_events(&mut self) {
        self.nic.drain_trace(&mut self.scratch);
        if self.scratch.is_empty() {
            return;
        }
        self.wire.learn(&self.scratch);
        if self.keep_events && self.events.len() < EVENTS_MAX {
            self.events.append(&mut self.scratch);
        }
        self.scratch.clear();
    }

    /// Calls the NIC with both of its sides; a failure is final.
    fn with<T>(
        &mut self,
        call: impl FnOnce(&mut N, &mut PciShell, &mut Bus<'_>) -> Result<T, NicError>,
    ) -> Result<T, CosimError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let mut bus = Bus { host: &mut self.memory, wire: &mut self.wire };
        call(&mut self.nic, &mut self.shell, &mut bus).map_err(|source| {
            let error = CosimError::Nic { model: self.nic.params().model, source };
            tracing::error!(?error, "cosimulation failed");
            self.failed = Some(error.clone());
            error
        })
    }

    /// Reads configuration space; all ones when the NIC is gone.
    ///
    /// # Errors
    /// [`CosimError`].
    pub fn config_read(&mut self, offset: u16, width: Width) -> Result<u32, CosimError> {
        if self.gone {
            return Ok(ones(width));
        }
        self.with(|nic, shell, bus| shell.read(nic, bus, offset, width))
    }

    /// Writes configuration space; lost when the NIC is gone.
    ///
    /// # Errors
    /// [`CosimError`].
    pub fn config_write(
        &mut self,
        offset: u16,
        width: Width,
        value: u32,
    ) -> Result<(), CosimError> {
        if self.gone {
            return Ok(());
        }
        self.with(|nic, shell, bus| shell.write(nic, bus, offset, width, value))
    }

    /// Reads BAR 0 at `offset`, a multiple of `width`; all ones outside of it or when the NIC is gone.
    ///
    /// # Errors
    /// [`CosimError`].
    pub fn bar_read(&mut self, offset: u32, width: Width) -> Result<u32, CosimError> {
        if self.gone || offset >= BAR0_LEN {
            return Ok(ones(width));
        }
        self.with(|nic, _, bus| nic.bar_read(bus, offset, width))
    }

    /// Writes BAR 0 at `offset`, a multiple of `width`; lost outside of it or when the NIC is gone.
    ///
    /// # Errors
    /// [`CosimError`].
    pub fn bar_write(&mut self, offset: u32, width: Width, value: u32) -> Result<(), CosimError> {
        if self.gone || offset >= BAR0_LEN {
            return Ok(());
        }
        self.with(|nic, _, bus| nic.bar_write(bus, offset, width, value))
    }

    /// Function-level reset; see [`PciShell::function_reset`]. Messages that came are forgotten.
    ///
    /// # Errors
    /// [`CosimError`].
    pub fn function_reset(&mut self) -> Result<(), CosimError> {
        if self.gone {
            return Ok(());
        }
        self.with(|nic, shell, bus| shell.function_reset(nic, bus))?;
        self.memory.clear_messages();
        Ok(())
    }

    /// Programs vectors 0 to `count` - 1 of the MSI-X table with addresses that
    /// [`HostMemory`] knows as interrupts, unmasks them, masks the others, and enables MSI-X; 0 disables
    /// it. Messages that came are forgotten.
    ///
    /// # Errors
    /// [`CosimError`].
    pub fn enable_vectors(&mut self, count: u16) -> Result<(), CosimError> {
        if self.gone {
            return Ok(());
        }
        let vectors = self.shell.vectors();
        self.with(|nic, shell, bus| {
            // Masked while the table changes (PCI 3.0, 6.8.2).
            shell.set_msix(nic, count > 0, true);
            for vector in 0..vectors {
                let entry = MSIX_TABLE_BASE + 16 * u32::from(vector);
                let address = MSI_BASE + 16 * u64::from(vector);
                let words = [
                    address as u32,
                    (address >> 32) as u32,
                    vector.into(),
                    u32::from(vector >= count),
                ];
                for (at, word) in (entry..).step_by(4).zip(words) {
                    nic.bar_write(bus, at, Width::Word, word)?;
                }
            }
            shell.set_msix(nic, count > 0, false);
            Ok(())
        })?;
        self.memory.clear_messages();
        Ok(())
    }

    /// Masks or unmasks one vector in the MSI-X table.
    ///
    /// # Errors
    /// [`CosimError`].
    pub fn mask_vector(&mut self, vector: u16, masked: bool) -> Result<(), CosimError> {
        if vector >= self.shell.vectors() {
            return Ok(());
        }
        self.bar_write(MSIX_TABLE_BASE + 16 * u32::from(vector) + 12, Width::Word, masked.into())
    }

    /// Whether the vector's message came since this was last asked.
    pub fn take_interrupt(&mut self, vector: u16) -> bool {
        self.memory.take_message(vector)
    }

    /// Runs the clock for at most `cycles`. A free-running clock arrives there even when the NIC is
    /// idle; a wall-coupled one stops.
    ///
    /// # Errors
    /// [`CosimError`].
    pub fn run(&mut self, cycles: Cycle) -> Result<Ended, CosimError> {
        self.run_until(Until::Cycle(self.now().saturating_add(cycles)))
    }

    /// Runs the clock.
    ///
    /// # Errors
    /// [`CosimError`].
    pub fn run_until(&mut self, until: Until) -> Result<Ended, CosimError> {
        let (Until::Cycle(deadline) | Until::Idle(deadline) | Until::Interrupt(deadline)) = until;
        let wants_interrupt = matches!(until, Until::Interrupt(_));
        loop {
            if self.gone {
                return Ok(Ended::Gone);
            }
            if wants_interrupt && self.memory.pending_messages() != 0 {
                return Ok(Ended::Interrupt);
            }
            let now = self.now();
            if now >= deadline {
                return Ok(Ended::Deadline);
            }
            let slice = if wants_interrupt { SLICE_CYCLES / 4 } else { SLICE_CYCLES };
            let cycles = (deadline - now).min(slice);
            let run = self.with(|nic, _, bus| nic.run(bus, cycles))?;
            self.note_events();
            if !run.idle {
                continue;
            }
            // Idle: a message may have come in this very slice, a frame may be known to come.
            if wants_interrupt && self.memory.pending_messages() != 0 {
                return Ok(Ended::Interrupt);
            }
            let now = self.now();
            match (self.wire.next_arrival_at(), self.clock) {
                (Some(at), _) if at <= now => {}
                (Some(at), _) if at < deadline => self.nic.skip_to(at),
                // Real time passes outside; there is nothing to wait for in here.
                (_, Clock::WallCoupled) => return Ok(Ended::Idle),
                (Some(_), Clock::FreeRunning) => self.nic.skip_to(deadline),
                (None, Clock::FreeRunning) => {
                    if matches!(until, Until::Cycle(_)) {
                        self.nic.skip_to(deadline);
                    } else {
                        return Ok(Ended::Idle);
                    }
                }
            }
        }
    }
}

/// What a read gives when nobody answers (PCI 3.0, 6.1).
fn ones(width: Width) -> u32 {
    match width {
        Width::Byte => 0xFF,
        Width::Half => 0xFFFF,
        Width::Word => u32::MAX,
    }
}
