//! Any bytes at all: parsing returns, and what it returns can be used in full.

mod support;

use proptest::prelude::*;
use tandem_packet::*;

/// Calls everything that a parsed view offers, and emits what parsed.
fn exercise(bytes: &[u8]) {
    let mut out = [0; 512];
    if let Ok(view) = EthernetView::new(bytes) {
        assert_eq!(view.header_len() + view.payload().len(), bytes.len());
        EthernetRepr::parse(&view).unwrap().emit(&mut out);
    }
    if let Ok(view) = ArpView::new(bytes)
        && let Ok(repr) = ArpRepr::parse(&view)
    {
        repr.emit(&mut out);
    }
    for view in [Ipv4View::new(bytes), Ipv4View::new_truncated(bytes)].into_iter().flatten() {
        assert!(view.header_len() + view.payload().len() <= bytes.len());
        Ipv4Repr::parse(&view).unwrap().emit(&mut out);
    }
    if let Ok(view) = Icmpv4View::new(bytes)
        && let Ok(repr) = Icmpv4Repr::parse(&view)
    {
        repr.emit(&mut out);
    }
    for view in [Ipv6View::new(bytes), Ipv6View::new_truncated(bytes)].into_iter().flatten() {
        Ipv6Repr::parse(&view).unwrap().emit(&mut out);
        walk_extensions(view.extensions());
    }
    // Extension chains straight from the bytes, beginning with each kind.
    for next in [0, 43, 44, 60] {
        walk_extensions(ExtHeaders::new(IpProtocol(next), bytes));
    }
    if let Ok(view) = Icmpv6View::new(bytes) {
        if let Ok(repr) = Icmpv6Repr::parse(&view) {
            repr.emit(&mut out);
        }
        if let Ok(repr) = NdpRepr::parse(&view) {
            repr.emit(&mut out);
        }
    }
    for view in [UdpView::new(bytes), UdpView::new_truncated(bytes)].into_iter().flatten() {
        UdpRepr::parse(&view).unwrap().emit(&mut out);
    }
    if let Ok(view) = TcpView::new(bytes) {
        assert!(view.options().count() <= 40);
        if let Ok(repr) = TcpRepr::parse(&view) {
            assert!(repr.header_len() <= view.header_len().max(60));
            repr.emit(&mut out);
        }
    }
    if let Ok(view) = VirtioNetView::new(bytes)
        && let Ok(repr) = VirtioNetRepr::parse(&view)
    {
        repr.emit(&mut out);
    }
    for head_len in [bytes.len(), bytes.len().min(60)] {
        if let Ok(headers) = Headers::parse_split(&bytes[..head_len], bytes.len()) {
            assert!(headers.packet_end as usize <= bytes.len());
            assert!(headers.payload_end <= headers.packet_end);
            assert!(bytes.get(headers.payload_range()).is_some());
            assert!(headers.l3_offset <= headers.l4_offset);
            assert!(headers.l4_offset <= headers.payload_offset);
            assert!(usize::from(headers.payload_offset) <= head_len);
            let _ = headers.four_tuple();
        }
    }
}

fn walk_extensions(mut extensions: ExtHeaders<'_>) {
    let mut walked = 0;
    let mut errors = 0;
    for item in &mut extensions {
        walked += 1;
        match item {
            Ok(ExtHeader::HopByHop(options) | ExtHeader::DestinationOptions(options)) => {
                assert!(options.iter().count() <= ipv6_ext::EXT_OPTIONS_MAX + 1);
            }
            Ok(_) => {}
            Err(_) => errors += 1,
        }
    }
    assert!(walked <= ipv6_ext::EXT_HEADERS_MAX + 1);
    assert!(errors <= 1);
    let _ = (extensions.rest(), extensions.next_header());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40_000))]

    #[test]
    fn on_random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        exercise(&bytes);
    }

    #[test]
    fn on_mutated_frames(frame in support::mutated_frame()) {
        exercise(&frame);
        for start in [14, 18, 22, 34, 54] {
            exercise(frame.get(start..).unwrap_or_default());
        }
    }

    #[test]
    fn on_random_options(options in prop::collection::vec(any::<u8>(), 0..=40)) {
        let mut out = [0; 64];
        if let Ok(parsed) = TcpOptions::parse(&options) {
            prop_assert_eq!(parsed.emit(&mut out), parsed.emitted_len());
        }
        for item in TcpOptionIter::new(&options) {
            let _ = item;
        }
    }
}
