//! Packets of the GDB remote protocol: their frame, checksum, escapes and run-lengths.
//!
//! Source: "Remote Protocol", Overview, in GDB's manual. A packet is `$DATA#CC`, CC the sum of the bytes of DATA modulo 256;
//! `}` escapes the next byte, which is XORed with 0x20; `X*N` stands for X and N - 29 more of it; `%DATA#CC` is a
//! notification, and outside packets stand `+` and `-` alone.

/// The longest packet that is taken, in bytes as they were sent.
pub(crate) const MAX_PACKET: usize = 1 << 18;

/// The longest data of a packet with its run-lengths written out.
const MAX_DATA: usize = 1 << 18;

/// What came from the other side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    /// `+`: the last packet was understood.
    Ack,
    /// `-`: it was not.
    Nak,
    /// A packet's data, escapes and run-lengths undone.
    Packet(Vec<u8>),
    /// A packet whose checksum is wrong.
    BadChecksum,
    /// A notification; nothing here asks for any.
    Notification,
}

/// Why what came is no packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Garbage {
    /// A byte outside packets that has no meaning there; with what follows it.
    Outside(Vec<u8>),
    /// A packet without an end, or with run-lengths that make it as long.
    TooLong,
    /// An escape or a run-length without what belongs to it.
    Encoding,
}

/// `data` as a packet.
pub(crate) fn encode(data: &[u8], out: &mut Vec<u8>) {
    out.push(b'$');
    let start = out.len();
    for &byte in data {
        match byte {
            b'$' | b'#' | b'}' | b'*' => out.extend([b'}', byte ^ 0x20]),
            _ => out.push(byte),
        }
    }
    let sum = checksum(out.get(start..).unwrap_or_default());
    out.extend([b'#', digit(sum >> 4), digit(sum & 0xf)]);
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)]).collect()
}

/// Hexadecimal digits as bytes; `None` where something else stands among them, or half a byte.
pub(crate) fn unhex(digits: &[u8]) -> Option<Vec<u8>> {
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(value(*high)? << 4 | value(*low)?)).collect()
}

/// The value of one hexadecimal digit.
pub(crate) const fn value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

const fn digit(nibble: u8) -> u8 {
    if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 }
}

fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte))
}

/// Takes bytes as they come and gives what is whole.
#[derive(Debug, Default)]
pub(crate) struct Scanner {
    bytes: Vec<u8>,
    /// What lies before it has been given out.
    start: usize,
    /// Between `start` and it there is no `#`.
    searched: usize,
}

impl Scanner {
    /// More bytes.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        if self.start == self.bytes.len() {
            self.bytes.clear();
            (self.start, self.searched) = (0, 0);
        } else if self.start > MAX_PACKET {
            self.bytes.drain(..self.start);
            self.searched = self.searched.saturating_sub(self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Forgets what has come and was not given out.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        (self.start, self.searched) = (0, 0);
    }

    /// The next thing that is there in whole.
    pub(crate) fn next(&mut self) -> Result<Option<Incoming>, Garbage> {
        let waiting = self.bytes.get(self.start..).unwrap_or_default();
        let Some(&first) = waiting.first() else { return Ok(None) };
        match first {
            b'+' | b'-' => {
                self.start += 1;
                self.searched = self.start;
                return Ok(Some(if first == b'+' { Incoming::Ack } else { Incoming::Nak }));
            }
            b'$' | b'%' => {}
            _ => return Err(Garbage::Outside(waiting.iter().take(40).copied().collect())),
        }
        let from = self.searched.max(self.start);
        let Some(end) = memchr::memchr(b'#', self.bytes.get(from..).unwrap_or_default()).map(|at| from + at)
        else {
            self.searched = self.bytes.len();
            return if waiting.len() > MAX_PACKET { Err(Garbage::TooLong) } else { Ok(None) };
        };
        self.searched = end;
        if end - self.start > MAX_PACKET {
            return Err(Garbage::TooLong);
        }
        let Some(&[high, low]) = self.bytes.get(end + 1..end + 3) else { return Ok(None) };
        let data = self.bytes.get(self.start + 1..end).unwrap_or_default();
        let right = value(high).zip(value(low)).is_some_and(|(high, low)| high << 4 | low == checksum(data));
        let incoming = match (right, first) {
            (false, _) => Incoming::BadChecksum,
            (true, b'%') => Incoming::Notification,
            (true, _) => Incoming::Packet(decode(data)?),
        };
        self.start = end + 3;
        self.searched = self.start;
        Ok(Some(incoming))
    }
}

