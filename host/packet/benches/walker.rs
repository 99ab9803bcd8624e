//! What one pass over a frame costs, beside etherparse and smoltcp on the same 1.4 KB TCP frame.

#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use smoltcp::wire;
use tandem_packet::*;

/// A data segment of 1,448 bytes with timestamps.
fn data_segment() -> Vec<u8> {
    let tcp = TcpRepr {
        src_port: 49152,
        dst_port: 443,
        flags: TcpFlags::ACK | TcpFlags::PSH,
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
        payload_len: tcp.header_len() as u16 + 1448,
        ..Ipv4Repr::default()
    };
    let ethernet = EthernetRepr { ether_type: EtherType::IPV4, ..EthernetRepr::default() };
    let mut frame = vec![0; 14 + 20 + 32 + 1448];
    ethernet.emit(&mut frame);
    ip.emit(&mut frame[14..]);
    tcp.emit(&mut frame[34..]);
    frame
}

fn walk(c: &mut Criterion) {
    let frame = data_segment();
    let mut group = c.benchmark_group("walk_tcp_frame");
    group.bench_function("headers", |b| b.iter(|| Headers::parse(black_box(&frame)).unwrap()));
    group.bench_function("headers_four_tuple", |b| {
        b.iter(|| Headers::parse(black_box(&frame)).unwrap().four_tuple());
    });
    group.bench_function("views_and_tcp_repr", |b| {
        b.iter(|| {
            let ethernet = EthernetView::new(black_box(&frame)).unwrap();
            let ip = Ipv4View::new(ethernet.payload()).unwrap();
            TcpRepr::parse(&TcpView::new(ip.payload()).unwrap()).unwrap().options.timestamps
        });
    });
    group.bench_function("etherparse", |b| {
        b.iter(|| etherparse::SlicedPacket::from_ethernet(black_box(&frame)).unwrap());
    });
    group.bench_function("smoltcp_views", |b| {
        b.iter(|| {
            let ethernet = wire::EthernetFrame::new_checked(black_box(&frame[..])).unwrap();
            let ip = wire::Ipv4Packet::new_checked(ethernet.payload()).unwrap();
            let tcp = wire::TcpPacket::new_checked(ip.payload()).unwrap();
            (tcp.src_port(), tcp.dst_port(), tcp.seq_number(), ip.src_addr(), ip.dst_addr())
        });
    });
    group.finish();
}

criterion_group!(benches, walk);
criterion_main!(benches);
