use proptest::prelude::*;

use super::*;
use crate::{Filler, PoolConfig};

fn pool(buffers: u32) -> Pool {
    Pool::new(PoolConfig { buffers, buffer_len: 256, headroom: 64 }).unwrap()
}

fn filled(pool: &Pool, bytes: &[u8]) -> Filler {
    let mut filler = pool.filler().unwrap();
    assert_eq!(filler.write(bytes), bytes.len());
    filler
}

#[test]
fn headers_and_payload_come_out_in_order() {
    let pool = pool(4);
    let mut frame = pool.alloc().unwrap();
    frame.append(b"tcp").unwrap();
    frame.push_front(2).unwrap().copy_from_slice(b"ip");
    frame.push_payload(filled(&pool, b"hello world").payload(6..11)).unwrap();
    assert_eq!(frame.to_vec(), b"iptcpworld");
    assert_eq!(frame.tailroom(), 0, "nothing goes behind the head once there are fragments");
    assert_eq!(frame.headroom(), 62);
    drop(frame);
    assert_eq!(pool.stats().free, 4);
}

#[test]
fn clones_share_payload_and_keep_headers_apart() {
    let pool = pool(4);
    let mut frame = pool.alloc().unwrap();
    frame.append(b"HEADpayload").unwrap();
    let mut clone = frame.try_clone(&pool, 4).unwrap();
    assert_eq!(frame.references(), 2);
    clone.head_mut().copy_from_slice(b"head");
    assert_eq!(frame.to_vec(), b"HEADpayload");
    assert_eq!(clone.to_vec(), b"headpayload");
    assert_eq!(frame.head_mut().len(), 4, "shared bytes are not to be written");
    assert_eq!(frame.push_back(1).unwrap_err(), FrameError::NoTailroom { wanted: 1, have: 0 });
    drop(frame);
    assert_eq!(clone.to_vec(), b"headpayload", "payload outlives the frame it came in");
    drop(clone);
    assert_eq!(pool.stats().free, 4);
}

#[test]
fn trimmed_into_shared_bytes_there_is_no_headroom() {
    let pool = pool(4);
    let mut frame = pool.alloc().unwrap();
    frame.append(b"HEADpayload").unwrap();
    let mut shared = None;
    frame.share(4..11, |payload| shared = Some(payload));
    frame.trim_front(6);
    assert_eq!(frame.headroom(), 0);
    assert!(frame.head_mut().is_empty());
    assert_eq!(shared.unwrap().bytes(), b"payload");
}

#[test]
fn a_device_gets_no_room_over_shared_bytes() {
    let pool = pool(4);
    let mut frame = pool.alloc().unwrap();
    assert_eq!((frame.dma_room().offset % 256, frame.dma_room().len), (64, 192));
    frame.append(b"HEADpayload").unwrap();
    assert_eq!((frame.dma_room().offset % 256, frame.dma_room().len), (75, 181));
    let mut shared = None;
    frame.share(4..11, |payload| shared = Some(payload));
    frame.truncate(0);
    assert_eq!(frame.dma_room().len, 0, "the payload's bytes are not to be written");
    assert_eq!(shared.unwrap().bytes(), b"payload");
    drop(frame);
    assert_eq!(pool.alloc().unwrap().dma_room().len, 192, "a fresh frame has all of it again");
}

#[test]
fn a_region_may_be_read_into_a_frame_of_its_own() {
    let pool = pool(1);
    let mut frame = pool.alloc().unwrap();
    frame.append(b"abcdefgh").unwrap();
    let region = pool.region().clone();
    // The head begins at 64: source and destination overlap.
    region.read(62, frame.head_mut());
    assert_eq!(&frame.to_vec()[2..], b"abcdef");
}

#[test]
fn exhaustion_is_an_error_and_counted() {
    let pool = pool(1);
    let frame = pool.alloc().unwrap();
    assert_eq!(pool.alloc().unwrap_err(), PoolExhausted { buffers: 1 });
    drop(frame);
    assert!(pool.alloc().is_ok());
    assert_eq!(pool.stats().exhausted, 1);
}

