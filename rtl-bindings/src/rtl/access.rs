//! Register accesses: AXI4-Lite, configuration space, function-level reset. One at a time.

use tandem_contract::nic::Width;

use super::Ports;
use crate::Model;

/// The access under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Doing {
    #[default]
    Nothing,
    Read {
        offset: u32,
        /// The address was taken.
        asked: bool,
    },
    Write {
        offset: u32,
        data: u32,
        strobes: u8,
        address_taken: bool,
        data_taken: bool,
    },
    Config {
        offset: u16,
        write: Option<(u32, u8)>,
    },
    Reset,
}

/// Drives the slave ports.
#[derive(Debug, Default)]
pub(super) struct Access {
    doing: Doing,
    answer: u32,
    /// Ports hold their idle values.
    parked: bool,
}

impl Access {
    pub(super) fn is_idle(&self) -> bool {
        self.doing == Doing::Nothing
    }

    pub(super) fn start_read(&mut self, offset: u32) {
        self.doing = Doing::Read { offset, asked: false };
    }

    pub(super) fn start_write(&mut self, offset: u32, width: Width, value: u32) {
        let lane = offset % 4;
        let mask = (1u64 << (8 * width.bytes())) - 1;
        self.doing = Doing::Write {
            offset,
            data: (value & mask as u32) << (8 * lane),
            strobes: (((1 << width.bytes()) - 1) << lane) as u8,
            address_taken: false,
            data_taken: false,
        };
    }

    pub(super) fn start_config(&mut self, offset: u16, write: Option<(u32, u8)>) {
        self.doing = Doing::Config { offset: offset & !3, write };
    }

    pub(super) fn start_reset(&mut self) {
        self.doing = Doing::Reset;
    }

    /// The dword that was read last.
    pub(super) fn answer(&self) -> u32 {
        self.answer
    }

    /// The part of it that `width` bytes at `offset` are.
    pub(super) fn lane(&self, offset: u32, width: Width) -> u32 {
        let mask = (1u64 << (8 * width.bytes())) - 1;
        (self.answer >> (8 * (offset % 4))) & mask as u32
    }

    pub(super) fn drive(&mut self, model: &mut Model, ports: &Ports) {
        // An access may follow another without a cycle between them: what was held for the last one is
        // let go of.
        if !self.parked {
            model.set(ports.cfg_valid_i, 0);
            model.set(ports.flr_req_i, 0);
        }
        match self.doing {
            Doing::Nothing if self.parked => {}
            Doing::Nothing => {
                model.set(ports.s_axil_arvalid_i, 0);
                model.set(ports.s_axil_awvalid_i, 0);
                model.set(ports.s_axil_wvalid_i, 0);
                model.set(ports.s_axil_rready_i, 0);
                model.set(ports.s_axil_bready_i, 0);
                self.parked = true;
            }
            Doing::Read { offset, asked } => {
                self.parked = false;
                model.set(ports.s_axil_araddr_i, offset.into());
                model.set(ports.s_axil_arvalid_i, (!asked).into());
                model.set(ports.s_axil_rready_i, 1);
            }
            Doing::Write { offset, data, strobes, address_taken, data_taken } => {
                self.parked = false;
                model.set(ports.s_axil_awaddr_i, offset.into());
                model.set(ports.s_axil_awvalid_i, (!address_taken).into());
                model.set(ports.s_axil_wdata_i, data.into());
                model.set(ports.s_axil_wstrb_i, strobes.into());
                model.set(ports.s_axil_wvalid_i, (!data_taken).into());
                model.set(ports.s_axil_bready_i, 1);
            }
            Doing::Config { offset, write } => {
                self.parked = false;
                model.set(ports.cfg_valid_i, 1);
                model.set(ports.cfg_write_i, write.is_some().into());
                model.set(ports.cfg_addr_i, offset.into());
                let (value, enable) = write.unwrap_or((0, 0xF));
                model.set(ports.cfg_wdata_i, value.into());
                model.set(ports.cfg_be_i, enable.into());
            }
            Doing::Reset => {
                self.parked = false;
                model.set(ports.flr_req_i, 1);
            }
        }
    }

    /// Looks at the answers; true when a handshake took place.
    pub(super) fn sample(&mut self, model: &Model, ports: &Ports) -> bool {
        match &mut self.doing {
            Doing::Nothing => false,
            Doing::Read { asked, .. } => {
                let taken = !*asked && model.is_set(ports.s_axil_arready_o);
                *asked |= taken;
                if !*asked || !model.is_set(ports.s_axil_rvalid_o) {
                    return taken;
                }
                // An error response reads as PCI does when nobody answers.
                let refused = model.get(ports.s_axil_rresp_o) != 0;
                self.answer =
                    if refused { u32::MAX } else { model.get(ports.s_axil_rdata_o) as u32 };
                self.doing = Doing::Nothing;
                true
            }
            Doing::Write { address_taken, data_taken, .. } => {
                let address_now = !*address_taken && model.is_set(ports.s_axil_awready_o);
                let data_now = !*data_taken && model.is_set(ports.s_axil_wready_o);
                *address_taken |= address_now;
                *data_taken |= data_now;
                if *address_taken && *data_taken && model.is_set(ports.s_axil_bvalid_o) {
                    self.doing = Doing::Nothing;
                    return true;
                }
                address_now || data_now
            }
            Doing::Config { .. } => {
                let done = model.is_set(ports.cfg_ready_o);
                if done {
                    self.answer = model.get(ports.cfg_rdata_o) as u32;
                    self.doing = Doing::Nothing;
                }
                done
            }
            Doing::Reset => {
                let done = model.is_set(ports.flr_done_o);
                if done {
                    self.doing = Doing::Nothing;
                }
                done
            }
        }
    }
}
