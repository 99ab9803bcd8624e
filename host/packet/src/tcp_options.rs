//! TCP options (RFC 9293 section 3.2 and the documents named beside each).

use core::fmt;

use crate::error::{ParseError, Protocol, Result};
use crate::tcp::SeqNumber;

/// Most bytes of options in one header.
pub const TCP_OPTIONS_LEN_MAX: usize = 40;
/// Most SACK blocks that fit beside nothing else (RFC 2018 section 3).
pub const SACK_BLOCKS_MAX: usize = 4;
/// Longest TCP Fast Open cookie (RFC 7413 section 4.1.1).
pub const FAST_OPEN_COOKIE_LEN_MAX: usize = 16;

/// Option kinds (IANA TCP parameters).
pub mod kind {
    /// End of option list.
    pub const END: u8 = 0;
    /// No operation.
    pub const NOP: u8 = 1;
    /// Maximum segment size.
    pub const MSS: u8 = 2;
    /// Window scale.
    pub const WINDOW_SCALE: u8 = 3;
    /// SACK permitted.
    pub const SACK_PERMITTED: u8 = 4;
    /// SACK.
    pub const SACK: u8 = 5;
    /// Timestamps.
    pub const TIMESTAMPS: u8 = 8;
    /// MD5 signature.
    pub const MD5: u8 = 19;
    /// TCP Fast Open cookie.
    pub const FAST_OPEN: u8 = 34;
    /// AccECN, field order 0.
    pub const ACC_ECN_0: u8 = 172;
    /// AccECN, field order 1.
    pub const ACC_ECN_1: u8 = 174;
    /// Shared experimental option 1 (RFC 6994).
    pub const EXPERIMENT_1: u8 = 253;
    /// Shared experimental option 2 (RFC 6994), on which early Fast Open ran.
    pub const EXPERIMENT_2: u8 = 254;
}

/// Experiment identifier of TCP Fast Open (IANA TCP experimental option identifiers, RFC 6994).
const FAST_OPEN_EXID: [u8; 2] = [0xf9, 0x89];

/// Timestamps (RFC 7323 section 3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct TcpTimestamps {
    /// TSval, the sender's clock.
    pub value: u32,
    /// TSecr, the echo of the peer's clock.
    pub echo: u32,
}

/// One SACK block: `left` is the first number received, `right` the first one after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SackBlock {
    /// First sequence number of the block.
    pub left: SeqNumber,
    /// The one that follows its last.
    pub right: SeqNumber,
}

/// Up to [`SACK_BLOCKS_MAX`] SACK blocks, in wire order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SackBlocks {
    blocks: [SackBlock; SACK_BLOCKS_MAX],
    len: u8,
}

impl SackBlocks {
    /// The blocks.
    pub fn as_slice(&self) -> &[SackBlock] {
        &self.blocks[..usize::from(self.len)]
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a block; false, with nothing changed, when [`SACK_BLOCKS_MAX`] are there.
    pub fn push(&mut self, block: SackBlock) -> bool {
        let Some(slot) = self.blocks.get_mut(usize::from(self.len)) else { return false };
        *slot = block;
        self.len += 1;
        true
    }
}

impl fmt::Debug for SackBlocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.as_slice()).finish()
    }
}

/// A TCP Fast Open cookie; an empty one asks for a cookie (RFC 7413 section 4.1.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct FastOpenCookie {
    bytes: [u8; FAST_OPEN_COOKIE_LEN_MAX],
    len: u8,
    /// Whether it travels in the experimental option 254 instead of option 34.
    pub experimental: bool,
}

impl FastOpenCookie {
    /// A cookie; `None` when it is longer than [`FAST_OPEN_COOKIE_LEN_MAX`].
    pub fn new(cookie: &[u8], experimental: bool) -> Option<Self> {
        let mut bytes = [0; FAST_OPEN_COOKIE_LEN_MAX];
        bytes.get_mut(..cookie.len())?.copy_from_slice(cookie);
        Some(Self { bytes, len: cookie.len() as u8, experimental })
    }

    /// The cookie's bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl fmt::Debug for FastOpenCookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FastOpenCookie({:02x?}, experimental: {})", self.as_slice(), self.experimental)
    }
}

