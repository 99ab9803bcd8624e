//! [`FrameMeta`] to `virtio_net_hdr` and back (virtio 1.3, 5.1.6), for virtqueues and for everything
//! else that speaks this header, such as Linux TAP.

use tandem_device::{Csum, FrameMeta, Gso, GsoKind, RxOffloads, TxOffloads};
use tandem_packet::{GsoType, Headers, VirtioNetFlags, VirtioNetRepr};
use thiserror::Error;

/// Why a frame cannot cross this edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum HeaderRefusal {
    /// The frame asks for work that was not negotiated.
    #[error("{what} was not negotiated")]
    NotNegotiated {
        /// Which.
        what: &'static str,
    },
    /// The header cannot express it.
    #[error("{what} has no place in a virtio_net_hdr")]
    Inexpressible {
        /// What.
        what: &'static str,
    },
    /// Checksum offsets outside the frame.
    #[error("checksum at {at} of a frame of {len} bytes")]
    ChecksumRange {
        /// Offset of the field.
        at: u32,
        /// Length of the frame.
        len: usize,
    },
    /// Segmentation that makes no sense: no segment size, or no partial checksum with it.
    #[error("segmentation without {what}")]
    Gso {
        /// What is missing.
        what: &'static str,
    },
}

fn check_range(start: u16, offset: u16, len: usize) -> Result<(), HeaderRefusal> {
    let at = u32::from(start) + u32::from(offset);
    if at as usize + 2 > len { Err(HeaderRefusal::ChecksumRange { at, len }) } else { Ok(()) }
}

/// The header that asks for what `meta` wants of a frame of `frame_len` bytes, `offered` being what
/// the other side takes over.
///
/// # Errors
/// When it cannot be asked for: the frame should have gone through the software fallback.
pub fn request(
    meta: &FrameMeta,
    frame_len: usize,
    offered: TxOffloads,
) -> Result<VirtioNetRepr, HeaderRefusal> {
    let need = |flag, what| {
        if offered.contains(flag) { Ok(()) } else { Err(HeaderRefusal::NotNegotiated { what }) }
    };
    let mut repr = VirtioNetRepr::default();
    if meta.vlan.is_some() {
        return Err(HeaderRefusal::Inexpressible { what: "a VLAN tag beside the frame" });
    }
    if let Csum::Partial { start, offset } = meta.csum {
        need(TxOffloads::CSUM, "checksum insertion")?;
        check_range(start, offset, frame_len)?;
        repr.flags = VirtioNetFlags::NEEDS_CSUM;
        repr.csum_start = start;
        repr.csum_offset = offset;
    }
    if let Some(gso) = meta.gso {
        // Segmentation goes with NEEDS_CSUM (5.1.6.2): no complete checksum fits all segments.
        if repr.flags.is_empty() {
            return Err(HeaderRefusal::Gso { what: "a partial checksum" });
        }
        if gso.size == 0 {
            return Err(HeaderRefusal::Gso { what: "a segment size" });
        }
        repr.gso_type = match gso.kind {
            GsoKind::Tcp4 => {
                need(TxOffloads::TSO4, "TCP over IPv4 segmentation")?;
                if gso.fixed_id {
                    return Err(HeaderRefusal::Inexpressible { what: "a fixed identification" });
                }
                GsoType::TcpV4
            }
            GsoKind::Tcp6 => {
                need(TxOffloads::TSO6, "TCP over IPv6 segmentation")?;
                GsoType::TcpV6
            }
            GsoKind::UdpL4 => {
                need(TxOffloads::USO, "UDP segmentation")?;
                GsoType::UdpL4
            }
        };
        if gso.ecn {
            need(TxOffloads::TSO_ECN, "segmentation with CWR")?;
            repr.ecn = true;
        }
        repr.gso_size = gso.size;
        repr.hdr_len = meta.header_len;
    }
    Ok(repr)
}

