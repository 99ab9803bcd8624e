//! The same register accesses on both models: any offset, any width, the PCI_CFG window, resets.
//!
//! Bus mastering is off and MSI-X masked by the function, so that nothing happens but by an access. What depends
//! on time is left out: the counter `cycles`. After each write the clock runs until the NIC is idle, because a
//! reset of the RTL takes some cycles and one of the reference none.

use tandem_contract::layout::{self, common};
use tandem_contract::nic::{Bus, FunctionControl, Nic, NicError, Width};
use tandem_cosim::{MemoryConfig, Random};
use thiserror::Error;

use crate::memory::{Host, LEN};
use crate::wire::Wire;

/// How the two differ.
#[derive(Debug, Error)]
pub enum Difference {
    /// One of them failed.
    #[error(transparent)]
    Nic(#[from] NicError),
    /// An answer.
    #[error(
        "step {step}: {what} is {first:#x} in one and {second:#x} in the other; before: {before}"
    )]
    Answer {
        /// Number of the access.
        step: u64,
        /// Which.
        what: String,
        /// Of the first.
        first: u32,
        /// Of the second.
        second: u32,
        /// The last writes.
        before: String,
    },
    /// A reset does not end.
    #[error("step {0}: not idle after a write")]
    Endless(u64),
}

/// Cycles after a write in which the NIC must be idle.
const IDLE_CYCLES_MAX: u64 = 2_000;
/// Writes kept for messages.
const KEPT: usize = 24;

/// One access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    Read(u32, Width),
    Write(u32, Width, u32),
    ConfigRead(u16),
    ConfigWrite(u16, u32, u8),
    FunctionReset,
    Link(bool),
    Msix(bool),
}

/// A NIC in an environment in which nothing happens.
struct Side<N> {
    nic: N,
    host: Host,
    wire: Wire,
}

impl<N: Nic> Side<N> {
    fn new(nic: N) -> Self {
        let host = Host::new(vec![0; LEN], MemoryConfig::ideal());
        Self { nic, host, wire: Wire::new(1) }
    }

    fn control(&mut self, msix: bool) {
        self.nic.set_control(FunctionControl {
            bus_master: false,
            msix_enable: msix,
            msix_function_mask: true,
        });
    }

    fn perform(&mut self, access: Access, step: u64) -> Result<u32, Difference> {
        let mut bus = Bus { host: &mut self.host, wire: &mut self.wire };
        let answer = match access {
            Access::Read(offset, width) => self.nic.bar_read(&mut bus, offset, width)?,
            Access::ConfigRead(offset) => self.nic.config_read(&mut bus, offset)?,
            Access::Write(offset, width, value) => {
                let value = value & (u32::MAX >> (32 - 8 * width.bytes()));
                self.nic.bar_write(&mut bus, offset, width, value)?;
                0
            }
            Access::ConfigWrite(offset, value, enable) => {
                self.nic.config_write(&mut bus, offset, value, enable)?;
                0
            }
            Access::FunctionReset => {
                self.nic.function_reset(&mut bus)?;
                self.control(true);
                0
            }
            Access::Link(up) => {
                self.nic.set_link(up);
                0
            }
            Access::Msix(on) => {
                self.control(on);
                0
            }
        };
        let mut bus = Bus { host: &mut self.host, wire: &mut self.wire };
        if !matches!(access, Access::Read(..)) && !self.nic.run(&mut bus, IDLE_CYCLES_MAX)?.idle {
            return Err(Difference::Endless(step));
        }
        Ok(answer)
    }
}

fn value(random: &mut Random) -> u32 {
    match random.below(6) {
        0 => 0,
        1 => u32::MAX,
        2 => 1 << random.below(32),
        3 | 4 => random.below(20) as u32,
        _ => random.next_u64() as u32,
    }
}

fn offset(random: &mut Random, width: Width) -> u32 {
    let offset = match random.below(16) {
        0..8 => random.below(u64::from(layout::COMMON_LEN) + 8) as u32,
        8 => layout::ISR_BASE + random.below(8) as u32,
        9 => layout::DEVICE_BASE + random.below(28) as u32,
        10 => layout::NOTIFY_BASE + random.below(20) as u32,
        11 => layout::COUNTERS_BASE + random.below(0xA0) as u32,
        12 | 13 => layout::MSIX_TABLE_BASE + random.below(64) as u32,
        14 => layout::MSIX_PBA_BASE + random.below(24) as u32,
        _ => random.below(layout::BAR0_LEN.into()) as u32,
    };
    offset - offset % width.bytes()
}

