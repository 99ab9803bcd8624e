//! Host memory: order, bandwidth, latency, errors, interrupts, and that it repeats.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use tandem_contract::nic::{DmaKind, DmaRequest, DmaResponse, HostPort};
use tandem_cosim::{HostMemory, Latency, MSI_BASE, MemoryConfig, RegionTable};
use tandem_device::Region;

fn memory(config: MemoryConfig) -> (HostMemory, Arc<Region>, u64) {
    let mut table = RegionTable::new();
    let region = Region::new("memory", 16 * 4096).unwrap();
    let at = table.map(&region).unwrap();
    (HostMemory::new(table, config), region, at)
}

fn read(id: u16, addr: u64, len: u32) -> DmaRequest<'static> {
    DmaRequest { kind: DmaKind::Read, id, function: 0, addr, len, data: &[] }
}

fn write(id: u16, addr: u64, data: &[u8]) -> DmaRequest<'_> {
    DmaRequest { kind: DmaKind::Write, id, function: 0, addr, len: data.len() as u32, data }
}

/// All responses with their cycles, asked for in each cycle.
fn drain(memory: &mut HostMemory, from: u64, to: u64) -> Vec<(u64, DmaResponse)> {
    let mut all = Vec::new();
    for cycle in from..to {
        let mut response = DmaResponse::default();
        while memory.response(cycle, &mut response) {
            all.push((cycle, std::mem::take(&mut response)));
        }
    }
    all
}

#[test]
fn a_write_takes_effect_with_its_response_and_not_before() {
    let (mut memory, region, at) = memory(MemoryConfig::default());
    memory.request(100, write(3, at + 5, &[1, 2, 3]));
    assert_eq!(memory.next_response_at(), Some(350));
    let mut seen = [0; 3];
    assert!(drain(&mut memory, 100, 350).is_empty());
    region.read(5, &mut seen);
    assert_eq!(seen, [0; 3], "not yet answered, so not yet written");
    let answers = drain(&mut memory, 350, 351);
    let expected = DmaResponse { write: true, id: 3, error: false, data: vec![] };
    assert_eq!(answers, [(350, expected)]);
    region.read(5, &mut seen);
    assert_eq!(seen, [1, 2, 3]);
    assert_eq!(memory.next_response_at(), None);
}

#[test]
fn bandwidth_spaces_responses_and_each_direction_has_its_own() {
    let config = MemoryConfig {
        read_latency: Latency::Fixed(10),
        write_latency: Latency::Fixed(10),
        read_bytes_per_cycle: 16,
        write_bytes_per_cycle: 8,
        overhead_bytes: 16,
        ..MemoryConfig::default()
    };
    let (mut memory, _region, at) = memory(config);
    for _ in 0..3 {
        memory.request(0, read(0, at, 48));
        memory.request(0, write(0, at, &[0; 48]));
    }
    let answers = drain(&mut memory, 0, 100);
    let when = |write| -> Vec<u64> {
        answers.iter().filter(|(_, r)| r.write == write).map(|(cycle, _)| *cycle).collect()
    };
    // 64 bytes with overhead: 4 cycles a read, 8 a write, then the latency.
    assert_eq!(when(false), [14, 18, 22]);
    assert_eq!(when(true), [18, 26, 34]);
}

#[test]
fn errors_on_purpose_unmapped_addresses_and_ends_of_regions() {
    let (mut memory, region, at) = memory(MemoryConfig::ideal());
    let end = at + region.len() as u64;
    memory.set_config(MemoryConfig {
        error_ranges: std::iter::once(at + 100..at + 101).collect(),
        ..MemoryConfig::ideal()
    });
    let cases = [(at + 99, 1, false), (at + 99, 2, true), (end - 1, 1, false), (end - 1, 2, true)];
    for (addr, len, fails) in cases {
        memory.request(0, read(1, addr, len));
        let answers = drain(&mut memory, 0, 5);
        assert_eq!(answers[0].1.error, fails, "{len} at {:#x}", addr - at);
        assert_eq!(answers[0].1.data.len(), if fails { 0 } else { len as usize });
    }
    let stats = memory.stats();
    assert_eq!((stats.errors_injected, stats.unmapped), (1, 1));

    memory.fail_next(1);
    memory.request(9, write(1, at, &[7]));
    memory.request(9, write(1, at + 1, &[7]));
    let errors: Vec<bool> = drain(&mut memory, 9, 20).iter().map(|(_, r)| r.error).collect();
    assert_eq!(errors, [true, false]);
    let mut bytes = [0; 2];
    region.read(0, &mut bytes);
    assert_eq!(bytes, [0, 7], "a failed write writes nothing");
}

