//! The bindings hold a NIC to the rules of its buses: a master that keeps them gets through, and each
//! of its planted faults is found and named.

use std::collections::VecDeque;

use tandem_contract::nic::{
    Arrival, Bus, Cycle, DmaKind, DmaRequest, DmaResponse, HostPort, Nic, NicError, Width, WirePort,
};
use tandem_contract::trace::Kind;
use tandem_rtl_bindings::{ModelDef, Rtl, RtlError, RtlOptions, Stalls, models};

/// First address of the memory.
const BASE: u64 = 0x1_0000_0000;

/// Memory of two pages that answers after a fixed time, and a wire that keeps what leaves.
struct World {
    memory: Vec<u8>,
    due: VecDeque<(Cycle, DmaResponse)>,
    requests: Vec<(DmaKind, u64, u32)>,
    frames: Vec<Vec<u8>>,
}

struct Host<'a>(&'a mut World);
struct Wire<'a>(&'a mut Vec<Vec<u8>>);

impl World {
    fn new() -> Self {
        let memory = (0..8192).map(|i: u32| (i % 251) as u8).collect();
        Self { memory, due: VecDeque::new(), requests: Vec::new(), frames: Vec::new() }
    }

    fn with<T>(&mut self, call: impl FnOnce(&mut Bus<'_>) -> T) -> T {
        let mut frames = std::mem::take(&mut self.frames);
        let result = call(&mut Bus { host: &mut Host(self), wire: &mut Wire(&mut frames) });
        self.frames = frames;
        result
    }
}

impl HostPort for Host<'_> {
    fn request(&mut self, cycle: Cycle, request: DmaRequest<'_>) {
        self.0.requests.push((request.kind, request.addr - BASE, request.len));
        let range = (request.addr - BASE) as usize..;
        let range = range.start..range.start + request.len as usize;
        let write = request.kind == DmaKind::Write;
        let mut response = DmaResponse { write, id: request.id, ..DmaResponse::default() };
        if write {
            self.0.memory[range].copy_from_slice(request.data);
        } else {
            response.data = self.0.memory[range].to_vec();
        }
        self.0.due.push_back((cycle + 40, response));
    }

    fn response(&mut self, cycle: Cycle, response: &mut DmaResponse) -> bool {
        match self.0.due.pop_front_if(|(due, _)| *due <= cycle) {
            Some((_, next)) => {
                *response = next;
                true
            }
            None => false,
        }
    }

    fn next_response_at(&self) -> Option<Cycle> {
        self.0.due.front().map(|(due, _)| *due)
    }
}

impl WirePort for Wire<'_> {
    fn arriving(&mut self, _: Cycle, _: &mut Vec<u8>) -> Option<Arrival> {
        None
    }

    fn next_arrival_at(&self) -> Option<Cycle> {
        None
    }

    fn ready(&mut self, cycle: Cycle) -> bool {
        cycle.is_multiple_of(3)
    }

    fn departed(&mut self, _: Cycle, frame: &[u8]) {
        self.0.push(frame.to_vec());
    }
}

fn options(width: u32, bug: u8, stalls: Stalls) -> RtlOptions {
    RtlOptions { bug: Some(bug), stalls, random_state: Some(99), ..RtlOptions::new(width) }
}

/// One round of the master: what it did, or how it was stopped.
fn round(def: &'static ModelDef, bug: u8, stalls: Stalls) -> Result<(Rtl, World), NicError> {
    let mut nic = Rtl::with_model(def, options(64, bug, stalls)).unwrap();
    let mut world = World::new();
    world.with(|bus| {
        nic.bar_write(bus, 0, Width::Word, 1)?;
        nic.run(bus, 200_000)
    })?;
    Ok((nic, world))
}

