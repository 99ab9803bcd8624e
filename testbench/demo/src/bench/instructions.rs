//! Instructions of driver and stack alone: callgrind over a run of this very program, switched on where
//! the host's part begins and off where it calls into the simulated NIC.

use std::os::fd::BorrowedFd;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use tandem_cosim::InProcess;
use tandem_device::{DmaError, Region, RegionId};
use tandem_virtio::{PciTransport, TransportError, Width};

use super::{Offload, Way};
use crate::nic::AnyNic;

/// Functions at whose start callgrind's counting is switched on and at whose end off, or, inside
/// another, the other way round. All are never inlined.
const TOGGLES: [&str; 4] = ["*host_poll*", "*host_read*", "*host_serve*", "*simulated_nic*"];

/// A NIC whose simulation is not counted.
pub(super) struct Excluded(pub(super) InProcess<AnyNic>);

/// The only way into the simulation while the host's part runs.
#[inline(never)]
fn simulated_nic<T>(call: impl FnOnce() -> T) -> T {
    call()
}

impl PciTransport for Excluded {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn config_read(&self, offset: u16, width: Width) -> Result<u32, TransportError> {
        simulated_nic(|| self.0.config_read(offset, width))
    }

    fn config_write(&self, offset: u16, width: Width, value: u32) -> Result<(), TransportError> {
        simulated_nic(|| self.0.config_write(offset, width, value))
    }

    fn bar_len(&self, bar: u8) -> Option<u64> {
        self.0.bar_len(bar)
    }

    fn bar_read(&self, bar: u8, offset: u64, width: Width) -> Result<u64, TransportError> {
        simulated_nic(|| self.0.bar_read(bar, offset, width))
    }

    fn bar_write(
        &self,
        bar: u8,
        offset: u64,
        width: Width,
        value: u64,
    ) -> Result<(), TransportError> {
        simulated_nic(|| self.0.bar_write(bar, offset, width, value))
    }

    fn dma_map(&self, region: &Arc<Region>) -> Result<u64, DmaError> {
        simulated_nic(|| self.0.dma_map(region))
    }

    fn dma_unmap(&self, region: RegionId) -> Result<(), DmaError> {
        simulated_nic(|| self.0.dma_unmap(region))
    }

    fn vectors(&self) -> u16 {
        self.0.vectors()
    }

    fn enable_vectors(&self, count: u16) -> Result<(), TransportError> {
        simulated_nic(|| self.0.enable_vectors(count))
    }

    fn interrupt_pending(&self, vector: u16) -> Result<bool, TransportError> {
        simulated_nic(|| self.0.interrupt_pending(vector))
    }

    fn interrupt_fd(&self, vector: u16) -> Option<BorrowedFd<'_>> {
        self.0.interrupt_fd(vector)
    }

    fn reset_function(&self) -> Result<(), TransportError> {
        simulated_nic(|| self.0.reset_function())
    }

    fn pause(&self) {
        simulated_nic(|| self.0.pause());
    }
}

/// Instructions that the host's part of one transfer took, its set-up included.
///
/// # Errors
/// When valgrind is not installed or does not count.
pub(super) fn count(offload: Offload, way: Way, bytes: u32) -> Result<u64> {
    let out = std::env::temp_dir().join(format!("tandem-callgrind-{}", std::process::id()));
    let me = std::env::current_exe().context("this program does not know its file")?;
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--collect-atstart=no"]);
    valgrind.arg(format!("--callgrind-out-file={}", out.display()));
    for function in TOGGLES {
        valgrind.arg(format!("--toggle-collect={function}"));
    }
    let name = |value: Option<clap::builder::PossibleValue>| {
        value.map(|value| value.get_name().to_owned()).unwrap_or_default()
    };
    valgrind.arg(me).arg("bench-offload-one");
    valgrind.args(["--offload", &name(offload.to_possible_value())]);
    valgrind.args(["--way", &name(way.to_possible_value())]);
    valgrind.args(["--bytes", &bytes.to_string()]);
    let ran = valgrind.output().context("valgrind cannot be run: install valgrind")?;
    if !ran.status.success() {
        let text = String::from_utf8_lossy(&ran.stderr);
        bail!("valgrind: {}", text.lines().last().unwrap_or("it failed"));
    }
    let text = std::fs::read_to_string(&out).context("callgrind left no counts")?;
    std::fs::remove_file(&out).context("cannot remove callgrind's file")?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
    let total: u64 = total.and_then(|text| text.trim().parse().ok()).context("no totals")?;
    // Copying alone takes more than one instruction for a hundred bytes.
    ensure!(
        total > u64::from(bytes) / 100,
        "callgrind counted only {total}: a function is inlined"
    );
    Ok(total)
}
