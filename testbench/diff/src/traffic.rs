//! Frames for either direction: mostly what a network carries, often damaged, sometimes nonsense.

use tandem_cosim::Random;

const TCP: u8 = 6;
const UDP: u8 = 17;

/// What is drawn from.
#[derive(Debug, Clone, Copy)]
pub struct Kinds {
    /// Station address of the NIC.
    pub mac: [u8; 6],
    /// Longest frame that the NIC takes.
    pub frame_len_max: u32,
}

/// Random bytes.
pub fn noise(random: &mut Random, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend_from_slice(&random.next_u64().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// A length of payload: mostly small, now and then up to a jumbo frame.
fn payload_len(random: &mut Random) -> usize {
    match random.below(100) {
        0..55 => random.below(64) as usize,
        55..85 => random.below(256) as usize,
        85..97 => random.below(1_480) as usize,
        97..99 => random.between(1_400, 1_600) as usize,
        _ => random.below(9_180) as usize,
    }
}

fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0_u64;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or(0));
        }
    }
    while sum >> 16 != 0 {
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    !(sum as u16)
}

/// A frame, and where its transport checksum starts and lies, counted from there.
#[derive(Debug, Clone)]
pub struct Packet {
    /// From the destination address on.
    pub frame: Vec<u8>,
    /// First byte of the transport header; 0 when there is none.
    pub l4: usize,
    /// Checksum field, counted from `l4`.
    pub field: usize,
    /// Ones' complement sum of the pseudo header.
    pub pseudo: u16,
}

/// A frame of the kinds that the NIC can judge, checksums right.
pub fn packet(random: &mut Random, kinds: &Kinds) -> Packet {
    let mut frame = match random.below(10) {
        0 => vec![0xFF; 6],
        1 => vec![0x33, 0x33, 0, 0, 0, random.next_u64() as u8],
        _ => kinds.mac.to_vec(),
    };
    frame.extend_from_slice(&noise(random, 6));
    for _ in 0..[0, 0, 0, 0, 0, 1, 1, 2, 2, 3][random.below(10) as usize] {
        frame.extend_from_slice(if random.chance(1, 2) { &[0x81, 0] } else { &[0x88, 0xA8] });
        frame.extend_from_slice(&noise(random, 2));
    }
    let v6 = random.chance(1, 2);
    let protocol = match random.below(8) {
        0 => random.next_u64() as u8,
        1..5 => UDP,
        _ => TCP,
    };
    let header = if protocol == UDP { 8 } else { 20 };
    let room = kinds.frame_len_max as usize - 100;
    let payload_len = payload_len(random).min(room);
    let payload = noise(random, payload_len);
    let l4_len = header + payload.len();
    let mut addresses = noise(random, if v6 { 32 } else { 8 });
    if v6 {
        frame.extend_from_slice(&[0x86, 0xDD, 0x60, 0, 0, 0]);
        frame.extend_from_slice(&(l4_len as u16).to_be_bytes());
        frame.extend_from_slice(&[protocol, 64]);
        frame.extend_from_slice(&addresses);
    } else {
        let words = if random.chance(1, 6) { random.below(11) as usize } else { 0 };
        frame.extend_from_slice(&[0x08, 0x00]);
        let mut ip = vec![0x45 + words as u8, random.next_u64() as u8];
        ip.extend_from_slice(&((20 + 4 * words + l4_len) as u16).to_be_bytes());
        ip.extend_from_slice(&noise(random, 2));
        ip.extend_from_slice(&[if random.chance(1, 2) { 0x40 } else { 0 }, 0, 64, protocol, 0, 0]);
        ip.extend_from_slice(&addresses);
        ip.extend_from_slice(&noise(random, 4 * words));
        let sum = checksum(&[&ip]);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
        frame.extend_from_slice(&ip);
    }
    let l4 = frame.len();
    let mut transport = noise(random, header);
    let field = if protocol == UDP { 6 } else { 16 };
    if protocol == UDP {
        transport[4..6].copy_from_slice(&(l4_len as u16).to_be_bytes());
    }
    transport[field..field + 2].fill(0);
    addresses.extend_from_slice(&[0, protocol]);
    addresses.extend_from_slice(&(l4_len as u16).to_be_bytes());
    let sum = match checksum(&[&addresses, &transport, &payload]) {
        // RFC 768: zero means that there is none.
        0 => 0xFFFF,
        sum => sum,
    };
    transport[field..field + 2].copy_from_slice(&sum.to_be_bytes());
    frame.extend_from_slice(&transport);
    frame.extend_from_slice(&payload);
    Packet { frame, l4, field, pseudo: !checksum(&[&addresses]) }
}