/// Which counter leads an AccECN option (RFC 9768 section 3.2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AccEcnOrder {
    /// Kind 172: ECT(0), CE, ECT(1).
    Ect0First,
    /// Kind 174: ECT(1), CE, ECT(0).
    Ect1First,
}

/// An AccECN option: none to three 24-bit byte counters; what is left out did not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AccEcn {
    order: AccEcnOrder,
    counters: [u32; 3],
    len: u8,
}

impl AccEcn {
    /// An option with these counters in wire order, each cut to 24 bits; `None` for more than three.
    pub fn new(order: AccEcnOrder, counters: &[u32]) -> Option<Self> {
        let mut kept = [0; 3];
        for (slot, counter) in kept.get_mut(..counters.len())?.iter_mut().zip(counters) {
            *slot = counter & 0x00ff_ffff;
        }
        Some(Self { order, counters: kept, len: counters.len() as u8 })
    }

    /// Field order.
    pub fn order(&self) -> AccEcnOrder {
        self.order
    }

    /// The counters that are there, in wire order.
    pub fn counters(&self) -> &[u32] {
        &self.counters[..usize::from(self.len)]
    }

    /// Bytes received with CE, modulo 2^24 (with the initial value of RFC 9768 section 3.2.1).
    pub fn ce_bytes(&self) -> Option<u32> {
        self.counters().get(1).copied()
    }

    /// Bytes received with ECT(0), modulo 2^24.
    pub fn ect0_bytes(&self) -> Option<u32> {
        let at = if self.order == AccEcnOrder::Ect0First { 0 } else { 2 };
        self.counters().get(at).copied()
    }

    /// Bytes received with ECT(1), modulo 2^24.
    pub fn ect1_bytes(&self) -> Option<u32> {
        let at = if self.order == AccEcnOrder::Ect1First { 0 } else { 2 };
        self.counters().get(at).copied()
    }
}

/// One option as it stands in the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TcpOption<'a> {
    /// Padding of one byte.
    Nop,
    /// Maximum segment size (RFC 9293 section 3.7.1).
    Mss(u16),
    /// Window scale shift count, as sent; values above 14 count as 14 (RFC 7323 section 2.3).
    WindowScale(u8),
    /// SACK permitted (RFC 2018).
    SackPermitted,
    /// SACK blocks (RFC 2018).
    Sack(SackBlocks),
    /// Timestamps (RFC 7323).
    Timestamps(TcpTimestamps),
    /// MD5 signature (RFC 2385).
    Md5(&'a [u8; 16]),
    /// Fast Open cookie (RFC 7413), standard or experimental.
    FastOpen(FastOpenCookie),
    /// Accurate ECN (RFC 9768).
    AccEcn(AccEcn),
    /// Any other kind, or a known kind with a length that it cannot have.
    Unknown {
        /// The kind.
        kind: u8,
        /// What follows kind and length.
        data: &'a [u8],
    },
}

/// Walks options in wire order; stops at the end-of-list option, at the end of the bytes, or after
/// one error.
#[derive(Debug, Clone)]
pub struct TcpOptionIter<'a> {
    rest: &'a [u8],
}

impl<'a> TcpOptionIter<'a> {
    /// Walks these bytes.
    #[inline]
    pub fn new(options: &'a [u8]) -> Self {
        Self { rest: options }
    }
}

impl<'a> Iterator for TcpOptionIter<'a> {
    type Item = Result<TcpOption<'a>>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (&kind, after_kind) = self.rest.split_first()?;
        match kind {
            kind::END => {
                self.rest = &[];
                return None;
            }
            kind::NOP => {
                self.rest = after_kind;
                return Some(Ok(TcpOption::Nop));
            }
            _ => {}
        }
        let len = after_kind.first().map_or(0, |&len| usize::from(len));
        if len < 2 || len > self.rest.len() {
            // RFC 9293 section 3.1, MUST-7: an illegal option length must be handled.
            let error = ParseError::invalid(Protocol::Tcp, "option length", len as u32);
            self.rest = &[];
            return Some(Err(error));
        }
        let (option, rest) = self.rest.split_at(len);
        self.rest = rest;
        Some(Ok(decode(kind, &option[2..])))
    }
}

fn be32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |value, &byte| value << 8 | u32::from(byte))
}

