//! Loads and stores: which registers, and what becomes of the base.

use super::decode::{Access, Effect, bits, register, signed, write};

/// An instruction of this group.
pub(super) fn load_or_store(word: u32) -> Effect {
    let vector = bits(word, 26, 1) == 1;
    match (bits(word, 28, 2), vector) {
        // Exclusive and ordered ones, compare and swap: all that could be written.
        (0b00, false) => Effect::Write(write(word, 0) | write(word, 16) | write(word, 10)),
        // Structures of vectors; with a base that moves.
        (0b00, true) if bits(word, 23, 1) == 1 => Effect::Write(1 << bits(word, 5, 5)),
        (0b00, true) => Effect::None,
        // Literals; ordered ones with an offset; memory copies, which move all that they name.
        (0b01, false) if bits(word, 24, 1) == 1 && bits(word, 10, 2) == 1 => {
            Effect::Write(write(word, 0) | write(word, 5) | write(word, 16))
        }
        (0b01, false) => Effect::Write(write(word, 0)),
        (0b01, true) => Effect::None,
        (0b10, _) => pair(word, vector),
        _ => single(word, vector),
    }
}

/// `ldp`, `stp` and their like.
fn pair(word: u32, vector: bool) -> Effect {
    let kind = bits(word, 30, 2);
    let load = bits(word, 22, 1) == 1;
    let words = !vector && kind == 0b10;
    let scale = match (vector, kind) {
        (true, _) => 4 << kind,
        (false, 0b10) => 8,
        // stgp.
        (false, 0b01) if !load => 16,
        (false, _) => 4,
    };
    let offset = signed(word, 15, 7) * scale;
    let (plus, moved) = match bits(word, 23, 2) {
        0b01 => (0, offset),
        0b11 => (offset, offset),
        _ => (offset, 0),
    };
    let registers = [register(word, 0), register(word, 10)];
    Effect::Access(Access {
        load,
        words: if words { registers.map(general) } else { [None; 2] },
        lost: if load && !vector && !words { write(word, 0) | write(word, 10) } else { 0 },
        base: register(word, 5),
        plus,
        moved,
    })
}

/// `ldr`, `str` and their like.
fn single(word: u32, vector: bool) -> Effect {
    let (size, kind) = (bits(word, 30, 2), bits(word, 22, 2));
    // Prefetches load nothing.
    let load = if vector { kind & 1 == 1 } else { kind != 0 };
    let prefetch = !vector && size == 3 && kind == 2;
    let whole = !vector && size == 3 && kind < 2;
    let short = signed(word, 12, 9);
    let index = bits(word, 10, 2);
    let place = if bits(word, 24, 1) == 1 {
        let scale = if vector && kind >= 2 { 4 } else { size };
        Some((i64::from(bits(word, 10, 12)) << scale, 0))
    } else if bits(word, 21, 1) == 0 {
        Some(match index {
            0b01 => (0, short),
            0b11 => (short, short),
            _ => (short, 0),
        })
    } else {
        None
    };
    let to = write(word, 0);
    let Some((plus, moved)) = place else {
        return match index {
            // By a register's offset.
            0b10 if load && !vector && !prefetch => Effect::Write(to),
            0b10 => Effect::None,
            // What was there before is loaded; signed addresses, whose base may move.
            0b00 => Effect::Write(to),
            _ => Effect::Write(to | write(word, 5)),
        };
    };
    Effect::Access(Access {
        load,
        words: if whole { [general(register(word, 0)), None] } else { [None; 2] },
        lost: if load && !vector && !whole && !prefetch { to } else { 0 },
        base: register(word, 5),
        plus,
        moved,
    })
}

/// 31 is the register that is always zero.
const fn general(number: u16) -> Option<u16> {
    if number == 31 { None } else { Some(number) }
}
