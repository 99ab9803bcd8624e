//! The trait that every model of the NIC implements, and the two sides it stands between.
//!
//! The boundary is the one that the RTL has: a PCIe core's ports on the host side, a MAC's on the
//! wire side. It is cut at whole DMA bursts and whole frames, so that a model in plain Rust can stand
//! here too; beats and handshakes are the business of the verilated model's wrapper.
//!
//! A model never calls back into its owner outside [`HostPort`] and [`WirePort`], has no thread and
//! no clock of its own: nothing moves but in a call that is given a [`Bus`].

use thiserror::Error;

/// Clock cycles since the chip's reset. Free-running cosimulation counts a cycle as 4 ns.
pub type Cycle = u64;

/// Facts about a NIC that do not change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NicParams {
    /// Name of the model for reports, such as `rtl` or `reference`.
    pub model: &'static str,
    /// Width of the data path in bits: 64, 128, 256 or 512.
    pub data_w_bits: u32,
    /// Pairs of receive and transmit queues.
    pub queue_pairs: u16,
    /// Largest queue size; any size from 1 up to it may be used.
    pub queue_size_max: u16,
    /// Longest Ethernet frame in bytes without FCS, either way.
    pub frame_len_max: u32,
    /// Entries in the MSI-X table.
    pub msix_vectors: u16,
    /// Station address.
    pub mac: [u8; 6],
    /// MTU reported in the device configuration.
    pub mtu: u16,
}

impl Default for NicParams {
    fn default() -> Self {
        Self {
            model: "unnamed",
            data_w_bits: 512,
            queue_pairs: 1,
            queue_size_max: 256,
            frame_len_max: 9_216 + 14 + 4,
            msix_vectors: 3,
            mac: [0x02, 0x54, 0x4E, 0x44, 0x4D, 0x01],
            mtu: 1_500,
        }
    }
}

/// What a DMA request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DmaKind {
    /// Host memory to NIC.
    Read,
    /// NIC to host memory; MSI-X messages are writes of four bytes.
    Write,
}

/// One burst, as it leaves the NIC. It never crosses a 4 KiB border.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DmaRequest<'a> {
    /// Direction.
    pub kind: DmaKind,
    /// AXI identifier: responses of one identifier and direction come in request order, others in any.
    pub id: u16,
    /// PCI function on whose behalf the request is made.
    pub function: u8,
    /// First byte; any alignment.
    pub addr: u64,
    /// Length in bytes, at least 1.
    pub len: u32,
    /// For a write, the `len` bytes; empty for a read.
    pub data: &'a [u8],
}

/// The answer to one [`DmaRequest`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DmaResponse {
    /// Whether this answers a write.
    pub write: bool,
    /// Identifier of the request.
    pub id: u16,
    /// Bus error: nothing was read, or nothing may be assumed written.
    pub error: bool,
    /// For a read without error, exactly the requested bytes.
    pub data: Vec<u8>,
}

/// The host's memory as the NIC's DMA sees it.
///
/// A write takes effect no later than its response; a read's bytes are those of some moment between
/// request and response.
pub trait HostPort {
    /// Takes a request at `cycle`. Never refuses; how many may be in flight is the NIC's to limit.
    fn request(&mut self, cycle: Cycle, request: DmaRequest<'_>);

    /// Moves the next response that is due at `cycle` into `response`, reusing its buffer; false when
    /// none is due.
    fn response(&mut self, cycle: Cycle, response: &mut DmaResponse) -> bool;

    /// When the next response is due, if any request is outstanding.
    fn next_response_at(&self) -> Option<Cycle>;
}

/// A frame that arrives from the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// The MAC found the frame damaged (bad FCS).
    pub error: bool,
}

/// The wire as the NIC's MAC sees it. Frames are without preamble and FCS.
pub trait WirePort {
    /// Asked whenever the receive side is free: moves the frame whose first byte arrives at or before
    /// `cycle` into `frame` (cleared first).
    fn arriving(&mut self, cycle: Cycle, frame: &mut Vec<u8>) -> Option<Arrival>;

    /// When the next frame begins to arrive, if one is known to come.
    fn next_arrival_at(&self) -> Option<Cycle>;

    /// Whether the MAC takes a beat of a departing frame at `cycle`.
    fn ready(&mut self, cycle: Cycle) -> bool;

    /// A frame has left; `cycle` is that of its last beat.
    fn departed(&mut self, cycle: Cycle, frame: &[u8]);
}

/// Both sides of the NIC, lent for the length of one call.
pub struct Bus<'a> {
    /// Host memory.
    pub host: &'a mut dyn HostPort,
    /// The wire.
    pub wire: &'a mut dyn WirePort,
}

/// Width of a register access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// 8 bits.
    Byte,
    /// 16 bits.
    Half,
    /// 32 bits.
    Word,
}

impl Width {
    /// Length in bytes.
    pub const fn bytes(self) -> u32 {
        match self {
            Width::Byte => 1,
            Width::Half => 2,
            Width::Word => 4,
        }
    }
}