/// What a received header says of a frame of `frame_len` bytes that begins with `head`, `accepted`
/// being what we allowed the other side to do. The header is not trusted.
///
/// # Errors
/// When it contradicts the frame or what was negotiated: the frame is to be dropped.
pub fn report(
    repr: &VirtioNetRepr,
    head: &[u8],
    frame_len: usize,
    accepted: RxOffloads,
) -> Result<FrameMeta, HeaderRefusal> {
    let need = |flag, what| {
        if accepted.contains(flag) { Ok(()) } else { Err(HeaderRefusal::NotNegotiated { what }) }
    };
    let mut meta = FrameMeta::default();
    if repr.flags.contains(VirtioNetFlags::NEEDS_CSUM) {
        need(RxOffloads::PARTIAL, "a partial checksum on receive")?;
        check_range(repr.csum_start, repr.csum_offset, frame_len)?;
        meta.csum = Csum::Partial { start: repr.csum_start, offset: repr.csum_offset };
    } else if repr.flags.contains(VirtioNetFlags::DATA_VALID) && accepted.contains(RxOffloads::CSUM)
    {
        meta.csum = Csum::Valid;
    }
    let kind = match repr.gso_type {
        GsoType::None => return Ok(meta),
        GsoType::TcpV4 => {
            need(RxOffloads::GRO4, "coalescing of TCP over IPv4")?;
            GsoKind::Tcp4
        }
        GsoType::TcpV6 => {
            need(RxOffloads::GRO6, "coalescing of TCP over IPv6")?;
            GsoKind::Tcp6
        }
        GsoType::UdpL4 => {
            need(RxOffloads::UDP_GRO, "coalescing of UDP")?;
            GsoKind::UdpL4
        }
        GsoType::UdpFragment => {
            return Err(HeaderRefusal::NotNegotiated { what: "UDP fragmentation" });
        }
    };
    if repr.gso_size == 0 {
        return Err(HeaderRefusal::Gso { what: "a segment size" });
    }
    // hdr_len is a hint (5.1.6.4.1), so the headers themselves are asked.
    let header_len = Headers::parse_split(head, frame_len).map_or(0, |h| h.payload_offset);
    let payload = frame_len.saturating_sub(header_len.into());
    meta.header_len = header_len;
    meta.segments = payload.div_ceil(repr.gso_size.into()).clamp(1, u16::MAX.into()) as u16;
    meta.gso = Some(Gso { kind, size: repr.gso_size, ecn: repr.ecn, fixed_id: false });
    Ok(meta)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn partial() -> FrameMeta {
        FrameMeta { csum: Csum::Partial { start: 34, offset: 16 }, ..FrameMeta::default() }
    }

    fn tso(ecn: bool, fixed_id: bool) -> FrameMeta {
        FrameMeta {
            gso: Some(Gso { kind: GsoKind::Tcp4, size: 1448, ecn, fixed_id }),
            header_len: 66,
            ..partial()
        }
    }

    #[test]
    fn requests_are_made_of_what_was_offered() {
        let all = TxOffloads::CSUM | TxOffloads::TSO4 | TxOffloads::TSO_ECN;
        let repr = request(&tso(true, false), 9000, all).unwrap();
        assert_eq!(repr.flags, VirtioNetFlags::NEEDS_CSUM);
        assert_eq!((repr.csum_start, repr.csum_offset, repr.gso_size), (34, 16, 1448));
        assert_eq!((repr.gso_type, repr.ecn, repr.hdr_len), (GsoType::TcpV4, true, 66));

        assert_eq!(request(&FrameMeta::default(), 60, TxOffloads::empty()), Ok(Default::default()));
        assert!(request(&partial(), 60, TxOffloads::empty()).is_err());
        assert!(request(&partial(), 51, all).is_err());
        assert!(request(&partial(), 52, all).is_ok());
        assert!(request(&tso(true, false), 9000, all - TxOffloads::TSO_ECN).is_err());
        assert!(request(&tso(false, true), 9000, all).is_err());
        assert!(request(&tso(false, false), 9000, all - TxOffloads::TSO4).is_err());
        let bare = FrameMeta { csum: Csum::None, ..tso(false, false) };
        assert_eq!(
            request(&bare, 9000, all),
            Err(HeaderRefusal::Gso { what: "a partial checksum" })
        );
        let tagged = FrameMeta { vlan: Some(7), ..FrameMeta::default() };
        assert!(request(&tagged, 60, all).is_err());
    }

    #[test]
    fn reports_count_segments_behind_the_real_headers() {
        let mut frame = vec![0; 14 + 20 + 20 + 3000];
        frame[12..14].copy_from_slice(&[8, 0]);
        frame[14] = 0x45;
        frame[16..18].copy_from_slice(&3040u16.to_be_bytes());
        frame[23] = 6;
        frame[46] = 0x50;
        let repr = VirtioNetRepr {
            flags: VirtioNetFlags::DATA_VALID,
            gso_type: GsoType::TcpV4,
            gso_size: 1448,
            hdr_len: 9,
            ..Default::default()
        };
        let accepted = RxOffloads::CSUM | RxOffloads::GRO4;
        let meta = report(&repr, &frame[..200], frame.len(), accepted).unwrap();
        assert_eq!((meta.segments, meta.header_len, meta.csum), (3, 54, Csum::Valid));
        assert!(report(&repr, &frame, frame.len(), RxOffloads::CSUM).is_err());
        let meta = report(
            &VirtioNetRepr { gso_type: GsoType::None, ..repr },
            &frame,
            frame.len(),
            RxOffloads::empty(),
        );
        assert_eq!(meta.unwrap().csum, Csum::None, "not negotiated: not believed");
    }

    proptest! {
        #[test]
        fn a_hostile_header_never_panics_and_never_reaches_outside(
            header in any::<[u8; 12]>(),
            frame in proptest::collection::vec(any::<u8>(), 14..200),
            accepted in any::<u32>(),
        ) {
            let view = tandem_packet::VirtioNetView::new(&header).unwrap();
            if let Ok(repr) = VirtioNetRepr::parse(&view) {
                let accepted = RxOffloads::from_bits_truncate(accepted);
                if let Ok(meta) = report(&repr, &frame, frame.len(), accepted) {
                    if let Csum::Partial { start, offset } = meta.csum {
                        prop_assert!(usize::from(start) + usize::from(offset) + 2 <= frame.len());
                    }
                    prop_assert!(meta.gso.is_none_or(|gso| gso.size > 0));
                }
            }
        }
    }
}