fn decode(kind: u8, data: &[u8]) -> TcpOption<'_> {
    let known = match kind {
        kind::MSS if data.len() == 2 => Some(TcpOption::Mss(be32(data) as u16)),
        kind::WINDOW_SCALE if data.len() == 1 => Some(TcpOption::WindowScale(data[0])),
        kind::SACK_PERMITTED if data.is_empty() => Some(TcpOption::SackPermitted),
        kind::SACK if !data.is_empty() && data.len().is_multiple_of(8) => {
            let mut blocks = SackBlocks::default();
            // 38 bytes at most follow kind and length, so no more than four blocks.
            for block in data.chunks_exact(8) {
                let left = SeqNumber(be32(&block[..4]));
                blocks.push(SackBlock { left, right: SeqNumber(be32(&block[4..])) });
            }
            (blocks.as_slice().len() * 8 == data.len()).then_some(TcpOption::Sack(blocks))
        }
        kind::TIMESTAMPS if data.len() == 8 => Some(TcpOption::Timestamps(TcpTimestamps {
            value: be32(&data[..4]),
            echo: be32(&data[4..]),
        })),
        kind::MD5 => data.try_into().ok().map(TcpOption::Md5),
        kind::FAST_OPEN => FastOpenCookie::new(data, false).map(TcpOption::FastOpen),
        // Fast Open before RFC 7413: the experiment identifier leads the cookie (RFC 6994).
        kind::EXPERIMENT_2 if data.starts_with(&FAST_OPEN_EXID) => {
            FastOpenCookie::new(&data[2..], true).map(TcpOption::FastOpen)
        }
        kind::ACC_ECN_0 | kind::ACC_ECN_1 if data.len().is_multiple_of(3) && data.len() <= 9 => {
            let order = if kind == kind::ACC_ECN_0 {
                AccEcnOrder::Ect0First
            } else {
                AccEcnOrder::Ect1First
            };
            let mut counters = [0; 3];
            for (counter, bytes) in counters.iter_mut().zip(data.chunks_exact(3)) {
                *counter = be32(bytes);
            }
            AccEcn::new(order, &counters[..data.len() / 3]).map(TcpOption::AccEcn)
        }
        _ => None,
    };
    known.unwrap_or(TcpOption::Unknown { kind, data })
}

/// Options that this crate does not know, as they stood on the wire, kind and length included.
#[derive(Clone, Copy)]
pub struct UnknownOptions {
    bytes: [u8; TCP_OPTIONS_LEN_MAX],
    len: u8,
}

impl UnknownOptions {
    /// The options' bytes, one after the other.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// Adds one option; false, with nothing changed, when it does not fit into 40 bytes.
    pub fn push(&mut self, kind: u8, data: &[u8]) -> bool {
        let start = usize::from(self.len);
        let end = start + 2 + data.len();
        let Some(room) = self.bytes.get_mut(start..end) else { return false };
        room[0] = kind;
        room[1] = (2 + data.len()) as u8;
        room[2..].copy_from_slice(data);
        self.len = end as u8;
        true
    }
}

impl Default for UnknownOptions {
    fn default() -> Self {
        Self { bytes: [0; TCP_OPTIONS_LEN_MAX], len: 0 }
    }
}

impl PartialEq for UnknownOptions {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for UnknownOptions {}

impl fmt::Debug for UnknownOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x?}", self.as_slice())
    }
}

/// The options of one header as plain data. The first of a repeated option counts; the others are
/// dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TcpOptions {
    /// Maximum segment size, bytes.
    pub mss: Option<u16>,
    /// Window scale shift count, as sent.
    pub window_scale: Option<u8>,
    /// SACK permitted.
    pub sack_permitted: bool,
    /// Timestamps.
    pub timestamps: Option<TcpTimestamps>,
    /// SACK blocks; empty means no option.
    pub sack: SackBlocks,
    /// Fast Open cookie.
    pub fast_open: Option<FastOpenCookie>,
    /// MD5 signature.
    pub md5: Option<[u8; 16]>,
    /// Accurate ECN.
    pub acc_ecn: Option<AccEcn>,
    /// What this crate does not know.
    pub unknown: UnknownOptions,
}

