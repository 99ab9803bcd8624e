use proptest::prelude::*;
use tandem_device::{Pool, PoolConfig};

use super::*;

const BUFFER_LEN: u32 = 128;

fn pool() -> Pool {
    Pool::new(PoolConfig { buffers: 256, buffer_len: BUFFER_LEN, headroom: 0 }).unwrap()
}

fn frame(pool: &Pool, bytes: &[u8]) -> Frame {
    let mut frame = pool.alloc().unwrap();
    frame.append(bytes).unwrap();
    frame
}

fn read_all(buffer: &mut ReceiveBuffer) -> Vec<u8> {
    let mut out = vec![0; buffer.len()];
    assert_eq!(buffer.read(&mut out), out.len());
    out
}

#[test]
fn memory_is_bounded_by_merging_and_then_by_refusal() {
    let pool = pool();
    let mut buffer = ReceiveBuffer::new(8 * BUFFER_LEN as usize, 4);
    let mut seq = SeqNumber(0);
    let mut kept = 0;
    while buffer.push(seq, frame(&pool, &[kept as u8])).is_ok() {
        seq += 1;
        kept += 1;
        assert!(kept < 10_000, "nothing bounds it");
    }
    // Half of the memory without merging; from then on each buffer is filled.
    assert!(kept > 4 * 100, "{kept} single bytes kept");
    assert!(pool.stats().buffers - pool.stats().free <= 8);
    let bytes = read_all(&mut buffer);
    assert!(bytes.iter().enumerate().all(|(i, &byte)| byte == i as u8));
    assert_eq!((buffer.memory, pool.stats().free), (0, 256));
}

#[test]
fn segments_out_of_order_are_bounded() {
    let pool = pool();
    let mut buffer = ReceiveBuffer::new(1 << 20, 2);
    assert_eq!(buffer.insert(SeqNumber(10), frame(&pool, b"a")), Ok(()));
    assert_eq!(buffer.insert(SeqNumber(20), frame(&pool, b"b")), Ok(()));
    assert_eq!(buffer.insert(SeqNumber(30), frame(&pool, b"c")), Err(Refused::TooMany));
    assert_eq!(buffer.insert(SeqNumber(10), frame(&pool, b"x")), Err(Refused::Duplicate));
    buffer.drop_strays_from(SeqNumber(20));
    assert_eq!((buffer.strays_len(), buffer.memory), (1, BUFFER_LEN as usize));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Any pieces of a stream, in any order and overlap, give the stream back, once.
    #[test]
    fn reassembles(
        start in any::<u32>(),
        pieces in prop::collection::vec((0usize..300, 1usize..100), 1..60),
    ) {
        let pool = pool();
        let stream: Vec<u8> = (0..400).map(|i| (i * 7 % 251) as u8).collect();
        let start = SeqNumber(start);
        let mut buffer = ReceiveBuffer::new(1 << 20, 100);
        let mut next = 0usize;
        let mut have = vec![false; 400];
        let mut out = Vec::new();
        for (at, len) in pieces {
            have[at..at + len].fill(true);
            let mut piece = frame(&pool, &stream[at..at + len]);
            if at + len > next {
                if at <= next {
                    piece.trim_front(next - at);
                    next += buffer.push(start + next as u32, piece).unwrap();
                } else {
                    let kept = buffer.insert(start + at as u32, piece);
                    prop_assert!(matches!(kept, Ok(()) | Err(Refused::Duplicate)));
                }
            }
            let contiguous = have.iter().position(|&have| !have).unwrap_or(400);
            prop_assert_eq!(next, contiguous);
            let beyond = have[next..].iter().filter(|&&have| have).count();
            prop_assert_eq!(buffer.strays_len(), beyond);
            out.extend(read_all(&mut buffer));
        }
        prop_assert_eq!(&out[..], &stream[..next]);
        buffer.clear();
        prop_assert_eq!(pool.stats().free, 256);
    }
}
