//! RTL against reference, at the narrowest and the widest data path.

use std::time::Instant;

use tandem_diff::campaign::{self, Plan};

fn judge(data_w_bits: u32, frames: u64) {
    let plan = Plan::from_env(frames);
    println!("DATA_W {data_w_bits}: seed {:#x}, {} frames", plan.seed, plan.frames);
    let start = Instant::now();
    match campaign::run(data_w_bits, None, plan) {
        Ok(total) => println!("DATA_W {data_w_bits}: {total:?} in {:?}", start.elapsed()),
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