impl TcpOptions {
    /// Reads options.
    ///
    /// # Errors
    /// When an option's length is below 2 or beyond the bytes.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let mut options = Self::default();
        // The layout that RFC 7323 appendix A recommends, and nearly every data segment has.
        if let [1, 1, kind::TIMESTAMPS, 10, stamps @ ..] = bytes
            && stamps.len() == 8
        {
            options.timestamps =
                Some(TcpTimestamps { value: be32(&stamps[..4]), echo: be32(&stamps[4..]) });
            return Ok(options);
        }
        for option in TcpOptionIter::new(bytes) {
            options.insert(option?);
        }
        Ok(options)
    }

    fn insert(&mut self, option: TcpOption<'_>) {
        match option {
            TcpOption::Nop => {}
            TcpOption::Mss(mss) => _ = self.mss.get_or_insert(mss),
            TcpOption::WindowScale(shift) => _ = self.window_scale.get_or_insert(shift),
            TcpOption::SackPermitted => self.sack_permitted = true,
            TcpOption::Sack(blocks) if self.sack.is_empty() => self.sack = blocks,
            TcpOption::Sack(_) => {}
            TcpOption::Timestamps(stamps) => _ = self.timestamps.get_or_insert(stamps),
            TcpOption::Md5(digest) => _ = self.md5.get_or_insert(*digest),
            TcpOption::FastOpen(cookie) => _ = self.fast_open.get_or_insert(cookie),
            TcpOption::AccEcn(acc_ecn) => _ = self.acc_ecn.get_or_insert(acc_ecn),
            // Parsed bytes never exceed 40, so this cannot be refused.
            TcpOption::Unknown { kind, data } => _ = self.unknown.push(kind, data),
        }
    }

    /// Bytes that [`Self::emit`] writes: a multiple of four, at most 40.
    #[inline]
    pub fn emitted_len(&self) -> usize {
        let aligned = self.lay_out(Some(TCP_OPTIONS_LEN_MAX), true, &mut Measure);
        match aligned {
            Some(len) => len,
            None => self.lay_out(None, false, &mut Measure).unwrap_or(0),
        }
        .next_multiple_of(4)
    }

    /// Writes the options, padded to a multiple of four, and returns the number of bytes.
    ///
    /// Options stand on word borders where all fit that way, else without padding between. Every
    /// set that came from [`Self::parse`] fits. What does not fit in 40 bytes is left out, first
    /// SACK blocks (RFC 2018 section 3), then from the end of: MSS, SACK permitted, timestamps,
    /// window scale, MD5, Fast Open, AccECN, unknown.
    ///
    /// # Panics
    /// When `out` is shorter than [`Self::emitted_len`].
    #[inline]
    pub fn emit(&self, out: &mut [u8]) -> usize {
        let fits = self.lay_out(Some(TCP_OPTIONS_LEN_MAX), true, &mut Measure).is_some();
        let mut sink = Write { out };
        let len = if fits {
            self.lay_out(Some(TCP_OPTIONS_LEN_MAX), true, &mut sink)
        } else {
            self.lay_out(None, false, &mut sink)
        }
        .unwrap_or(0);
        let padded = len.next_multiple_of(4);
        out[len..padded].fill(kind::END);
        padded
    }

    /// Lays the options out. With `strict`, `None` when they exceed it; without, what does not fit
    /// is left out.
    fn lay_out(&self, strict: Option<usize>, align: bool, sink: &mut impl Sink) -> Option<usize> {
        let mut layout = Layout { at: 0, strict: strict.is_some(), align, sink };
        // SACK permitted fills the hole before timestamps on a SYN, as NOPs do otherwise.
        let paired = self.sack_permitted && self.timestamps.is_some() && align;
        if let Some(mss) = self.mss {
            layout.put(0, kind::MSS, &mss.to_be_bytes())?;
        }
        if self.sack_permitted {
            layout.put(if paired { 0 } else { 2 }, kind::SACK_PERMITTED, &[])?;
        }
        if let Some(TcpTimestamps { value, echo }) = self.timestamps {
            let mut data = [0; 8];
            data[..4].copy_from_slice(&value.to_be_bytes());
            data[4..].copy_from_slice(&echo.to_be_bytes());
            layout.put(if paired { 0 } else { 2 }, kind::TIMESTAMPS, &data)?;
        }
        if let Some(shift) = self.window_scale {
            layout.put(1, kind::WINDOW_SCALE, &[shift])?;
        }
        if let Some(digest) = &self.md5 {
            layout.put(2, kind::MD5, digest)?;
        }
        if let Some(cookie) = &self.fast_open {
            let mut data = [0; 2 + FAST_OPEN_COOKIE_LEN_MAX];
            data[..2].copy_from_slice(&FAST_OPEN_EXID);
            let end = 2 + cookie.as_slice().len();
            data[2..end].copy_from_slice(cookie.as_slice());
            let (kind, start) =
                if cookie.experimental { (kind::EXPERIMENT_2, 0) } else { (kind::FAST_OPEN, 2) };
            layout.put_aligned(kind, &data[start..end])?;
        }
        if let Some(acc_ecn) = &self.acc_ecn {
            let mut data = [0; 9];
            for (slot, counter) in data.chunks_exact_mut(3).zip(acc_ecn.counters()) {
                slot.copy_from_slice(&counter.to_be_bytes()[1..]);
            }
            let kind = match acc_ecn.order {
                AccEcnOrder::Ect0First => kind::ACC_ECN_0,
                AccEcnOrder::Ect1First => kind::ACC_ECN_1,
            };
            layout.put_aligned(kind, &data[..acc_ecn.counters().len() * 3])?;
        }
        layout.put_raw(self.unknown.as_slice())?;
        self.lay_out_sack(&mut layout)?;
        Some(layout.at)
    }

    fn lay_out_sack(&self, layout: &mut Layout<'_, impl Sink>) -> Option<()> {
        if self.sack.is_empty() {
            return Some(());
        }
        let mut data = [0; SACK_BLOCKS_MAX * 8];
        for (slot, block) in data.chunks_exact_mut(8).zip(self.sack.as_slice()) {
            slot[..4].copy_from_slice(&block.left.0.to_be_bytes());
            slot[4..].copy_from_slice(&block.right.0.to_be_bytes());
        }
        let mut blocks = self.sack.as_slice().len();
        if !layout.strict {
            let room = TCP_OPTIONS_LEN_MAX.saturating_sub(layout.at + 2);
            blocks = blocks.min(room / 8);
            if blocks == 0 {
                return Some(());
            }
        }
        layout.put(2, kind::SACK, &data[..blocks * 8])
    }
}

