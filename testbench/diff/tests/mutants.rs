//! The planted bugs of the RTL (`bug_e` in tandem_nic.sv) are caught, each for what it is, and the same model
//! without one is not.

use tandem_diff::campaign::{self, Plan};

/// Frames after which a bug must have been caught; the catch comes far earlier.
const FRAMES: u64 = 20_000;

fn plan() -> Plan {
    Plan { seed: 0xB06, frames: FRAMES, replay: false }
}

/// Runs with bug number `bug`; the words with which it was caught.
fn caught(bug: u8) -> String {
    match campaign::run(64, Some(bug), plan()) {
        Ok(total) => panic!("bug {bug} was not caught: {total:?}"),
        Err(found) => {
            println!("bug {bug}: seed {:#x} after {} frames", found.seed, found.before.frames());
            found.report.failure.to_string()
        }
    }
}

#[test]
fn each_planted_bug_is_caught() {
    // What the first illegal thing is said to be, by number in rtl-bindings/mutants.list.
    let words = [
        (1, "on the wire"),
        (2, "must be"),
        (3, "used element"),
        (4, "wants to know"),
        (5, "must be"),
        (6, "used element"),
        (7, "must be"),
    ];
    let listed = include_str!("../../../rtl-bindings/mutants.list");
    let listed = listed.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_digit()));
    assert_eq!(listed.count(), words.len(), "each bug of the list is tried");
    let missed: Vec<String> = words
        .into_iter()
        .map(|(bug, word)| (bug, word, caught(bug)))
        .filter(|(_, word, said)| !said.contains(word))
        .map(|(bug, word, said)| format!("bug {bug} is to be caught by `{word}`: {said}"))
        .collect();
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

#[test]
fn without_a_bug_the_same_model_passes() {
    let total = campaign::run(64, Some(0), plan()).unwrap_or_else(|found| panic!("{found}"));
    assert!(total.frames() >= FRAMES);
}
