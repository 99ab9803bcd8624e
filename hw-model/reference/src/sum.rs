//! Ones' complement sums (RFC 1071), the plain way: one 16-bit word after the other.

/// A running sum over big-endian 16-bit words.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sum(u32);

impl Sum {
    /// Adds one word.
    pub(crate) fn word(mut self, word: u16) -> Self {
        let sum = self.0 + u32::from(word);
        // End-around carry.
        self.0 = (sum & 0xFFFF) + (sum >> 16);
        self
    }

    /// Adds bytes; a last odd byte is padded with a zero behind it.
    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        for pair in bytes.chunks(2) {
            let low = pair.get(1).copied().unwrap_or(0);
            self = self.word(u16::from_be_bytes([pair[0], low]));
        }
        self
    }

    /// The sum, folded.
    pub(crate) fn value(self) -> u16 {
        self.0 as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_1071() {
        // RFC 1071, section 3: words 0001 f203 f4f5 f6f7 sum to ddf2.
        let sum = Sum::default().bytes(&[0x00, 0x01, 0xF2, 0x03, 0xF4, 0xF5, 0xF6, 0xF7]);
        assert_eq!(sum.value(), 0xDDF2);
        assert_eq!(Sum::default().bytes(&[0xFF]).value(), 0xFF00);
    }
}