#[test]
fn a_master_that_keeps_the_rules_gets_through() {
    for stalls in [Stalls::default(), Stalls::new(150, 3)] {
        for (def, beat) in [(&models::FAULTY64, 8), (&models::FAULTY512, 64)] {
            let (mut nic, mut world) = round(def, 0, stalls).unwrap();
            // From byte 3 to the first byte of the third beat; from byte 0x45 to the second's last.
            let lane = 0x45 % beat;
            let expected =
                [(DmaKind::Write, 3, 2 * beat + 1 - 3), (DmaKind::Read, 0x45, 2 * beat - lane)];
            assert_eq!(world.requests, expected);
            assert_eq!(world.memory[2], 2, "not enabled, not written");
            // The master shows the same 64-bit word in each beat's low lanes, its number lowest.
            assert_eq!(world.memory[3..8], [0xA4, 0xA3, 0xA2, 0xA1, 0xA0]);
            assert_eq!(world.memory[beat as usize], 0x01);
            assert_eq!(world.memory[2 * beat as usize], 0x02);
            let untouched = 2 * beat as usize + 1;
            assert_eq!(world.memory[untouched], (untouched % 251) as u8);
            // The frame is what the read's first beat showed, from lane 5 on, in each of its beats.
            assert_eq!(world.frames.len(), 1);
            assert_eq!(world.frames[0].len(), 2 * beat as usize + 4);
            assert_eq!(world.frames[0][5], world.memory[0x45]);
            let mut events = Vec::new();
            nic.drain_trace(&mut events);
            assert_eq!(events.len(), 1);
            assert_eq!((events[0].kind, events[0].len), (Kind::TxFrame, 0x14));
            let rounds = world.with(|bus| nic.bar_read(bus, 0, Width::Word)).unwrap();
            assert_eq!(rounds, 1);
            let config = world.with(|bus| nic.config_read(bus, 0x94)).unwrap();
            assert_eq!(config, 0x94);
            world.with(|bus| nic.function_reset(bus)).unwrap();
            assert!(world.with(|bus| nic.run(bus, 1_000)).unwrap().idle);
        }
    }
}

#[test]
fn every_broken_rule_is_named() {
    let heavy = Stalls::new(200, 7);
    let cases: [(u8, Stalls, &str); 13] = [
        (1, Stalls::default(), "crosses 4 KiB"),
        (2, Stalls::default(), "wlast after 2 beats of 3"),
        (3, Stalls::default(), "256 beats without wlast"),
        (4, heavy, "m_axi_awaddr_o changed while stalled"),
        (5, heavy, "AW: valid was withdrawn"),
        (6, Stalls::default(), "not full width"),
        (7, Stalls::default(), "below the address"),
        (8, Stalls::default(), "a gap inside a frame"),
        (9, Stalls::default(), "tkeep"),
        (10, Stalls::default(), "no known kind"),
        (11, Stalls::default(), "assertion failed"),
        (16, Stalls::default(), "AR: 0x100000ffd with 2 beats crosses 4 KiB"),
        (17, Stalls::default(), "not INCR"),
    ];
    for (bug, stalls, wanted) in cases {
        let stopped = round(&models::FAULTY64, bug, stalls).map(drop);
        let Err(NicError::Protocol { what, .. }) = &stopped else {
            panic!("bug {bug} ({wanted}): {stopped:?}")
        };
        assert!(what.contains(wanted), "bug {bug}: {what}");
    }
}

#[test]
fn hangs_are_found() {
    for (bug, wanted) in [(12, "progress of any kind"), (13, "memory does not owe")] {
        let stopped = round(&models::FAULTY64, bug, Stalls::default()).map(drop);
        let Err(NicError::Hang { what, .. }) = stopped else { panic!("bug {bug}: {stopped:?}") };
        assert!(what.contains(wanted), "bug {bug}: {what}");
    }
    let mut world = World::new();
    let no_answer = options(64, 14, Stalls::default());
    let mut nic = Rtl::with_model(&models::FAULTY64, no_answer).unwrap();
    let first = world.with(|bus| nic.bar_read(bus, 0, Width::Word)).unwrap_err();
    assert!(matches!(first, NicError::Hang { what: "BAR read", .. }));
    // A model that failed once stays failed.
    assert_eq!(world.with(|bus| nic.run(bus, 1)).unwrap_err(), first);

    let no_reset = options(64, 15, Stalls::default());
    let mut nic = Rtl::with_model(&models::FAULTY64, no_reset).unwrap();
    let stopped = world.with(|bus| nic.function_reset(bus)).unwrap_err();
    assert!(matches!(stopped, NicError::Hang { what: "function-level reset", .. }));
}

#[test]
fn what_a_build_lacks_is_said() {
    let error = Rtl::new(RtlOptions::new(96)).map(drop).unwrap_err();
    assert_eq!(error, RtlError::NoModel("nic96".to_owned()));
    if !cfg!(feature = "waves") {
        let traced = RtlOptions { traced: true, ..RtlOptions::new(64) };
        let error = Rtl::new(traced).map(drop).unwrap_err();
        assert!(error.to_string().contains("feature"), "{error}");
    }
}

#[test]
fn a_run_repeats() {
    let one = round(&models::FAULTY64, 0, Stalls::new(90, 5)).unwrap();
    let two = round(&models::FAULTY64, 0, Stalls::new(90, 5)).unwrap();
    assert_eq!(one.0.now(), two.0.now());
    assert_eq!(one.1.requests, two.1.requests);
    let other = round(&models::FAULTY64, 0, Stalls::new(90, 6)).unwrap();
    assert_ne!(one.0.now(), other.0.now(), "another seed, another run");
}