/// Undoes escapes and run-lengths.
fn decode(data: &[u8]) -> Result<Vec<u8>, Garbage> {
    if memchr::memchr2(b'}', b'*', data).is_none() {
        return Ok(data.to_vec());
    }
    let mut out = Vec::with_capacity(data.len());
    let mut bytes = data.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b'}' => out.push(bytes.next().ok_or(Garbage::Encoding)? ^ 0x20),
            b'*' => {
                let count =
                    bytes.next().ok_or(Garbage::Encoding)?.checked_sub(29).ok_or(Garbage::Encoding)?;
                let last = *out.last().ok_or(Garbage::Encoding)?;
                out.resize(out.len() + usize::from(count), last);
            }
            _ => out.push(byte),
        }
        if out.len() > MAX_DATA {
            return Err(Garbage::TooLong);
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(bytes: &[u8]) -> Result<Vec<Incoming>, Garbage> {
        let mut scanner = Scanner::default();
        scanner.feed(bytes);
        let mut all = Vec::new();
        while let Some(incoming) = scanner.next()? {
            all.push(incoming);
        }
        Ok(all)
    }

    fn packet(data: &[u8]) -> Incoming {
        Incoming::Packet(data.to_vec())
    }

    #[test]
    fn packets_have_the_manuals_checksums() {
        let mut out = Vec::new();
        // The manual's example of run-lengths is `0* `: four zeros; checksums by hand: 'g' is 0x67, 'O' + 'K' 0x9a.
        encode(b"g", &mut out);
        encode(b"OK", &mut out);
        assert_eq!(out, b"$g#67$OK#9a");
        assert_eq!(
            scan(b"+$OK#9a-$0* #7a").unwrap(),
            [Incoming::Ack, packet(b"OK"), Incoming::Nak, packet(b"0000")]
        );
    }

    #[test]
    fn every_byte_survives_its_escape() {
        let all: Vec<u8> = (0..=255).collect();
        let mut out = Vec::new();
        encode(&all, &mut out);
        assert_eq!(scan(&out).unwrap(), [packet(&all)]);
        assert_eq!(out.iter().filter(|byte| **byte == b'#').count(), 1);
    }

    #[test]
    fn packets_come_in_any_pieces() {
        let mut bytes = Vec::new();
        encode(b"first", &mut bytes);
        bytes.push(b'+');
        encode(b"second", &mut bytes);
        let mut scanner = Scanner::default();
        let mut found = Vec::new();
        for byte in bytes {
            scanner.feed(&[byte]);
            while let Some(incoming) = scanner.next().unwrap() {
                found.push(incoming);
            }
        }
        assert_eq!(found, [packet(b"first"), Incoming::Ack, packet(b"second")]);
    }

    #[test]
    fn wrong_checksums_are_seen_and_the_next_packet_is_found() {
        assert_eq!(
            scan(b"$OK#9b$OK#zz$OK#9a").unwrap(),
            [Incoming::BadChecksum, Incoming::BadChecksum, packet(b"OK")]
        );
        assert_eq!(scan(b"%Stop:T05#8d").unwrap().len(), 1);
    }

    #[test]
    fn garbage_is_refused_in_bounded_memory() {
        assert_eq!(scan(b"SSH-2.0-x"), Err(Garbage::Outside(b"SSH-2.0-x".to_vec())));
        assert!(matches!(scan(&[0; 100]), Err(Garbage::Outside(start)) if start.len() == 40));
        let endless = [b"$".as_slice(), &vec![b'a'; MAX_PACKET + 1]].concat();
        assert_eq!(scan(&endless), Err(Garbage::TooLong));
        // Each run is 97 bytes long: a packet of 2 * 10 000 bytes would be a megabyte.
        let mut bomb = b"0".to_vec();
        bomb.extend(b"*~".repeat(10_000));
        let sum = checksum(&bomb);
        let bomb = [b"$".as_slice(), &bomb, b"#", &hex(&[sum])].concat();
        assert_eq!(scan(&bomb), Err(Garbage::TooLong));
        for bad in [b"$*!#4b".as_slice(), b"$0*#5a", b"$}#7d", b"$0*\x01#5b"] {
            assert_eq!(scan(bad), Err(Garbage::Encoding), "{bad:?}");
        }
    }

    #[test]
    fn hexadecimal_both_ways() {
        assert_eq!(unhex(&hex(&[0, 0x7f, 0xff])), Some(vec![0, 0x7f, 0xff]));
        assert_eq!((unhex(b"0"), unhex(b"0x"), unhex(b"AbcD")), (None, None, Some(vec![0xab, 0xcd])));
    }
}
