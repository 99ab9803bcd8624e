//! What becomes of a frame from the wire: the rules of "What the receive side judges" in
//! `hw-model/rtl/README.md`, as they stand there.

use tandem_contract::trace::{Drop, Verdict};

use crate::sum::Sum;

const TCP: u8 = 6;
const UDP: u8 = 17;

/// What was found out about a frame that came in whole.
pub fn admit(frame: &[u8], mac: [u8; 6], frame_len_max: u32, error: bool) -> Result<Verdict, Drop> {
    if error {
        return Err(Drop::MacError);
    }
    if frame.len() > frame_len_max as usize {
        return Err(Drop::TooLong);
    }
    if frame.len() < 14 {
        return Err(Drop::Runt);
    }
    let unicast = frame[0] & 1 == 0;
    if unicast && frame[..6] != mac {
        return Err(Drop::Filter);
    }
    Ok(verdict(frame))
}

/// Whether the transport checksum is valid, wrong, or not to be judged.
pub fn verdict(frame: &[u8]) -> Verdict {
    judge(frame).unwrap_or(Verdict::NotJudged)
}

fn be16(frame: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]))
}

/// `None` is not judged; each `?` is a length that the rules demand.
fn judge(frame: &[u8]) -> Option<Verdict> {
    let mut l3 = 14;
    let mut kind = be16(frame, 12)?;
    for _ in 0..2 {
        if kind == 0x8100 || kind == 0x88A8 {
            l3 += 4;
            kind = be16(frame, l3 - 2)?;
        }
    }
    let (protocol, l4, end, addresses) = match kind {
        0x0800 => ipv4(frame, l3)?,
        0x86DD => ipv6(frame, l3)?,
        _ => return None,
    };
    let segment = frame.get(l4..end)?;
    let least = match protocol {
        TCP => 20,
        UDP => 8,
        _ => return None,
    };
    if segment.len() < least {
        return None;
    }
    if protocol == UDP {
        // RFC 768: the checksum covers what the length field says.
        if usize::from(be16(segment, 4)?) != segment.len() || be16(segment, 6)? == 0 {
            return None;
        }
    }
    let sum = Sum::default()
        .bytes(addresses)
        .word(protocol.into())
        // A segment is shorter than the frame limit; both halves of the IPv6 length are added all the same.
        .word((segment.len() >> 16) as u16)
        .word(segment.len() as u16)
        .bytes(segment);
    Some(if sum.value() == 0xFFFF { Verdict::Valid } else { Verdict::Bad })
}

/// Protocol, start of the transport, end of the packet, both addresses.
fn ipv4(frame: &[u8], l3: usize) -> Option<(u8, usize, usize, &[u8])> {
    let first = *frame.get(l3)?;
    let header_len = 4 * usize::from(first & 15);
    if first >> 4 != 4 || header_len < 20 {
        return None;
    }
    let header = frame.get(l3..l3 + header_len)?;
    // More fragments, or a fragment offset.
    if be16(header, 6)? & 0x3FFF != 0 || Sum::default().bytes(header).value() != 0xFFFF {
        return None;
    }
    let end = l3 + usize::from(be16(header, 2)?);
    Some((header[9], l3 + header_len, end, &header[12..20]))
}

fn ipv6(frame: &[u8], l3: usize) -> Option<(u8, usize, usize, &[u8])> {
    let header = frame.get(l3..l3 + 40)?;
    let payload_len = usize::from(be16(header, 4)?);
    if header[0] >> 4 != 6 || payload_len == 0 {
        return None;
    }
    Some((header[6], l3 + 40, l3 + 40 + payload_len, &header[8..40]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A UDP datagram over IPv4 that says "hi"; its checksum from the words as they stand.
    fn datagram() -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x00];
        frame.extend([0x45, 0, 0, 30, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        let header = !Sum::default().bytes(&frame[14..34]).value();
        frame[24..26].copy_from_slice(&header.to_be_bytes());
        frame.extend([0x03, 0xE8, 0x07, 0xD0, 0, 10, 0, 0, b'h', b'i']);
        let words = [0x0A00, 1, 0x0A00, 2, 17, 10, 0x03E8, 0x07D0, 10, 0x6869_u32];
        let total: u32 = words.iter().sum();
        let folded = !(((total & 0xFFFF) + (total >> 16)) as u16);
        frame[40..42].copy_from_slice(&folded.to_be_bytes());
        frame
    }

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

    #[test]
    fn valid_bad_and_not_judged() {
        let frame = datagram();
        assert_eq!(admit(&frame, MAC, 1518, false), Ok(Verdict::Valid));
        let mut wrong = frame.clone();
        wrong[43] ^= 1;
        assert_eq!(verdict(&wrong), Verdict::Bad);
        let mut none = frame.clone();
        none[40..42].fill(0);
        assert_eq!(verdict(&none), Verdict::NotJudged);
        let mut header = frame.clone();
        header[22] ^= 1;
        assert_eq!(verdict(&header), Verdict::NotJudged, "a wrong header checksum is not judged");
        let mut padded = frame.clone();
        padded.extend([0xAA; 16]);
        assert_eq!(verdict(&padded), Verdict::Valid, "padding is ignored");
        let mut tagged = frame;
        tagged.splice(12..12, [0x81, 0, 0, 5, 0x88, 0xA8, 0, 6]);
        assert_eq!(verdict(&tagged), Verdict::Valid);
        tagged.splice(12..12, [0x81, 0, 0, 7]);
        assert_eq!(verdict(&tagged), Verdict::NotJudged, "a third tag is not looked behind");
    }

    #[test]
    fn drops_by_the_first_reason() {
        let frame = datagram();
        assert_eq!(admit(&frame, MAC, 10, true), Err(Drop::MacError));
        assert_eq!(admit(&frame, MAC, 10, false), Err(Drop::TooLong));
        assert_eq!(admit(&frame[..13], MAC, 1518, false), Err(Drop::Runt));
        assert_eq!(admit(&frame, [2, 0, 0, 0, 0, 9], 1518, false), Err(Drop::Filter));
        let mut multicast = frame;
        multicast[0] = 3;
        assert!(admit(&multicast, MAC, 1518, false).is_ok());
    }

    #[test]
    fn any_cut_is_judged_without_panic() {
        let frame = datagram();
        for len in 0..frame.len() {
            assert_eq!(verdict(&frame[..len]), Verdict::NotJudged, "{len}");
        }
    }
}
