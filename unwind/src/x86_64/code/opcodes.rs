//! Which opcodes have a ModRM byte and how many bytes of immediate, and which register they write.

/// What follows the opcode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Immediate {
    None,
    Byte,
    Word,
    /// Two or four bytes, by the operand size.
    Operand,
    /// Four bytes (two with an operand-size prefix never: branches ignore it in 64-bit mode).
    Four,
    /// Two, four or, with REX.W, eight bytes.
    Full,
    /// Eight bytes, four with an address-size prefix.
    Address,
    /// Two bytes and one.
    Enter,
    /// By ModRM's reg field: the first two of group 3 have an operand, a byte or by operand size.
    Group3(bool),
}

/// Which general register an instruction writes, apart from its memory operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writes {
    Nothing,
    /// ModRM's reg field.
    Reg,
    /// ModRM's r/m field, where it is a register.
    Rm,
    Both,
    /// The low bits of the opcode.
    Opcode,
    /// By ModRM's reg field: r/m, except where the field is this.
    RmUnless(u8),
    /// rax, rdx and others that a callee need not preserve.
    Scratch,
}

/// An opcode's shape.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) modrm: bool,
    pub(super) immediate: Immediate,
    pub(super) writes: Writes,
}

const fn shape(modrm: bool, immediate: Immediate, writes: Writes) -> Option<Shape> {
    Some(Shape { modrm, immediate, writes })
}

/// Opcodes of one byte. Nothing where there is none in 64-bit mode.
pub(super) const fn one_byte(opcode: u8) -> Option<Shape> {
    use Immediate as I;
    use Writes as W;
    match opcode {
        0x00..=0x3f => {
            let compare = opcode >= 0x38;
            match opcode & 7 {
                0 | 1 => shape(true, I::None, if compare { W::Nothing } else { W::Rm }),
                2 | 3 => shape(true, I::None, if compare { W::Nothing } else { W::Reg }),
                4 => shape(false, I::Byte, W::Scratch),
                5 => shape(false, I::Operand, W::Scratch),
                _ => None,
            }
        }
        0x50..=0x57 => shape(false, I::None, W::Nothing),
        0x58..=0x5f => shape(false, I::None, W::Opcode),
        0x63 => shape(true, I::None, W::Reg),
        0x68 => shape(false, I::Operand, W::Nothing),
        0x69 => shape(true, I::Operand, W::Reg),
        0x6a => shape(false, I::Byte, W::Nothing),
        0x6b => shape(true, I::Byte, W::Reg),
        0x6c..=0x6f => shape(false, I::None, W::Scratch),
        0x70..=0x7f => shape(false, I::Byte, W::Nothing),
        0x80 | 0x83 => shape(true, I::Byte, W::RmUnless(7)),
        0x81 => shape(true, I::Operand, W::RmUnless(7)),
        0x84 | 0x85 => shape(true, I::None, W::Nothing),
        0x86 | 0x87 => shape(true, I::None, W::Both),
        0x88 | 0x89 | 0x8c | 0x8f => shape(true, I::None, W::Rm),
        0x8a | 0x8b | 0x8d => shape(true, I::None, W::Reg),
        0x8e => shape(true, I::None, W::Nothing),
        0x90 => shape(false, I::None, W::Nothing),
        0x91..=0x97 => shape(false, I::None, W::Opcode),
        0x98 | 0x99 | 0x9b..=0x9f => shape(false, I::None, W::Scratch),
        0xa0..=0xa3 => shape(false, I::Address, W::Scratch),
        0xa4..=0xa7 | 0xaa..=0xaf => shape(false, I::None, W::Scratch),
        0xa8 => shape(false, I::Byte, W::Nothing),
        0xa9 => shape(false, I::Operand, W::Nothing),
        0xb0..=0xb7 => shape(false, I::Byte, W::Opcode),
        0xb8..=0xbf => shape(false, I::Full, W::Opcode),
        0xc0 | 0xc1 => shape(true, I::Byte, W::Rm),
        0xc2 | 0xca => shape(false, I::Word, W::Nothing),
        0xc3 | 0xc9 | 0xcb | 0xcc | 0xcf => shape(false, I::None, W::Nothing),
        0xc6 => shape(true, I::Byte, W::Rm),
        0xc7 => shape(true, I::Operand, W::Rm),
        0xc8 => shape(false, I::Enter, W::Nothing),
        0xcd => shape(false, I::Byte, W::Scratch),
        0xd0..=0xd3 => shape(true, I::None, W::Rm),
        0xd7 => shape(false, I::None, W::Scratch),
        // x87.
        0xd8..=0xdf => shape(true, I::None, W::Scratch),
        0xe0..=0xe3 => shape(false, I::Byte, W::Scratch),
        0xe4..=0xe7 => shape(false, I::Byte, W::Scratch),
        0xe8 | 0xe9 => shape(false, I::Four, W::Nothing),
        0xeb => shape(false, I::Byte, W::Nothing),
        0xec..=0xef | 0xf1 | 0xf4 | 0xf5 | 0xf8..=0xfd => shape(false, I::None, W::Scratch),
        0xf6 => shape(true, I::Group3(true), W::Rm),
        0xf7 => shape(true, I::Group3(false), W::Rm),
        0xfe | 0xff => shape(true, I::None, W::Rm),
        _ => None,
    }
}

