//! Instructions that compute: what becomes of general registers and of the stack pointer.

use super::decode::{Effect, bits, register, write};

/// Those with an immediate number.
pub(super) fn by_immediate(word: u32) -> Effect {
    let wide = bits(word, 31, 1) == 1;
    // The stack pointer, where the register is 31.
    let to = register(word, 0);
    match bits(word, 23, 3) {
        // add, sub; those that set flags write no stack pointer.
        0b010 if bits(word, 29, 1) == 0 && wide => {
            let number = i64::from(bits(word, 10, 12)) << if bits(word, 22, 1) == 1 { 12 } else { 0 };
            let plus = if bits(word, 30, 1) == 1 { -number } else { number };
            Effect::Set { to, from: register(word, 5), plus }
        }
        0b010 if bits(word, 29, 1) == 0 => Effect::Write(1 << to),
        // With tags; and, orr, eor of a mask (but not ands).
        0b011 => Effect::Write(1 << to),
        0b100 if bits(word, 29, 2) != 3 => Effect::Write(1 << to),
        0b101 if to != 31 => {
            let (value, shift) = (u64::from(bits(word, 5, 16)), bits(word, 21, 2) * 16);
            match bits(word, 29, 2) {
                0b00 if wide => Effect::Number { to, value: !(value << shift) },
                0b10 => Effect::Number { to, value: value << shift },
                0b11 if wide => Effect::Part { to, value, shift },
                _ => Effect::Write(1 << to),
            }
        }
        _ => Effect::Write(write(word, 0)),
    }
}

/// Those of registers.
pub(super) fn by_register(word: u32) -> Effect {
    let to = register(word, 0);
    // mov: orr with the register that is zero.
    if word & 0xffe0_ffe0 == 0xaa00_03e0 {
        let from = register(word, 16);
        return match (to, from) {
            (31, _) => Effect::None,
            (_, 31) => Effect::Number { to, value: 0 },
            _ => Effect::Set { to, from, plus: 0 },
        };
    }
    // add and sub of an extended register: these know the stack pointer.
    if bits(word, 21, 8) == 0b0101_1001 && bits(word, 29, 1) == 0 {
        let plain = bits(word, 31, 1) == 1 && bits(word, 10, 6) == 0b01_1000;
        let other = register(word, 16);
        if plain && other != 31 {
            return Effect::Sum { to, from: register(word, 5), other, minus: bits(word, 30, 1) == 1 };
        }
        return Effect::Write(1 << to);
    }
    Effect::Write(write(word, 0))
}

/// Those of vectors and floating-point numbers: few write a general register.
pub(super) fn of_vectors(word: u32) -> Effect {
    let opcode = bits(word, 16, 3);
    let converts = bits(word, 24, 5) == 0b1_1110 && bits(word, 29, 2) == 0;
    // To integers; between integers and numbers of fixed point.
    let to_integer =
        converts && bits(word, 21, 1) == 1 && bits(word, 10, 6) == 0 && !matches!(opcode, 2 | 3 | 7);
    let to_fixed = converts && bits(word, 21, 1) == 0 && bits(word, 19, 2) == 3 && opcode < 2;
    // umov, smov.
    let element = matches!(word & 0xbfe0_fc00, 0x0e00_3c00 | 0x0e00_2c00);
    if to_integer || to_fixed || element { Effect::Write(write(word, 0)) } else { Effect::None }
}