#[test]
fn too_many_pieces_are_refused() {
    let pool = pool(2);
    let filler = filled(&pool, b"x");
    let mut frame = pool.alloc().unwrap();
    for _ in 0..FRAGS_MAX {
        frame.push_payload(filler.payload(0..1)).unwrap();
    }
    assert_eq!(frame.push_payload(filler.payload(0..1)), Err(FrameError::TooManyPieces));
    assert_eq!(frame.len(), FRAGS_MAX);
}

#[test]
fn frames_cross_threads() {
    let pool = pool(8);
    let (to, from) = std::sync::mpsc::channel::<Frame>();
    let thread = std::thread::spawn(move || from.into_iter().map(|f| f.len()).sum::<usize>());
    for _ in 0..1000 {
        loop {
            if let Ok(mut frame) = pool.alloc() {
                frame.append(b"abc").unwrap();
                to.send(frame).unwrap();
                break;
            }
            std::thread::yield_now();
        }
    }
    drop(to);
    assert_eq!(thread.join().unwrap(), 3000);
    assert_eq!(pool.stats().free, 8);
}

#[derive(Debug, Clone)]
enum Op {
    PushFront(Vec<u8>),
    Append(Vec<u8>),
    Payload(Vec<u8>),
    TrimFront(usize),
    Truncate(usize),
    Pull(usize),
    CloneWith(usize),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..40);
    prop::collection::vec(
        prop_oneof![
            bytes().prop_map(Op::PushFront),
            bytes().prop_map(Op::Append),
            bytes().prop_map(Op::Payload),
            (0..60_usize).prop_map(Op::TrimFront),
            (0..200_usize).prop_map(Op::Truncate),
            (0..200_usize).prop_map(Op::Pull),
            (0..60_usize).prop_map(Op::CloneWith),
        ],
        0..40,
    )
}

proptest! {
    /// A frame behaves as a plain vector of bytes, whatever is done to it and to its clones.
    #[test]
    fn frame_is_a_vector(ops in ops()) {
        let pool = pool(200);
        let mut model: Vec<u8> = Vec::new();
        let mut frame = pool.alloc().unwrap();
        let mut kept = Vec::new();
        for op in ops {
            match op {
                Op::PushFront(bytes) => {
                    if let Ok(room) = frame.push_front(bytes.len()) {
                        room.copy_from_slice(&bytes);
                        model.splice(0..0, bytes);
                    }
                }
                Op::Append(bytes) => {
                    if frame.append(&bytes).is_ok() {
                        model.extend(bytes);
                    }
                }
                Op::Payload(bytes) => {
                    let filler = filled(&pool, &bytes);
                    if frame.push_payload(filler.payload(0..bytes.len())).is_ok() {
                        model.extend(bytes);
                    }
                }
                Op::TrimFront(len) => {
                    let len = len.min(model.len());
                    frame.trim_front(len);
                    model.drain(..len);
                }
                Op::Truncate(len) => {
                    frame.truncate(len);
                    model.truncate(len);
                }
                Op::Pull(len) => {
                    if frame.pull(len).is_ok() {
                        prop_assert!(frame.head().len() >= len);
                    }
                }
                Op::CloneWith(header) => {
                    let header = header.min(model.len());
                    if let Ok(clone) = frame.try_clone(&pool, header) {
                        kept.push((clone, model.clone()));
                        for byte in frame.head_mut() {
                            *byte ^= 0xFF;
                        }
                        let private = frame.head_mut().len();
                        for byte in &mut model[..private] {
                            *byte ^= 0xFF;
                        }
                    }
                }
            }
            prop_assert_eq!(frame.to_vec(), model.clone());
            prop_assert_eq!(frame.len(), model.len());
        }
        for (clone, bytes) in &kept {
            prop_assert_eq!(&clone.to_vec(), bytes);
        }
        drop(frame);
        drop(kept);
        prop_assert_eq!(pool.stats().free, 200);
    }
}