fn access(random: &mut Random) -> Access {
    let width = [Width::Byte, Width::Half, Width::Word][random.below(3) as usize];
    let config = (layout::CFG_NIC_BASE
        + 4 * random.below(u64::from(layout::CFG_NIC_END - layout::CFG_NIC_BASE) / 4) as u16)
        .max(if random.chance(2, 3) { layout::CFG_PCI_CFG_CAP } else { 0 });
    match random.below(64) {
        0..24 => Access::Read(offset(random, width), width),
        24..38 => Access::Write(offset(random, width), width, value(random)),
        // Steps of a set-up, so that deeper states are reached.
        38 => Access::Write(
            common::DEVICE_STATUS,
            Width::Byte,
            [1, 3, 11, 11, 15, 15, 128][random.below(7) as usize],
        ),
        39 => Access::Write(common::DRIVER_FEATURE_SELECT, Width::Word, random.below(3) as u32),
        40 | 41 => {
            let set = tandem_contract::features::offered();
            let mask = if random.chance(1, 4) { random.next_u64() } else { u64::MAX };
            let set = set & mask;
            let half = if random.chance(1, 2) { set as u32 } else { (set >> 32) as u32 };
            Access::Write(common::DRIVER_FEATURE, Width::Word, half)
        }
        42 | 43 => Access::Write(common::QUEUE_SELECT, Width::Half, random.below(3) as u32),
        44 => Access::Write(common::QUEUE_ENABLE, Width::Half, random.below(3) as u32),
        45 => Access::Write(common::QUEUE_RESET, Width::Half, random.below(3) as u32),
        46..50 => Access::ConfigRead(config),
        50..54 => Access::ConfigWrite(config, value(random), random.below(16) as u8),
        // The window, pointed at something that is there.
        54 => {
            let offset = offset(random, width);
            Access::ConfigWrite(layout::CFG_PCI_CFG_CAP + 8, offset, 0xF)
        }
        55 => Access::ConfigWrite(layout::CFG_PCI_CFG_CAP + 12, random.below(6) as u32, 0xF),
        56 => Access::ConfigWrite(layout::CFG_PCI_CFG_CAP + 4, 0, 0xF),
        57 => Access::ConfigRead(layout::CFG_PCI_CFG_CAP + 16),
        58 | 59 => Access::Link(random.chance(1, 2)),
        60 => Access::Msix(random.chance(1, 2)),
        61 if random.chance(1, 8) => Access::FunctionReset,
        _ => Access::Read(offset(random, Width::Word), Width::Word),
    }
}

/// Whether an access shows the passing of time.
fn of_time(access: Access, window: Option<u32>) -> bool {
    let cycles = layout::COUNTERS_BASE + 8;
    let at = match access {
        Access::Read(offset, _) => Some(offset),
        Access::ConfigRead(_) => window,
        _ => None,
    };
    at.is_some_and(|at| at & !7 == cycles)
}

/// Puts `accesses` random accesses to both; their answers must be the same.
///
/// # Errors
/// [`Difference`].
pub fn compare<A: Nic, B: Nic>(
    first: A,
    second: B,
    seed: u64,
    accesses: u64,
) -> Result<(), Difference> {
    let mut random = Random::new(seed);
    let (mut first, mut second) = (Side::new(first), Side::new(second));
    first.control(true);
    second.control(true);
    let mut before = std::collections::VecDeque::new();
    let mut window = None;
    for step in 0..accesses {
        let access = access(&mut random);
        if let Access::ConfigWrite(at, value, enable) = access
            && at == layout::CFG_PCI_CFG_CAP + 8
        {
            // Where the window may point; partly written, it may point anywhere.
            window = (enable == 0xF).then_some(value).or(Some(layout::COUNTERS_BASE + 8));
        }
        if of_time(access, window) {
            continue;
        }
        let one = first.perform(access, step)?;
        let other = second.perform(access, step)?;
        if one != other {
            return Err(Difference::Answer {
                step,
                what: format!("{access:x?}"),
                first: one,
                second: other,
                before: format!("{before:x?}"),
            });
        }
        if !matches!(access, Access::Read(..) | Access::ConfigRead(..)) {
            if before.len() == KEPT {
                before.pop_front();
            }
            before.push_back(access);
        }
    }
    Ok(())
}
