//! Waves begin where they were asked to, hold as many cycles, and cost the model nothing else.
#![cfg(feature = "waves")]

use std::path::PathBuf;

use tandem_contract::nic::{Arrival, Bus, Cycle, DmaRequest, DmaResponse, HostPort, Nic, WirePort};
use tandem_rtl_bindings::{Rtl, RtlOptions, WaveRequest, WaveStart};

/// Nothing on either side but one frame that arrives at cycle 300.
struct Quiet {
    sent: bool,
}

impl HostPort for Quiet {
    fn request(&mut self, _: Cycle, request: DmaRequest<'_>) {
        panic!("a NIC without a driver asked for memory: {request:?}");
    }

    fn response(&mut self, _: Cycle, _: &mut DmaResponse) -> bool {
        false
    }

    fn next_response_at(&self) -> Option<Cycle> {
        None
    }
}

impl WirePort for Quiet {
    fn arriving(&mut self, cycle: Cycle, frame: &mut Vec<u8>) -> Option<Arrival> {
        if self.sent || cycle < 300 {
            return None;
        }
        self.sent = true;
        frame.clear();
        frame.resize(100, 0xFF);
        Some(Arrival { error: false })
    }

    fn next_arrival_at(&self) -> Option<Cycle> {
        (!self.sent).then_some(300)
    }

    fn ready(&mut self, _: Cycle) -> bool {
        true
    }

    fn departed(&mut self, _: Cycle, _: &[u8]) {}
}

/// First and last time in an FST file: the header block's fields (its type byte 0, its length of 8).
fn times(path: &PathBuf) -> (u64, u64) {
    let bytes = std::fs::read(path).unwrap();
    assert_eq!(bytes[0], 0, "a header block comes first");
    let field = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap());
    assert_eq!(field(1), 329, "length of a header block");
    (field(9), field(17))
}

fn run(start: WaveStart, name: &str) -> (u64, u64) {
    let path = std::env::temp_dir().join(format!("tandem-{}-{name}.fst", std::process::id()));
    let request = WaveRequest { path: path.clone(), start, cycles: 20 };
    let options = RtlOptions { waves: Some(request), ..RtlOptions::new(64) };
    let mut nic = Rtl::new(options).unwrap();
    let mut side = Quiet { sent: false };
    let mut wire = Quiet { sent: false };
    let mut bus = Bus { host: &mut side, wire: &mut wire };
    for _ in 0..4 {
        nic.run(&mut bus, 1_000).unwrap();
        if nic.now() < 300 {
            nic.skip_to(300);
        }
        nic.bar_read(&mut bus, 0x4000, tandem_contract::nic::Width::Word).unwrap();
    }
    for _ in 0..30 {
        nic.bar_read(&mut bus, 0x4000, tandem_contract::nic::Width::Word).unwrap();
    }
    drop(nic);
    let times = times(&path);
    std::fs::remove_file(&path).unwrap();
    times
}

#[test]
fn waves_start_at_a_cycle_or_a_frame() {
    // Two samples a cycle of 4 ns: the low phase and the edge.
    let (first, last) = run(WaveStart::AtCycle(302), "cycle");
    assert_eq!((first, last), (302 * 4, (302 + 19) * 4 + 2));
    let (first, last) = run(WaveStart::AtArrival(0), "frame");
    assert_eq!((first, last), (300 * 4, (300 + 19) * 4 + 2));
}
