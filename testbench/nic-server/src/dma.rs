//! The client's memory as the NIC's DMA engine sees it, and MSI-X messages on their way out.
//!
//! A request takes effect when it is made; its response comes a settable number of cycles later, in order. A
//! write of four bytes into the window of [`MSIX_BASE`] is an interrupt message: the server put those addresses
//! into the NIC's MSI-X table itself. Because it is a write like any other, it cannot overtake what the NIC wrote
//! before it.

use std::collections::VecDeque;

use tandem_contract::nic::{Cycle, DmaKind, DmaRequest, DmaResponse, HostPort};
use tandem_vfio_user::pci::IRQ_MSIX;
use tandem_vfio_user::server::Host;

/// First address of the interrupt messages; vector v has its own at 16 v above. It lies where no IOMMU has
/// addresses, so that no mapping of a client's can meet it.
pub const MSIX_BASE: u64 = 0xffff_ffff_fee0_0000;
/// Bytes of the window: 2048 vectors.
pub const MSIX_WINDOW: u64 = 2048 * MSIX_STRIDE;
const MSIX_STRIDE: u64 = 16;

/// Address of the message of a vector.
pub fn msix_address(vector: u16) -> u64 {
    MSIX_BASE + u64::from(vector) * MSIX_STRIDE
}

/// Counters of DMA.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DmaCounters {
    /// Read bursts.
    pub reads: u64,
    /// Write bursts, messages excluded.
    pub writes: u64,
    /// Bursts answered with a bus error.
    pub errors: u64,
    /// MSI-X messages.
    pub messages: u64,
}

/// Responses on their way to the NIC.
#[derive(Debug)]
pub struct Responses {
    latency: Cycle,
    due: VecDeque<(Cycle, DmaResponse)>,
    /// Buffers to be used again.
    spare: Vec<Vec<u8>>,
    counters: DmaCounters,
}

impl Responses {
    /// With so many cycles between a request and its response.
    pub fn new(latency: Cycle) -> Self {
        Self { latency, due: VecDeque::new(), spare: Vec::new(), counters: DmaCounters::default() }
    }

    /// Counters since the beginning.
    pub fn counters(&self) -> DmaCounters {
        self.counters
    }
}

/// The port for the length of one call; without a host every access is a bus error.
pub struct DmaPort<'a, 'h> {
    host: Option<&'a mut Host<'h>>,
    responses: &'a mut Responses,
}

impl<'a, 'h> DmaPort<'a, 'h> {
    /// Joins the two.
    pub fn new(host: Option<&'a mut Host<'h>>, responses: &'a mut Responses) -> Self {
        Self { host, responses }
    }

    /// Carries a request out; `true` when it succeeded.
    fn carry_out(&mut self, request: &DmaRequest<'_>, data: &mut Vec<u8>) -> bool {
        let Some(host) = self.host.as_deref_mut() else { return false };
        match request.kind {
            DmaKind::Read => {
                self.responses.counters.reads += 1;
                data.resize(request.len as usize, 0);
                host.dma_read(request.addr, data).is_ok()
            }
            DmaKind::Write
                if request.addr >= MSIX_BASE && request.addr - MSIX_BASE < MSIX_WINDOW =>
            {
                self.responses.counters.messages += 1;
                let vector = (request.addr - MSIX_BASE) / MSIX_STRIDE;
                host.trigger(IRQ_MSIX, vector as u32);
                true
            }
            DmaKind::Write => {
                self.responses.counters.writes += 1;
                host.dma_write(request.addr, request.data).is_ok()
            }
        }
    }
}

impl HostPort for DmaPort<'_, '_> {
    fn request(&mut self, cycle: Cycle, request: DmaRequest<'_>) {
        let mut data = self.responses.spare.pop().unwrap_or_default();
        data.clear();
        let error = !self.carry_out(&request, &mut data);
        if error {
            self.responses.counters.errors += 1;
            tracing::debug!(kind = ?request.kind, addr = request.addr, len = request.len, "DMA refused");
            data.clear();
        }
        let response =
            DmaResponse { write: request.kind == DmaKind::Write, id: request.id, error, data };
        self.responses.due.push_back((cycle + self.responses.latency, response));
    }

    fn response(&mut self, cycle: Cycle, response: &mut DmaResponse) -> bool {
        match self.responses.due.front() {
            Some((due, _)) if *due <= cycle => {}
            _ => return false,
        }
        let Some((_, next)) = self.responses.due.pop_front() else { return false };
        let used = std::mem::replace(response, next);
        self.responses.spare.push(used.data);
        true
    }

    fn next_response_at(&self) -> Option<Cycle> {
        self.responses.due.front().map(|(due, _)| *due)
    }
}