/// Opcodes behind `0f`.
pub(super) const fn two_bytes(opcode: u8) -> Option<Shape> {
    use Immediate as I;
    use Writes as W;
    match opcode {
        // rdssp is among the hints.
        0x00 | 0x01 | 0x1e => shape(true, I::None, W::Rm),
        0x02 | 0x03 => shape(true, I::None, W::Reg),
        0x05 | 0x0b | 0x30..=0x35 | 0x37 | 0x77 => shape(false, I::None, W::Scratch),
        0x06 | 0x08 | 0x09 => shape(false, I::None, W::Nothing),
        0x0d | 0x10..=0x1d | 0x1f | 0x28..=0x2b | 0x2e | 0x2f => shape(true, I::None, W::Nothing),
        0x20..=0x23 => shape(true, I::None, W::Rm),
        0x2c | 0x2d | 0x50 | 0xd7 => shape(true, I::None, W::Reg),
        0x40..=0x4f => shape(true, I::None, W::Reg),
        0x51..=0x6f | 0x74..=0x76 | 0x78..=0x7d | 0x7f => shape(true, I::None, W::Nothing),
        0x7e => shape(true, I::None, W::Rm),
        0x70..=0x73 => shape(true, I::Byte, W::Nothing),
        0x80..=0x8f => shape(false, I::Four, W::Nothing),
        0x90..=0x9f => shape(true, I::None, W::Rm),
        // push and pop of fs and gs.
        0xa0 | 0xa1 | 0xa8 | 0xa9 => shape(false, I::None, W::Nothing),
        // cpuid writes rbx too: said by the decoder.
        0xa2 => shape(false, I::None, W::Scratch),
        0xa3 => shape(true, I::None, W::Nothing),
        0xa4 | 0xac => shape(true, I::Byte, W::Rm),
        0xa5 | 0xab | 0xad | 0xb0 | 0xb1 | 0xb3 | 0xbb => shape(true, I::None, W::Rm),
        0xae => shape(true, I::None, W::Rm),
        0xaf | 0xb2 | 0xb4..=0xb8 | 0xbc..=0xbf => shape(true, I::None, W::Reg),
        0xb9 => shape(true, I::None, W::Nothing),
        0xba => shape(true, I::Byte, W::RmUnless(4)),
        0xc0 | 0xc1 => shape(true, I::None, W::Both),
        0xc2 | 0xc4 | 0xc6 => shape(true, I::Byte, W::Nothing),
        0xc3 => shape(true, I::None, W::Nothing),
        0xc5 => shape(true, I::Byte, W::Reg),
        0xc7 => shape(true, I::None, W::Rm),
        0xc8..=0xcf => shape(false, I::None, W::Opcode),
        0xd0..=0xd6 | 0xd8..=0xff => shape(true, I::None, W::Nothing),
        _ => None,
    }
}

/// Opcodes behind `0f 38`: vectors, and at the end those of general registers (movbe, crc32, BMI).
pub(super) const fn map_38(opcode: u8) -> Option<Shape> {
    let writes = if opcode >= 0xf0 { Writes::Both } else { Writes::Nothing };
    shape(true, Immediate::None, writes)
}

/// Opcodes behind `0f 3a`: all have a byte of immediate; some extract to a general register.
pub(super) const fn map_3a(opcode: u8) -> Option<Shape> {
    let writes = match opcode {
        0x14..=0x17 => Writes::Rm,
        0xf0 => Writes::Reg,
        _ => Writes::Nothing,
    };
    shape(true, Immediate::Byte, writes)
}