/// Where a layout goes: nowhere, to measure it, or into a buffer.
trait Sink {
    fn write(&mut self, at: usize, bytes: &[u8]);
}

struct Measure;

impl Sink for Measure {
    fn write(&mut self, _at: usize, _bytes: &[u8]) {}
}

struct Write<'a> {
    out: &'a mut [u8],
}

impl Sink for Write<'_> {
    fn write(&mut self, at: usize, bytes: &[u8]) {
        self.out[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

struct Layout<'a, S> {
    at: usize,
    strict: bool,
    align: bool,
    sink: &'a mut S,
}

impl<S: Sink> Layout<'_, S> {
    /// Room for `len` bytes: `Some(false)` when an option is to be left out, `None` when the whole
    /// layout fails.
    fn room(&self, len: usize) -> Option<bool> {
        if self.at + len <= TCP_OPTIONS_LEN_MAX {
            Some(true)
        } else if self.strict {
            None
        } else {
            Some(false)
        }
    }

    fn put(&mut self, nops: usize, kind: u8, data: &[u8]) -> Option<()> {
        let nops = if self.align { nops } else { 0 };
        if self.room(nops + 2 + data.len())? {
            self.sink.write(self.at, &[kind::NOP; 3][..nops]);
            self.at += nops;
            self.sink.write(self.at, &[kind, (2 + data.len()) as u8]);
            self.sink.write(self.at + 2, data);
            self.at += 2 + data.len();
        }
        Some(())
    }

    /// Puts an option with as many NOPs before it as make it end on a word.
    fn put_aligned(&mut self, kind: u8, data: &[u8]) -> Option<()> {
        let end = self.at + 2 + data.len();
        self.put(end.next_multiple_of(4) - end, kind, data)
    }

    fn put_raw(&mut self, bytes: &[u8]) -> Option<()> {
        if bytes.is_empty() {
            return Some(());
        }
        let end = self.at + bytes.len();
        let nops = if self.align { end.next_multiple_of(4) - end } else { 0 };
        if self.room(nops + bytes.len())? {
            self.sink.write(self.at, &[kind::NOP; 3][..nops]);
            self.sink.write(self.at + nops, bytes);
            self.at += nops + bytes.len();
        }
        Some(())
    }
}
