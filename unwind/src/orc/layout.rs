//! [`OrcLayout`]: where the parts of a rule lie in its bytes, which kernels have changed.

use super::entry::{OrcEntry, OrcKind, OrcNumbering, OrcRegister};

/// A bit-field: its place and width in bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bits {
    /// Its first bit, counted from the entry's start.
    pub offset: u8,
    /// How many there are.
    pub width: u8,
}

impl Bits {
    /// The field, if it lies in an entry of `bytes` bytes.
    fn new((offset, width): (u64, u64), bytes: usize) -> Option<Self> {
        let end = offset.checked_add(width)?;
        let fits = (1..=16).contains(&width) && end <= bytes as u64 * 8;
        fits.then_some(Self { offset: u8::try_from(offset).ok()?, width: width as u8 })
    }

    const fn of(self, entry: u64) -> u64 {
        (entry >> self.offset) & ((1 << self.width) - 1)
    }

    const fn signed(self, entry: u64) -> i16 {
        let unused = 64 - self.width as u32;
        ((self.of(entry) << unused).cast_signed() >> unused) as i16
    }
}

/// Where the parts of a rule lie.
///
/// Kinds have two numberings: where an entry has an `end` bit, 0 is a call; later, 0 is unknown, 1 the end and 2 a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrcLayout {
    bytes: usize,
    sp_offset: Bits,
    bp_offset: Bits,
    sp_register: Bits,
    bp_register: Bits,
    kind: Bits,
    signal: Option<Bits>,
    end: Option<Bits>,
    numbering: OrcNumbering,
}

/// Bytes of an entry: what fits a word at the most.
const BYTES: core::ops::RangeInclusive<u64> = 1..=8;

/// How many rules tell how registers are numbered.
const NUMBERING_SAMPLE: usize = 4096;

/// `.orc_header`: the SHA-1 of the definition that a kernel was built with (`scripts/orc_hash.sh`). Since 6.4.
const HASH_6_4: [u8; 20] = [
    0xfe, 0x5d, 0x32, 0xbf, 0x58, 0x1b, 0xd6, 0x3b, 0x2c, 0xa9, 0xa5, 0xc6, 0x5b, 0xa5, 0xa6, 0x25, 0xea,
    0xb3, 0xfe, 0x24,
];
/// The same with rax as a register.
const HASH_RAX: [u8; 20] = [
    0xed, 0xfa, 0x4d, 0x15, 0x55, 0x2f, 0xdd, 0x2e, 0x1d, 0x56, 0x67, 0x97, 0x28, 0x41, 0x63, 0x79, 0xf2,
    0xfe, 0x45, 0x34,
];
/// Since 7.1: the registers have other numbers.
const HASH_7_1: [u8; 20] = [
    0x13, 0x7c, 0x36, 0xad, 0x76, 0x27, 0xc4, 0xdd, 0x55, 0x93, 0x21, 0x76, 0xbb, 0x0e, 0xcd, 0xbd, 0x50,
    0x41, 0xfc, 0x82,
];
/// Of 6.3.10 and later 6.3s.
const HASH_6_3: [u8; 20] = [
    0xdb, 0x84, 0xae, 0xd4, 0x10, 0x3b, 0x31, 0xdd, 0x51, 0xe0, 0x17, 0xf8, 0xf7, 0x97, 0x83, 0xca, 0x98,
    0x5c, 0x2c, 0x51,
];

const fn bits(offset: u8, width: u8) -> Bits {
    Bits { offset, width }
}

impl OrcLayout {
    /// Until 6.2: a kind of two bits and an end bit.
    pub const UNTIL_6_2: Self = Self {
        bytes: 6,
        sp_offset: bits(0, 16),
        bp_offset: bits(16, 16),
        sp_register: bits(32, 4),
        bp_register: bits(36, 4),
        kind: bits(40, 2),
        signal: None,
        end: Some(bits(42, 1)),
        numbering: OrcNumbering::Until70,
    };
    /// 6.3: a signal bit before the end bit.
    pub const OF_6_3: Self = Self { signal: Some(bits(42, 1)), end: Some(bits(43, 1)), ..Self::UNTIL_6_2 };
    /// Since 6.4: a kind of three bits, which says what the end bit did.
    pub const SINCE_6_4: Self =
        Self { kind: bits(40, 3), signal: Some(bits(43, 1)), end: None, ..Self::UNTIL_6_2 };
    /// Since 7.1: the same, with other numbers for the registers.
    pub const SINCE_7_1: Self = Self { numbering: OrcNumbering::Since71, ..Self::SINCE_6_4 };

    /// The layout that a kernel's type information describes: the size of `struct orc_entry`, and place and width in bits
    /// of each of its members. Nothing where it is none that could be decoded. How the registers are numbered it does not
    /// tell: see [`numbered_by`](Self::numbered_by).
    #[must_use]
    pub fn from_members(size: u64, member: impl Fn(&str) -> Option<(u64, u64)>) -> Option<Self> {
        let bytes = usize::try_from(size).ok().filter(|_| BYTES.contains(&size))?;
        let field = |name| Bits::new(member(name)?, bytes);
        let layout = Self {
            bytes,
            sp_offset: field("sp_offset")?,
            bp_offset: field("bp_offset")?,
            sp_register: field("sp_reg")?,
            bp_register: field("bp_reg")?,
            kind: field("type")?,
            signal: field("signal"),
            end: field("end"),
            numbering: OrcNumbering::Until70,
        };
        // One of them says where a stack ends.
        (layout.end.is_some() || layout.kind.width >= 3).then_some(layout)
    }

