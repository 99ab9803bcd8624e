//! From the NIC's decisions to the way of each frame.

use std::collections::{HashMap, VecDeque};

use tandem::trace::{Step, Trace, Way};
use tandem_contract::trace::{Event, Kind, Verdict};
use tandem_cosim::NS_PER_CYCLE;

fn identity(event: &Event) -> String {
    format!(
        "function {} queue {} wrap {} descriptor {}",
        event.function,
        event.queue,
        u8::from(event.wrap),
        event.slot
    )
}

fn step(event: &Event, what: impl Into<String>) -> Step {
    Step { cycle: event.cycle, what: what.into() }
}

/// The ways of all frames that left or were placed. `wave` is a file, the departure before which it
/// begins, and its length in cycles.
pub fn from_events(events: &[Event], wave: Option<(&str, u64, u64)>) -> Trace {
    let mut departing: VecDeque<Way> = VecDeque::new();
    let mut waiting_used: VecDeque<Way> = VecDeque::new();
    let mut arriving: HashMap<u32, Vec<Step>> = HashMap::new();
    let mut placed: VecDeque<(Way, u8)> = VecDeque::new();
    let (mut tx, mut rx) = (Vec::new(), Vec::new());
    let mut departures = 0_u64;
    let mut last_departure = 0;
    let mut wave_start = None;
    for event in events {
        match event.kind {
            Kind::TxFetch => departing.push_back(Way {
                name: String::new(),
                identity: identity(event),
                bytes: event.len,
                steps: vec![step(
                    event,
                    format!("read from host memory whole, {} descriptors", event.arg),
                )],
            }),
            Kind::TxFrame | Kind::TxDrop => {
                let Some(mut way) = departing.pop_front() else { continue };
                if event.kind == Kind::TxDrop {
                    continue;
                }
                if wave.is_some_and(|(_, from, _)| from == departures) {
                    wave_start = Some(last_departure);
                }
                last_departure = event.cycle;
                way.name = format!("tx {departures}");
                departures += 1;
                let sum = if event.code & 1 == 1 { ", checksum inserted" } else { "" };
                way.steps.push(step(event, format!("last beat at the MAC{sum}")));
                waiting_used.push_back(way);
            }
            Kind::RxAccept => {
                let verdict = match event.code {
                    code if code == Verdict::Valid as u8 => "checksum valid",
                    code if code == Verdict::Bad as u8 => "checksum bad",
                    _ => "checksum not judged",
                };
                let what = format!("taken in from the MAC, {verdict}");
                arriving.insert(event.arg, vec![step(event, what)]);
            }
            Kind::RxPlace => {
                let Some(mut steps) = arriving.remove(&event.arg) else { continue };
                steps.push(step(event, format!("written to {} buffers", event.code)));
                let way = Way {
                    name: format!("rx {}", event.arg),
                    identity: identity(event),
                    // Without the virtio-net header.
                    bytes: event.len.saturating_sub(12),
                    steps,
                };
                placed.push_back((way, event.code));
            }
            Kind::Used if event.queue % 2 == 1 => {
                if let Some(mut way) = waiting_used.pop_front() {
                    way.steps.push(step(event, "used descriptor written"));
                    tx.push(way);
                }
            }
            Kind::Used => {
                if let Some((way, left)) = placed.front_mut() {
                    *left = left.saturating_sub(1);
                    if *left == 0 {
                        way.steps.push(step(event, "used descriptors written"));
                        rx.extend(placed.pop_front().map(|(way, _)| way));
                    }
                }
            }
            _ => {}
        }
    }
    tx.append(&mut rx);
    Trace {
        model: "rtl".into(),
        ns_per_cycle: NS_PER_CYCLE,
        wave: wave.map(|(file, _, _)| file.to_owned()),
        wave_cycles: wave_start.zip(wave).map(|(first, (_, _, cycles))| (first, first + cycles)),
        ways: tx,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(cycle: u64, kind: Kind, queue: u8, code: u8, arg: u32) -> Event {
        Event { cycle, kind, function: 0, queue, code, slot: 3, wrap: true, len: 72, arg }
    }

    #[test]
    fn both_directions_are_followed() {
        let trace = from_events(
            &[
                event(10, Kind::TxFetch, 1, 0, 2),
                event(20, Kind::RxAccept, 0, 1, 7),
                event(30, Kind::TxFrame, 1, 1, 0),
                event(40, Kind::RxPlace, 0, 1, 7),
                event(50, Kind::Used, 0, 0, 0),
                event(60, Kind::Used, 1, 0, 0),
            ],
            Some(("w.fst", 0, 100)),
        );
        assert_eq!(trace.wave_cycles, Some((0, 100)));
        let cycles = |name: &str| -> Vec<u64> {
            trace.find(name).unwrap().steps.iter().map(|step| step.cycle).collect()
        };
        assert_eq!(cycles("tx0"), [10, 30, 60]);
        assert_eq!(cycles("rx7"), [20, 40, 50]);
        assert_eq!(trace.find("rx7").unwrap().bytes, 60);
    }
}
