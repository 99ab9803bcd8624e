//! Driver, cosimulation and NIC together: frames both ways, rough memory, repeatable runs, removal.

use tandem_contract::nic::NicParams;
use tandem_cosim::{LineRate, MemoryConfig};
use tandem_cosim_bench::{Carried, Rig, RigError, Simulated};
use tandem_device::DeviceError;
use tandem_reference::ReferenceNic;

fn reference() -> ReferenceNic {
    ReferenceNic::new(NicParams { model: "reference", ..NicParams::default() })
}

/// A line slow enough that even a NIC which does one thing after the other keeps up.
const SLOW: LineRate = LineRate::new(1, 2);

fn carries<N: Simulated + 'static>(make: &dyn Fn() -> N, memory: MemoryConfig) -> Carried {
    let mut rig = Rig::new(make(), memory, SLOW).unwrap();
    let mut total = Carried::default();
    for len in [60, 61, 127, 128, 1_000, 1_514] {
        let carried = rig.carry(40, 40, len).unwrap();
        assert_eq!((carried.sent, carried.received), (40, 40), "{len} bytes: {carried:?}");
        assert_eq!(carried.memory.unmapped, 0);
        assert_eq!(carried.memory.crossed_page, 0);
        total.cycles += carried.cycles;
        total.memory.reads += carried.memory.reads;
        total.memory.writes += carried.memory.writes;
    }
    total
}

fn is_removed_in_mid_traffic<N: Simulated + 'static>(make: &dyn Fn() -> N) {
    let mut rig = Rig::new(make(), MemoryConfig::default(), SLOW).unwrap();
    rig.carry(20, 20, 300).unwrap();
    rig.nic().pull_out();
    // What is under way does not come; how that shows is the driver's to say.
    let ended = rig.carry(20, 0, 300).map(drop);
    assert!(
        matches!(ended, Err(RigError::Device(DeviceError::Gone { .. }) | RigError::Stuck { .. })),
        "{ended:?}"
    );
}

#[test]
fn reference_carries_frames_over_any_memory() {
    carries(&reference, MemoryConfig::ideal());
    carries(&reference, MemoryConfig::default());
    carries(&reference, MemoryConfig::rough(11));
}

#[test]
fn reference_runs_repeat() {
    let run = |seed| carries(&reference, MemoryConfig::rough(seed));
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6), "another seed, another run");
}

#[test]
fn reference_is_removed_in_mid_traffic() {
    is_removed_in_mid_traffic(&reference);
}

#[cfg(feature = "rtl")]
mod rtl {
    use super::*;
    use tandem_rtl_bindings::{Rtl, RtlOptions, Stalls};

    fn rtl(width: u32, seed: u32) -> impl Fn() -> Rtl {
        move || {
            // Random registers at start, and a memory side that pauses.
            let mut options = RtlOptions::new(width);
            options.random_state = Some(seed);
            options.stalls = Stalls::new((seed % 3 * 40) as u8, seed.into());
            Rtl::new(options).unwrap()
        }
    }

    #[test]
    fn rtl_carries_frames_over_any_memory() {
        for width in [64, 512] {
            carries(&rtl(width, 3), MemoryConfig::ideal());
            carries(&rtl(width, 4), MemoryConfig::default());
            carries(&rtl(width, 5), MemoryConfig::rough(12));
        }
    }

    #[test]
    fn rtl_runs_repeat() {
        let run = |seed| carries(&rtl(64, seed), MemoryConfig::rough(1));
        assert_eq!(run(4), run(4));
        assert_ne!(run(4), run(5), "another seed, another run");
    }

    #[test]
    fn rtl_is_removed_in_mid_traffic() {
        is_removed_in_mid_traffic(&rtl(512, 1));
    }
}