    /// The layout that the 20 bytes of `.orc_header` stand for, if they are known.
    #[must_use]
    pub fn from_header(hash: &[u8]) -> Option<Self> {
        let is = |known: &[u8; 20]| hash == known;
        if is(&HASH_6_4) || is(&HASH_RAX) {
            return Some(Self::SINCE_6_4);
        }
        if is(&HASH_7_1) {
            return Some(Self::SINCE_7_1);
        }
        is(&HASH_6_3).then_some(Self::OF_6_3)
    }

    /// Do the parts of a rule lie at the same places?
    #[must_use]
    pub fn same_bits(&self, other: &Self) -> bool {
        *self == Self { numbering: self.numbering, ..*other }
    }

    /// The layout with its registers numbered as in `entries`, which are some of a kernel's: at the first byte of a
    /// function the caller's stack pointer is 8 above the stack pointer, so that the number which stands there most often
    /// is the stack pointer's.
    #[must_use]
    pub fn numbered_by(self, entries: &[u8]) -> Self {
        let votes = |numbering: OrcNumbering| {
            let layout = Self { numbering, ..self };
            let chunks = entries.chunks_exact(self.bytes).take(NUMBERING_SAMPLE);
            let votes = |entry: &OrcEntry| {
                entry.kind == OrcKind::Call && entry.sp_offset == 8 && entry.sp == OrcRegister::Sp
            };
            chunks.filter_map(|chunk| layout.decode(chunk)).filter(votes).count()
        };
        let since_71 = votes(OrcNumbering::Since71) > votes(OrcNumbering::Until70);
        let numbering = if since_71 { OrcNumbering::Since71 } else { OrcNumbering::Until70 };
        Self { numbering, ..self }
    }

    /// Bytes of an entry.
    #[must_use]
    pub const fn entry_bytes(&self) -> usize {
        self.bytes
    }

