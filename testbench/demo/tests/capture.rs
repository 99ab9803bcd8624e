//! A capture at the NIC's MAC stands up to tshark, and tshark finds what is planted in it. Without the
//! test harness, as for removals.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use pcap_file::pcapng::{Block, PcapNgReader, PcapNgWriter};
use tandem_backends::tap::Tap;
use tandem_demo::local;
use tandem_demo::nic::Model;
use tandem_demo::peer::{self, WebServer};
use tandem_demo::trace;
use tandem_demo::transfer::{Carrier, Family, Link, TAP, World};

fn main() {
    if Command::new("tshark").arg("--version").output().is_err() {
        eprintln!("SKIPPED: tshark is not installed, so nobody judges the capture");
        return;
    }
    let folder = std::env::temp_dir().join(format!("tandem-capture-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = peer::generate(&folder, "file.bin", 200_000, 11).unwrap();
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
    let capture = folder.join("good.pcapng");
    let carrier = Carrier::nic(Model::best(), true);
    let mut link = Link::new(&carrier, &world, Some(&capture)).unwrap();
    for family in Family::BOTH {
        assert!(link.fetch(&carrier, family, &file).unwrap().sha256_ok);
    }
    let events = link.finish_capture().unwrap();
    drop(link);
    drop(server);

    assert_eq!(bad_frames(&capture), Vec::<usize>::new(), "in {}", capture.display());
    let frames = frames(&capture, "frame");
    assert!(frames.len() > 200, "{} frames", frames.len());
    // Each frame that the NIC named in its trace is in the capture; some come after the last event.
    let ways = trace::from_events(&events, None).ways.len();
    assert!(ways > 200 && ways <= frames.len(), "{ways} ways, {} frames", frames.len());

    let planted = folder.join("planted.pcapng");
    let number = plant(&capture, &planted, frames.len() / 2);
    assert_eq!(bad_frames(&planted), [number], "the one planted in {}", planted.display());
    println!("{} frames without a fault; the one planted, {number}, was found", frames.len());
    std::fs::remove_dir_all(&folder).unwrap();
}

/// Numbers of the frames that a display filter of tshark selects, with all checksums checked.
fn frames(capture: &Path, filter: &str) -> Vec<usize> {
    let mut tshark = Command::new("tshark");
    tshark.arg("-r").arg(capture);
    for protocol in ["ip", "tcp", "udp"] {
        tshark.args(["-o", &format!("{protocol}.check_checksum:TRUE")]);
    }
    let out = tshark.args(["-Y", filter, "-T", "fields", "-e", "frame.number"]).output().unwrap();
    assert!(out.status.success(), "tshark: {}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8(out.stdout).unwrap();
    text.lines().map(|line| line.trim().parse().unwrap()).collect()
}

fn bad_frames(capture: &Path) -> Vec<usize> {
    // Status 0 is bad.
    frames(
        capture,
        "_ws.malformed || ip.checksum.status==0 || tcp.checksum.status==0 || udp.checksum.status==0",
    )
}

/// Copies a capture and flips a bit in the payload of the first long frame from number `from` on;
/// returns that frame's number.
fn plant(from: &Path, to: &Path, first: usize) -> usize {
    let mut reader = PcapNgReader::new(File::open(from).unwrap()).unwrap();
    let mut writer = PcapNgWriter::new(File::create(to).unwrap()).unwrap();
    let (mut number, mut planted) = (0, 0);
    while let Some(block) = reader.next_block() {
        let mut block = block.unwrap();
        if let Block::EnhancedPacket(packet) = &mut block {
            number += 1;
            if planted == 0 && number >= first && packet.data.len() > 500 {
                planted = number;
                let data = packet.data.to_mut();
                *data.last_mut().unwrap() ^= 0x10;
            }
        }
        writer.write_block(&block).unwrap();
    }
    assert_ne!(planted, 0, "no long frame to plant in");
    planted
}