#[test]
fn messages_are_interrupts_and_not_memory() {
    let (mut memory, _region, at) = memory(MemoryConfig::default());
    memory.request(0, write(0, at, &[1; 8]));
    memory.request(0, write(1, MSI_BASE + 32, &2u32.to_le_bytes()));
    assert!(!memory.take_message(2), "not before its response");
    drain(&mut memory, 0, 251);
    assert_eq!(memory.pending_messages(), 0b100);
    assert!(memory.take_message(2));
    assert!(!memory.take_message(2), "taken");
    assert!(!memory.take_message(63) && !memory.take_message(64));
    // Not a message: too many bytes.
    memory.request(300, write(1, MSI_BASE, &[0; 8]));
    assert!(drain(&mut memory, 300, 600)[0].1.error);
    assert_eq!(memory.stats().messages, 1);
}

#[test]
fn an_observer_sees_everything_in_the_order_of_effect() {
    let config = MemoryConfig {
        write_latency: Latency::Fixed(5),
        read_latency: Latency::Fixed(50),
        ..MemoryConfig::default()
    };
    let (mut memory, _region, at) = memory(config);
    let log = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&log);
    memory.observe(Some(Box::new(move |event| {
        let bytes = event.data.to_vec();
        sink.lock().unwrap().push((event.done_at, event.kind, event.addr, event.error, bytes));
    })));
    memory.request(0, read(0, at, 2));
    memory.request(1, write(0, at, &[8, 9]));
    memory.request(2, write(0, 0x10, &[1]));
    drain(&mut memory, 0, 100);
    let expected = [
        (6, DmaKind::Write, at, false, vec![8, 9]),
        (7, DmaKind::Write, 0x10, true, vec![1]),
        (50, DmaKind::Read, at, false, vec![8, 9]),
    ];
    assert_eq!(*log.lock().unwrap(), expected);
}

#[derive(Debug, Clone)]
struct Asked {
    write: bool,
    id: u16,
    len: u32,
    gap: u64,
}

fn asked() -> impl Strategy<Value = Asked> {
    (any::<bool>(), 0u16..4, 1u32..300, 0u64..20).prop_map(|(write, id, len, gap)| Asked {
        write,
        id,
        len,
        gap,
    })
}

/// Runs a script and returns each response's (cycle, direction, id, length), with the number of the
/// request as the data's length so that order can be judged.
fn play(script: &[Asked], config: &MemoryConfig) -> Vec<(u64, bool, u16, usize)> {
    let (mut memory, _region, at) = memory(config.clone());
    let mut cycle = 0;
    let mut answers = Vec::new();
    let mut take = |memory: &mut HostMemory, cycle| {
        let mut response = DmaResponse::default();
        while memory.response(cycle, &mut response) {
            answers.push((cycle, response.write, response.id, response.data.len()));
        }
    };
    let zeros = [0; 512];
    for one in script {
        for _ in 0..one.gap {
            take(&mut memory, cycle);
            cycle += 1;
        }
        let data = &zeros[..one.len as usize];
        let request = if one.write { write(one.id, at, data) } else { read(one.id, at, one.len) };
        memory.request(cycle, request);
    }
    for cycle in cycle..cycle + 20_000 {
        take(&mut memory, cycle);
    }
    answers
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Every request is answered once; one identifier's answers keep the order of one direction.
    #[test]
    fn identifiers_keep_their_order(
        script in prop::collection::vec(asked(), 1..80),
        seed in any::<u64>(),
    ) {
        let answers = play(&script, &MemoryConfig::rough(seed));
        prop_assert_eq!(answers.len(), script.len());
        let mut reads: HashMap<u16, Vec<usize>> = HashMap::new();
        for (_, write, id, len) in &answers {
            if !write {
                reads.entry(*id).or_default().push(*len);
            }
        }
        for (id, lens) in reads {
            let asked = script.iter().filter(|a| !a.write && a.id == id);
            prop_assert_eq!(lens, asked.map(|a| a.len as usize).collect::<Vec<_>>());
        }
    }

    /// The same seed gives the same run.
    #[test]
    fn runs_repeat(script in prop::collection::vec(asked(), 1..40), seed in any::<u64>()) {
        let config = MemoryConfig::rough(seed);
        prop_assert_eq!(play(&script, &config), play(&script, &config));
    }
}

#[test]
fn different_identifiers_do_overtake() {
    let script: Vec<Asked> =
        (0..60).map(|n| Asked { write: false, id: n % 4, len: 1 + u32::from(n), gap: 1 }).collect();
    let lens: Vec<usize> =
        play(&script, &MemoryConfig::rough(7)).iter().map(|(.., len)| *len).collect();
    assert!(lens.windows(2).any(|w| w[0] > w[1]), "reordering is on: {lens:?}");
    let quiet = MemoryConfig { reorder: false, ..MemoryConfig::rough(7) };
    let lens: Vec<usize> = play(&script, &quiet).iter().map(|(.., len)| *len).collect();
    assert!(lens.windows(2).all(|w| w[0] < w[1]), "reordering is off: {lens:?}");
}
