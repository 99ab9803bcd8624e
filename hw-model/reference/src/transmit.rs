//! What a frame asks for on its way out: the rules of "What the transmit side inserts" in
//! `hw-model/rtl/README.md`.

use tandem_contract::features::bit;
use tandem_contract::trace::Drop;

use crate::sum::Sum;

/// Length of the virtio-net header (virtio 1.3, 5.1.6: with VERSION_1, num_buffers is always there).
pub const HEADER_LEN: usize = 12;
/// `flags`: the checksum is to be completed.
pub const NEEDS_CSUM: u8 = 1;
/// `flags`: the checksum was validated.
pub const DATA_VALID: u8 = 2;

/// Does to `frame` what its header asks for; true when a checksum was inserted.
///
/// # Errors
/// Why the frame is not sent: [`Drop::BadRequest`] or [`Drop::TooLong`].
pub fn apply(
    header: &[u8; HEADER_LEN],
    frame: &mut [u8],
    features: u64,
    frame_len_max: u32,
) -> Result<bool, Drop> {
    if frame.len() > frame_len_max as usize {
        return Err(Drop::TooLong);
    }
    let [flags, gso_type, ..] = *header;
    let needs_csum = flags & NEEDS_CSUM != 0;
    // 5.1.6.2.1: gso_type and NEEDS_CSUM are only for drivers that negotiated them.
    if gso_type != 0 || needs_csum && features >> bit::CSUM & 1 == 0 {
        return Err(Drop::BadRequest);
    }
    if !needs_csum {
        return Ok(false);
    }
    let start = usize::from(u16::from_le_bytes([header[6], header[7]]));
    let offset = usize::from(u16::from_le_bytes([header[8], header[9]]));
    insert(frame, start, offset)?;
    Ok(true)
}

/// Sums `frame[start..]` and puts the complement at `start + offset`.
///
/// # Errors
/// [`Drop::BadRequest`] when the field does not lie in the frame.
pub fn insert(frame: &mut [u8], start: usize, offset: usize) -> Result<(), Drop> {
    let field = start + offset;
    if field + 2 > frame.len() {
        return Err(Drop::BadRequest);
    }
    let sum = match !Sum::default().bytes(&frame[start..]).value() {
        0 => 0xFFFF,
        sum => sum,
    };
    frame[field..field + 2].copy_from_slice(&sum.to_be_bytes());
    Ok(())
}

/// The header of a received frame, `buffers` counting the chains it spans.
pub fn receive_header(valid: bool, features: u64, buffers: u16) -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    if valid && features >> bit::GUEST_CSUM & 1 == 1 {
        header[0] = DATA_VALID;
    }
    // 5.1.6.4.1: without MRG_RXBUF num_buffers is 1.
    header[10..12].copy_from_slice(&buffers.to_le_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_across_words_and_a_zero_sum() {
        let mut frame = vec![0; 20];
        frame[5] = 0xFF;
        frame[6] = 0xFF;
        insert(&mut frame, 5, 4).unwrap();
        assert_eq!(frame[9..11], [0xFF, 0xFF], "zero is written as its other form");
        assert_eq!(insert(&mut frame, 5, 14), Err(Drop::BadRequest));
        assert!(insert(&mut frame, 5, 13).is_ok());
        assert_eq!(insert(&mut frame, 0xFFFF, 0xFFFF), Err(Drop::BadRequest));
    }

    #[test]
    fn what_was_not_negotiated_is_refused() {
        let mut frame = [0; 60];
        let mut header = [0; HEADER_LEN];
        header[0] = NEEDS_CSUM;
        assert_eq!(apply(&header, &mut frame, 0, 1518), Err(Drop::BadRequest));
        assert_eq!(apply(&header, &mut frame, 1, 1518), Ok(true));
        header[0] = 0;
        header[1] = 1;
        assert_eq!(apply(&header, &mut frame, 1, 1518), Err(Drop::BadRequest));
        assert_eq!(apply(&[0; HEADER_LEN], &mut frame, 1, 59), Err(Drop::TooLong));
    }
}