/// What the PCIe core tells the function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FunctionControl {
    /// Bus-master enable: without it no DMA is issued.
    pub bus_master: bool,
    /// MSI-X enable. Without it interrupts show in ISR only.
    pub msix_enable: bool,
    /// MSI-X function mask.
    pub msix_function_mask: bool,
}

/// Why a call on the NIC failed. None of these can be caused by a driver or a peer: each is a fault of
/// the model and a finding.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NicError {
    /// No answer in the number of cycles in which every access must be answered.
    #[error("{what} unanswered after {cycles} cycles (at cycle {at})")]
    Hang {
        /// What was asked.
        what: &'static str,
        /// How long it waited.
        cycles: Cycle,
        /// When it gave up.
        at: Cycle,
    },
    /// The model broke a rule of a bus.
    #[error("protocol violation at cycle {at}: {what}")]
    Protocol {
        /// What was wrong.
        what: String,
        /// When.
        at: Cycle,
    },
}

/// How a [`Nic::run`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Cycles for which the clock ran.
    pub cycles: Cycle,
    /// Nothing is under way in the NIC: only a register access, a response or a frame can wake it.
    pub idle: bool,
}

/// A NIC, verilated or in plain Rust.
pub trait Nic {
    /// Facts.
    fn params(&self) -> &NicParams;

    /// The clock.
    fn now(&self) -> Cycle;

    /// Reads BAR 0. `offset` is a multiple of the width and inside BAR 0; unused high bits are zero.
    /// The clock runs until the answer is there.
    fn bar_read(&mut self, bus: &mut Bus<'_>, offset: u32, width: Width) -> Result<u32, NicError>;

    /// Writes BAR 0. The clock runs until the write is answered.
    fn bar_write(
        &mut self,
        bus: &mut Bus<'_>,
        offset: u32,
        width: Width,
        value: u32,
    ) -> Result<(), NicError>;

    /// Reads the dword at byte `offset` of configuration space, within the NIC's part of it
    /// (see [`crate::layout`]).
    fn config_read(&mut self, bus: &mut Bus<'_>, offset: u16) -> Result<u32, NicError>;

    /// Writes the bytes enabled in `enable` (bit 0 the lowest) of that dword.
    fn config_write(
        &mut self,
        bus: &mut Bus<'_>,
        offset: u16,
        value: u32,
        enable: u8,
    ) -> Result<(), NicError>;

    /// Sets what the PCIe core tells the function.
    fn set_control(&mut self, control: FunctionControl);

    /// Function-level reset: stops issue, drains what is outstanding, forgets everything. The clock
    /// runs until the NIC reports that it is done.
    fn function_reset(&mut self, bus: &mut Bus<'_>) -> Result<(), NicError>;

    /// Runs the clock for at most `cycles`, less when the NIC becomes idle and nothing is due from
    /// host or wire at the current cycle.
    fn run(&mut self, bus: &mut Bus<'_>, cycles: Cycle) -> Result<Run, NicError>;

    /// Advances the clock to `cycle` without work. The NIC must be idle.
    fn skip_to(&mut self, cycle: Cycle);

    /// Sets the link state that the device configuration reports.
    fn set_link(&mut self, up: bool);

    /// Appends the decisions made since the last call.
    fn drain_trace(&mut self, out: &mut Vec<crate::trace::Event>);
}

impl<N: Nic + ?Sized> Nic for Box<N> {
    fn params(&self) -> &NicParams {
        (**self).params()
    }

    fn now(&self) -> Cycle {
        (**self).now()
    }

    fn bar_read(&mut self, bus: &mut Bus<'_>, offset: u32, width: Width) -> Result<u32, NicError> {
        (**self).bar_read(bus, offset, width)
    }

    fn bar_write(
        &mut self,
        bus: &mut Bus<'_>,
        offset: u32,
        width: Width,
        value: u32,
    ) -> Result<(), NicError> {
        (**self).bar_write(bus, offset, width, value)
    }

    fn config_read(&mut self, bus: &mut Bus<'_>, offset: u16) -> Result<u32, NicError> {
        (**self).config_read(bus, offset)
    }

    fn config_write(
        &mut self,
        bus: &mut Bus<'_>,
        offset: u16,
        value: u32,
        enable: u8,
    ) -> Result<(), NicError> {
        (**self).config_write(bus, offset, value, enable)
    }

    fn set_control(&mut self, control: FunctionControl) {
        (**self).set_control(control);
    }

    fn function_reset(&mut self, bus: &mut Bus<'_>) -> Result<(), NicError> {
        (**self).function_reset(bus)
    }

    fn run(&mut self, bus: &mut Bus<'_>, cycles: Cycle) -> Result<Run, NicError> {
        (**self).run(bus, cycles)
    }

    fn skip_to(&mut self, cycle: Cycle) {
        (**self).skip_to(cycle);
    }

    fn set_link(&mut self, up: bool) {
        (**self).set_link(up);
    }

    fn drain_trace(&mut self, out: &mut Vec<crate::trace::Event>) {
        (**self).drain_trace(out);
    }
}
