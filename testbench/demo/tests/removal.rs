//! The NIC is pulled out at random moments of a transfer: the connection must go on and the hash be
//! right. Without the test harness, since a user namespace can only be entered by a process of one thread.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tandem_backends::tap::Tap;
use tandem_cosim::Random;
use tandem_demo::local;
use tandem_demo::nic::Model;
use tandem_demo::peer::{self, WebServer};
use tandem_demo::transfer::{Carrier, Family, Link, PullOut, TAP, World};

const REMOVALS: u32 = 50;
/// A moment drawn too late, after the last byte, is drawn again; so often in all.
const TRIES_MAX: u32 = 120;
const LEN: u64 = 512 * 1024;

fn main() {
    let seed = std::env::var("TANDEM_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
    });
    println!("seed {seed}; again: TANDEM_SEED={seed} cargo test -p tandem-demo --test removal");
    let folder = std::env::temp_dir().join(format!("tandem-removal-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = peer::generate(&folder, "file.bin", LEN, seed).unwrap();

    let linux = peer::enter_namespace().and_then(|_| Ok(Tap::open_queue(TAP).map(drop)?));
    let mut server = None;
    let world = match linux {
        Ok(()) => {
            server = Some(WebServer::start(&folder, &folder.join("log")).unwrap());
            World::Linux
        }
        Err(error) => {
            eprintln!("NOT AGAINST LINUX, but against an in-process peer: {error:#}");
            World::InProcess(local::pages(&folder, &["file.bin"]).unwrap())
        }
    };
    let began = Instant::now();
    removals(&world, &file, seed);
    println!("{REMOVALS} removals in {:.1} s", began.elapsed().as_secs_f64());
    drop(server);
    std::fs::remove_dir_all(&folder).unwrap();
}

fn removals(world: &World, file: &peer::Generated, seed: u64) {
    let whole = Carrier::nic(Model::best(), true);
    let mut link = Link::new(&whole, world, None).unwrap();
    let row = link.fetch(&whole, Family::V4, file).unwrap();
    assert!(row.sha256_ok && row.failovers == 0, "without removal: {row:?}");
    let cycles = link.cycles().expect("a NIC has a clock");
    drop(link);
    let mut random = Random::new(seed);
    let (mut done, mut resent) = (0, 0);
    for _ in 0..TRIES_MAX {
        let family = Family::BOTH[random.below(2) as usize];
        let offload = random.chance(1, 2);
        let at = random.below(cycles);
        let carrier = Carrier::Nic {
            model: Model::best(),
            offload,
            pull_out: Some(PullOut::AtCycle(at)),
            wave: None,
        };
        let what = format!("seed {seed}, pulled out in cycle {at} of {cycles}, {family:?}");
        let mut link = Link::new(&carrier, world, None).unwrap();
        // One connection: were it lost, this would be an error.
        let row = link
            .fetch(&carrier, family, file)
            .unwrap_or_else(|error| panic!("{what}: the connection was lost: {error:#}"));
        assert!(row.sha256_ok, "{what}: wrong hash: {row:?}");
        assert!(row.failovers <= 1, "{what}: {row:?}");
        done += row.failovers as u32;
        resent += row.retransmissions;
        if done == REMOVALS {
            println!(
                "all hashes right, no connection lost; {resent} segments of ours were sent again"
            );
            return;
        }
    }
    panic!("seed {seed}: only {done} of {TRIES_MAX} transfers met their removal");
}