/// A frame for the receive side, and whether the MAC flags it.
pub fn arrival(random: &mut Random, kinds: &Kinds) -> (Vec<u8>, bool) {
    let error = random.chance(1, 60);
    let mut frame = match random.below(30) {
        0 => {
            // Runts, and the shortest that is none.
            let len = 1 + random.below(16) as usize;
            noise(random, len)
        }
        1 => {
            let len = 14 + random.below(300) as usize;
            noise(random, len)
        }
        2 if random.chance(1, 12) => {
            let over = random.between(0, 12) as usize;
            let mut frame = noise(random, kinds.frame_len_max as usize - 4 + over);
            frame[..6].copy_from_slice(&kinds.mac);
            frame
        }
        _ => packet(random, kinds).frame,
    };
    match random.below(16) {
        // One bit is wrong, mostly in the headers.
        0 | 1 => {
            let bound = if random.chance(2, 3) { frame.len().min(80) } else { frame.len() };
            let at = random.below(bound as u64) as usize;
            frame[at] ^= 1 << random.below(8);
        }
        // A fragment.
        2 if frame.len() > 40 => frame[20] ^= [0x20, 0x01, 0x80][random.below(3) as usize],
        // Cut short.
        3 => {
            let len = random.between(1, frame.len() as u64) as usize;
            frame.truncate(len);
        }
        // Padded behind its end.
        4 => {
            let more = random.below(40) as usize;
            if frame.len() + more <= kinds.frame_len_max as usize {
                frame.extend_from_slice(&noise(random, more));
            }
        }
        // Somebody else's.
        5 if random.chance(1, 2) => frame[0] = 0x06,
        _ => {}
    }
    (frame, error)
}

/// A virtio-net header and a frame for the transmit side: mostly sound requests.
pub fn request(random: &mut Random, kinds: &Kinds, csum: bool) -> Vec<u8> {
    let Packet { mut frame, l4, field, pseudo } = packet(random, kinds);
    let mut header = [0_u8; 12];
    let (start, offset) = match random.below(8) {
        // Anywhere, odd places too, often outside.
        0 | 1 => {
            let bound = frame.len() as u64 + 8;
            let near = if random.chance(1, 2) { 40 } else { bound };
            (random.below(bound) as u16, random.below(near) as u16)
        }
        2 if random.chance(1, 4) => (random.next_u64() as u16, random.next_u64() as u16),
        // The last places that can be.
        3 => (
            frame.len().saturating_sub(random.below(4) as usize + 1) as u16,
            random.below(3) as u16,
        ),
        _ => {
            frame[l4 + field..l4 + field + 2].copy_from_slice(&pseudo.to_be_bytes());
            (l4 as u16, field as u16)
        }
    };
    let ask = if csum { random.chance(2, 3) } else { random.chance(1, 12) };
    header[0] =
        u8::from(ask) | if random.chance(1, 20) { random.next_u64() as u8 & 0xFE } else { 0 };
    if random.chance(1, 40) {
        header[1] = random.next_u64() as u8;
    }
    // Fields that nobody may look at.
    header[2..6].copy_from_slice(&noise(random, 4));
    header[6..8].copy_from_slice(&start.to_le_bytes());
    header[8..10].copy_from_slice(&offset.to_le_bytes());
    header[10..12].copy_from_slice(&noise(random, 2));
    if random.chance(1, 30) {
        frame.truncate(random.below(15) as usize);
    }
    [&header[..], &frame].concat()
}
