//! RTL against reference, at the narrowest and the widest data path.

use std::time::Instant;

use tandem_contract::trace::{Broken, Drop, Kind, Reset, Verdict};
use tandem_diff::campaign::{self, Plan};
use tandem_diff::scenario::Summary;

/// Every decision that there is must have been met, or the scenarios have lost their teeth.
fn covers(total: &Summary) {
    let drops = [
        Drop::FifoFull,
        Drop::NoBuffer,
        Drop::MacError,
        Drop::Runt,
        Drop::TooLong,
        Drop::Filter,
        Drop::NotReady,
        Drop::BufferTooShort,
    ];
    let broken = [
        Broken::BusError,
        Broken::ChainTooLong,
        Broken::WrongDirection,
        Broken::BadFlags,
        Broken::ZeroLength,
        Broken::ChainNotAvailable,
        Broken::BadLength,
    ];
    let verdicts = [Verdict::NotJudged, Verdict::Valid, Verdict::Bad];
    let resets = [Reset::Flr, Reset::Device, Reset::Queue];
    let mut wanted: Vec<(Kind, u8)> = [
        (Kind::TxFetch, 0),
        (Kind::TxFrame, 0),
        (Kind::TxFrame, 1),
        (Kind::TxDrop, Drop::BadRequest as u8),
        (Kind::RxPlace, 1),
        (Kind::RxPlace, 2),
        (Kind::RxPlace, 5),
        (Kind::Used, 0),
        (Kind::Irq, 0),
        (Kind::Irq, 1),
        (Kind::IrqSuppressed, 0),
    ]
    .to_vec();
    wanted.extend(drops.map(|code| (Kind::RxDrop, code as u8)));
    wanted.extend(broken.map(|code| (Kind::QueueBroken, code as u8)));
    wanted.extend(verdicts.map(|code| (Kind::RxAccept, code as u8)));
    wanted.extend(resets.map(|code| (Kind::ResetDone, code as u8)));
    wanted.retain(|(kind, code)| !total.decisions.contains_key(&(*kind as u8, *code)));
    assert!(wanted.is_empty(), "never met: {wanted:?}");
}

fn judge(data_w_bits: u32, frames: u64) {
    let plan = Plan::from_env(frames);
    println!("DATA_W {data_w_bits}: seed {:#x}, {} frames", plan.seed, plan.frames);
    let start = Instant::now();
    match campaign::run(data_w_bits, None, plan) {
        Ok(total) => {
            println!("DATA_W {data_w_bits}: {total:?} in {:?}", start.elapsed());
            if total.frames() >= frames {
                covers(&total);
            }
        }
        Err(found) => panic!(
            "DATA_W {data_w_bits}, {found}replay: TANDEM_SEED={:#x} cargo test --release -p \
             tandem-diff --test campaign data_w_{data_w_bits} -- --nocapture",
            found.seed
        ),
    }
}

#[test]
fn data_w_64() {
    judge(64, 120_000);
}

#[test]
fn data_w_512() {
    judge(512, 100_000);
}