    /// The rule in these bytes; nothing where they are fewer than an entry has.
    #[must_use]
    pub fn decode(&self, bytes: &[u8]) -> Option<OrcEntry> {
        let mut word = [0u8; 8];
        word.get_mut(..self.bytes)?.copy_from_slice(bytes.get(..self.bytes)?);
        let word = u64::from_le_bytes(word);
        let sp = self.numbering.register(self.sp_register.of(word));
        let kind = match (self.end, self.kind.of(word)) {
            (Some(end), kind) => match (end.of(word) != 0, kind) {
                (true, _) if sp == OrcRegister::Undefined => OrcKind::EndOfStack,
                (false, _) if sp == OrcRegister::Undefined => OrcKind::Undefined,
                (_, 0) => OrcKind::Call,
                (_, 1) => OrcKind::Registers,
                (_, 2) => OrcKind::PartialRegisters,
                _ => OrcKind::Unknown,
            },
            (None, 0) => OrcKind::Undefined,
            (None, 1) => OrcKind::EndOfStack,
            (None, 2) => OrcKind::Call,
            (None, 3) => OrcKind::Registers,
            (None, 4) => OrcKind::PartialRegisters,
            (None, _) => OrcKind::Unknown,
        };
        let signal = match self.signal {
            Some(signal) => signal.of(word) != 0,
            // Before there was a bit for it, stored registers were what told.
            None => matches!(kind, OrcKind::Registers | OrcKind::PartialRegisters),
        };
        Some(OrcEntry {
            sp_offset: self.sp_offset.signed(word),
            bp_offset: self.bp_offset.signed(word),
            sp,
            bp: self.numbering.register(self.bp_register.of(word)),
            kind,
            signal,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(flags: u16) -> [u8; 6] {
        let [low, high] = flags.to_le_bytes();
        [0x18, 0, 0xf0, 0xff, low, high]
    }

    /// sp_reg = SP, bp_reg = PREV_SP.
    const CALLED: u16 = 5 | 1 << 4;

    #[test]
    fn each_layout_has_its_own_bits() {
        let call = OrcEntry {
            sp_offset: 0x18,
            bp_offset: -16,
            sp: OrcRegister::Sp,
            bp: OrcRegister::PreviousSp,
            kind: OrcKind::Call,
            signal: false,
        };
        let old = |flags: u16| OrcLayout::UNTIL_6_2.decode(&entry(flags)).unwrap();
        assert_eq!(old(CALLED), call);
        assert_eq!(old(CALLED | 1 << 8), OrcEntry { kind: OrcKind::Registers, signal: true, ..call });
        assert_eq!(old(CALLED | 2 << 8), OrcEntry { kind: OrcKind::PartialRegisters, signal: true, ..call });
        assert_eq!([old(0).kind, old(1 << 10).kind], [OrcKind::Undefined, OrcKind::EndOfStack]);
        assert_eq!(old(CALLED | 3 << 8).kind, OrcKind::Unknown);

        let middle = |flags: u16| OrcLayout::OF_6_3.decode(&entry(flags)).unwrap();
        assert_eq!(middle(CALLED | 1 << 10), OrcEntry { signal: true, ..call });
        assert_eq!(middle(CALLED | 1 << 8), OrcEntry { kind: OrcKind::Registers, ..call });
        assert_eq!([middle(1 << 10).kind, middle(1 << 11).kind], [OrcKind::Undefined, OrcKind::EndOfStack]);

        let new = |flags: u16| OrcLayout::SINCE_6_4.decode(&entry(flags)).unwrap();
        assert_eq!(new(CALLED | 2 << 8), call);
        assert_eq!(
            new(CALLED | 3 << 8 | 1 << 11),
            OrcEntry { kind: OrcKind::Registers, signal: true, ..call }
        );
        assert_eq!(new(10 | 4 << 8).sp, OrcRegister::Ax);
        let kinds = [0, 1, 4, 5, 7].map(|kind: u16| new(CALLED | kind << 8).kind);
        assert_eq!(
            kinds,
            [
                OrcKind::Undefined,
                OrcKind::EndOfStack,
                OrcKind::PartialRegisters,
                OrcKind::Unknown,
                OrcKind::Unknown
            ]
        );
        assert_eq!(OrcLayout::SINCE_6_4.decode(&[0; 5]), None);

        // SP is 3 now, and PREV_SP 8.
        let newest = |flags: u16| OrcLayout::SINCE_7_1.decode(&entry(flags)).unwrap();
        assert_eq!(newest(3 | 8 << 4 | 2 << 8), call);
        assert_eq!([newest(9).sp, newest(10).sp], [OrcRegister::SpIndirect, OrcRegister::BpIndirect]);
    }

    #[test]
    fn the_rules_themselves_tell_how_registers_are_numbered() {
        let rule = |offset: u8, flags: u16| {
            let [low, high] = flags.to_le_bytes();
            [offset, 0, 0, 0, low, high]
        };
        let old =
            [rule(8, 5 | 2 << 8), rule(16, 3 | 2 << 8), rule(8, 3 | 2 << 8), rule(8, 5 | 2 << 8)].concat();
        let new = [rule(8, 3 | 2 << 8), rule(16, 5 | 2 << 8), rule(16, 5 | 2 << 8)].concat();
        assert_eq!(OrcLayout::SINCE_6_4.numbered_by(&old), OrcLayout::SINCE_6_4);
        assert_eq!(OrcLayout::SINCE_6_4.numbered_by(&new), OrcLayout::SINCE_7_1);
        assert_eq!(OrcLayout::SINCE_7_1.numbered_by(&[]), OrcLayout::SINCE_6_4);
    }

    /// The members of 6.12's `struct orc_entry`, as its BTF has them, and of 6.1's.
    fn member(name: &str, old: bool) -> Option<(u64, u64)> {
        match name {
            "sp_offset" => Some((0, 16)),
            "bp_offset" => Some((16, 16)),
            "sp_reg" => Some((32, 4)),
            "bp_reg" => Some((36, 4)),
            "type" if old => Some((40, 2)),
            "end" if old => Some((42, 1)),
            "type" => Some((40, 3)),
            "signal" if !old => Some((43, 1)),
            _ => None,
        }
    }

    #[test]
    fn type_information_decides() {
        assert_eq!(OrcLayout::from_members(6, |name| member(name, true)), Some(OrcLayout::UNTIL_6_2));
        assert_eq!(OrcLayout::from_members(6, |name| member(name, false)), Some(OrcLayout::SINCE_6_4));
        // A field that is not there, does not fit, or an entry of no or too many bytes.
        assert_eq!(OrcLayout::from_members(6, |_| None), None);
        assert_eq!(OrcLayout::from_members(5, |name| member(name, false)), None);
        assert_eq!(OrcLayout::from_members(u64::MAX, |name| member(name, false)), None);
        let wild = |name: &str| Some(if name == "type" { (u64::MAX, 4) } else { member(name, false)? });
        assert_eq!(OrcLayout::from_members(6, wild), None);
        let wide = |name: &str| Some(if name == "type" { (0, 40) } else { member(name, false)? });
        assert_eq!(OrcLayout::from_members(6, wide), None);
    }

    #[test]
    fn the_headers_hash_decides_where_types_do_not() {
        assert_eq!(OrcLayout::from_header(&HASH_6_3), Some(OrcLayout::OF_6_3));
        assert_eq!(OrcLayout::from_header(&HASH_6_4), Some(OrcLayout::SINCE_6_4));
        assert_eq!(OrcLayout::from_header(&HASH_RAX), Some(OrcLayout::SINCE_6_4));
        assert_eq!(OrcLayout::from_header(&HASH_7_1), Some(OrcLayout::SINCE_7_1));
        assert_eq!(OrcLayout::from_header(&[0; 20]), None);
        assert_eq!(OrcLayout::from_header(&[]), None);
    }
}
