//! Throughput of the software twins: checksum against a naive loop and etherparse's, segmentation
//! and coalescing of 64 KiB.

#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tandem_device::{Batch, Caps, Csum, Frame, Gso, GsoKind, Pool, PoolConfig};
use tandem_offload::{Offload, Plan, Policy, SegmentSum, checksum, segment};
use tandem_packet::*;

fn naive(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    }
    while sum >> 16 != 0 {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !(sum as u16)
}

fn checksums(c: &mut Criterion) {
    let mut group = c.benchmark_group("checksum");
    for len in [20usize, 64, 1460, 65_000] {
        let bytes: Vec<u8> = (0..len).map(|i| (i * 31) as u8).collect();
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_with_input(BenchmarkId::new("wide", len), &bytes, |b, bytes| {
            b.iter(|| checksum::checksum(black_box(bytes)));
        });
        group.bench_with_input(BenchmarkId::new("naive", len), &bytes, |b, bytes| {
            b.iter(|| naive(black_box(bytes)));
        });
        group.bench_with_input(BenchmarkId::new("etherparse", len), &bytes, |b, bytes| {
            b.iter(|| {
                etherparse::checksum::Sum16BitWords::new()
                    .add_slice(black_box(bytes))
                    .ones_complement()
            });
        });
    }
    group.finish();
}

const PAYLOAD_LEN: usize = 16 * 1448;

/// A super-segment of 16 full segments, payload by reference.
fn super_segment(pool: &Pool) -> Frame {
    let tcp = TcpRepr {
        src_port: 1,
        dst_port: 2,
        flags: TcpFlags::ACK,
        options: TcpOptions {
            timestamps: Some(TcpTimestamps { value: 1, echo: 2 }),
            ..TcpOptions::default()
        },
        ..TcpRepr::default()
    };
    let ip = Ipv4Repr {
        src: [10, 0, 0, 1].into(),
        dst: [10, 0, 0, 2].into(),
        protocol: IpProtocol::TCP,
        dont_fragment: true,
        payload_len: (32 + PAYLOAD_LEN) as u16,
        ..Ipv4Repr::default()
    };
    let mut frame = pool.alloc().unwrap();
    let head = frame.push_back(66).unwrap();
    EthernetRepr { ether_type: EtherType::IPV4, ..EthernetRepr::default() }.emit(head);
    ip.emit(&mut head[14..]);
    tcp.emit(&mut head[34..]);
    let mut rest = PAYLOAD_LEN;
    while rest > 0 {
        let mut filler = pool.filler().unwrap();
        let len = filler.write(&vec![0x5a; rest.min(16_384)]);
        frame.push_payload(filler.payload(0..len)).unwrap();
        rest -= len;
    }
    frame.meta_mut().csum = Csum::Partial { start: 34, offset: 16 };
    frame.meta_mut().gso =
        Some(Gso { kind: GsoKind::Tcp4, size: 1448, ecn: false, fixed_id: false });
    frame
}

fn twins(c: &mut Criterion) {
    let pool = Pool::new(PoolConfig { buffers: 256, buffer_len: 16_384, headroom: 128 }).unwrap();
    let mut big = super_segment(&pool);
    let mut group = c.benchmark_group("twins");
    group.throughput(Throughput::Bytes(PAYLOAD_LEN as u64));
    for (name, sum) in
        [("segment_and_sum", SegmentSum::Complete), ("segment_only", SegmentSum::Partial)]
    {
        let mut out = Batch::new();
        group.bench_function(name, |b| {
            b.iter(|| {
                segment(&mut big, &pool, sum, &mut out).unwrap();
                out.clear();
            });
        });
    }
    // Wire frames as a driver delivers them; what is measured includes refilling their buffers.
    let mut cut = Batch::new();
    segment(&mut big, &pool, SegmentSum::Complete, &mut cut).unwrap();
    let wire: Vec<Vec<u8>> = cut.iter().map(Frame::to_vec).collect();
    for (name, csum) in [("verify_and_coalesce", Csum::None), ("coalesce_only", Csum::Valid)] {
        let plan = Plan::new(Caps::plain(1500), Policy::default());
        let mut offload = Offload::new(plan, pool.clone());
        let (mut batch, mut out) = (Batch::new(), Batch::new());
        group.bench_function(name, |b| {
            b.iter(|| {
                for bytes in &wire {
                    let mut frame = pool.alloc().unwrap();
                    frame.append(bytes).unwrap();
                    frame.meta_mut().csum = csum;
                    batch.push_back(frame);
                }
                offload.receive(&mut batch, &mut out);
                assert_eq!(out.len(), 1);
                out.clear();
            });
        });
    }
    group.finish();
}

criterion_group!(benches, checksums, twins);
criterion_main!(benches);
