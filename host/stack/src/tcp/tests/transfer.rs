//! Whole transfers over the virtual link.

use core::time::Duration;

use super::link::{Link, Setup};
use super::*;

const BUFFERS: u32 = 8192;

fn run(setup: Setup, pool: &Pool) -> Link {
    let seed = setup.seed;
    let mut link = Link::new(setup, pool);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| link.run()));
    if let Err(panic) = result {
        eprintln!(
            "seed {seed} failed; replay with TANDEM_TCP_SEED={seed} cargo test -p tandem-stack \
             tcp::tests::transfer::seeds\n{}",
            link.describe()
        );
        std::panic::resume_unwind(panic);
    }
    assert_eq!(pool.stats().free, BUFFERS, "seed {seed}: every buffer is back");
    link
}

#[test]
fn a_clean_link_needs_no_retransmission() {
    let pool = pool(BUFFERS);
    for (seed, coalesce) in [(1, false), (2, true)] {
        let mut setup = Setup { coalesce, ..Setup::plain(seed) };
        setup.bytes = [1_000_000, 300_000];
        let link = run(setup, &pool);
        for end in &link.ends {
            assert_eq!((end.stats.retransmissions, end.stats.timeouts), (0, 0));
            assert_eq!((end.stats.resets_in, end.stats.resets_out), (0, 0));
            assert_eq!(end.stats.unacceptable, 0);
        }
    }
}

#[test]
fn both_ends_may_open_at_once() {
    let pool = pool(BUFFERS);
    for seed in 0..10 {
        let setup = Setup { simultaneous: true, ..Setup::plain(seed) };
        let link = run(setup, &pool);
        assert_eq!(link.ends[0].stats.resets_out, 0);
    }
}

#[test]
fn seeds() {
    let pool = pool(BUFFERS);
    let seeds = match std::env::var("TANDEM_TCP_SEED") {
        Ok(seed) => {
            let seed: u64 = seed.parse().expect("TANDEM_TCP_SEED is a number");
            seed..seed + 1
        }
        Err(_) => {
            0..std::env::var("TANDEM_TCP_SEEDS")
                .map_or(300, |count| count.parse().expect("TANDEM_TCP_SEEDS is a number"))
        }
    };
    let many = seeds.end - seeds.start > 1;
    let mut sum = Stats::default();
    for seed in seeds {
        let link = run(Setup::random(seed), &pool);
        for end in &link.ends {
            sum.retransmissions += end.stats.retransmissions;
            sum.timeouts += end.stats.timeouts;
            sum.fast_retransmits += end.stats.fast_retransmits;
            sum.window_probes += end.stats.window_probes;
            sum.out_of_order += end.stats.out_of_order;
            sum.out_of_order_drops += end.stats.out_of_order_drops;
        }
    }
    // The seeds go where it hurts, or the test says nothing.
    if many {
        assert!(sum.timeouts > 100, "{sum:?}");
        assert!(sum.fast_retransmits > 100, "{sum:?}");
        assert!(sum.window_probes > 10, "{sum:?}");
        assert!(sum.out_of_order > 1000, "{sum:?}");
        assert!(sum.out_of_order_drops > 10, "{sum:?}");
    }
}

#[test]
fn one_loss_in_a_long_transfer_costs_no_time_out() {
    let pool = pool(BUFFERS);
    let mut fast = 0;
    for seed in 0..10 {
        let mut setup = Setup { loss: 3, ..Setup::plain(seed) };
        setup.bytes = [2_000_000, 0];
        setup.turn = Duration::from_millis(1);
        let link = run(setup, &pool);
        fast += link.ends[0].stats.fast_retransmits;
    }
    assert!(fast >= 10, "{fast} fast retransmits");
}
