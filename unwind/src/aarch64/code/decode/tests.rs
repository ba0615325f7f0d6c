//! Instructions as an assembler wrote them.

use super::*;

const AT: u64 = 0x1000;

fn access(load: bool, words: [u16; 2], base: u16, plus: i64, moved: i64) -> Effect {
    let words = words.map(|number| (number != 31).then_some(number));
    Effect::Access(Access { load, words, base, plus, moved, lost: 0 })
}

#[test]
fn what_moves_the_stack_pointer_is_understood() {
    for (word, effect) in [
        // stp x29, x30, [sp, #-32]!; ldp x29, x30, [sp], #32; stp x19, x20, [sp, #16]; str x30, [sp, #-16]!.
        (0xa9be_7bfd, access(false, [29, 30], 31, -32, -32)),
        (0xa8c2_7bfd, access(true, [29, 30], 31, 0, 32)),
        (0xa901_53f3, access(false, [19, 20], 31, 16, 0)),
        (0xf81f_0ffe, access(false, [30, 31], 31, -16, -16)),
        // ldr x30, [sp], #16; ldr x19, [x29, #24]; stp d8, d9, [sp, #-112]!; stp xzr, x1, [x0].
        (0xf841_07fe, access(true, [30, 31], 31, 0, 16)),
        (0xf940_0fb3, access(true, [19, 31], 29, 24, 0)),
        (0x6db9_27e8, access(false, [31, 31], 31, -112, -112)),
        (0xa900_041f, access(false, [31, 1], 0, 0, 0)),
        // sub sp, sp, #0x40; add sp, sp, #1, lsl #12; mov x29, sp; add x29, sp, #16; mov sp, x29; mov x19, x0.
        (0xd101_03ff, Effect::Set { to: 31, from: 31, plus: -64 }),
        (0x9140_07ff, Effect::Set { to: 31, from: 31, plus: 4096 }),
        (0x9100_03fd, Effect::Set { to: 29, from: 31, plus: 0 }),
        (0x9100_43fd, Effect::Set { to: 29, from: 31, plus: 16 }),
        (0x9100_03bf, Effect::Set { to: 31, from: 29, plus: 0 }),
        (0xaa00_03f3, Effect::Set { to: 19, from: 0, plus: 0 }),
        // mov x12, #0x1230; movk x12, #1, lsl #16; sub sp, sp, x12; and sp, x9, #-16; addvl sp, sp, #-1.
        (0xd282_460c, Effect::Number { to: 12, value: 0x1230 }),
        (0xf2a0_002c, Effect::Part { to: 12, value: 1, shift: 16 }),
        (0xcb2c_63ff, Effect::Sum { to: 31, from: 31, other: 12, minus: true }),
        (0x927c_ed3f, Effect::Write(1 << 31)),
        (0x043f_57ff, Effect::Write(1 << 31)),
    ] {
        assert_eq!(decode(word, AT), effect, "{word:#x}");
    }
}

#[test]
fn what_moves_the_flow_is_understood() {
    for (word, effect) in [
        // ret; retaa; ret x5; br x17; blr x3; b -4; bl; b.eq +16; cbz x0, -8; tbnz w1, #3, +32.
        (0xd65f_03c0, Effect::Return(30)),
        (0xd65f_0bff, Effect::Return(30)),
        (0xd65f_00a0, Effect::Return(5)),
        (0xd61f_0220, Effect::JumpAway(17)),
        (0xd63f_0060, Effect::Call),
        (0x17ff_ffff, Effect::Jump(AT - 4)),
        (0x9400_0001, Effect::Call),
        (0x5400_0080, Effect::Branch(AT + 16)),
        (0xb4ff_ffc0, Effect::Branch(AT - 8)),
        (0x3718_0101, Effect::Branch(AT + 32)),
        // svc #0; smc #0; brk #0x800; udf #0; eret; bti c; bti j; paciasp; autiasp; nop.
        (0xd400_0001, Effect::SystemCall),
        (0xd400_0003, Effect::SystemCall),
        (0xd421_0000, Effect::Halt),
        (0x0000_0000, Effect::Halt),
        (0xd69f_03e0, Effect::Halt),
        (0xd503_245f, Effect::Entry),
        (0xd503_249f, Effect::None),
        (0xd503_233f, Effect::None),
        (0xd503_23bf, Effect::None),
        (0xd503_201f, Effect::None),
    ] {
        assert_eq!(decode(word, AT), effect, "{word:#x}");
    }
}

#[test]
fn other_registers_are_lost_where_they_are_written() {
    let lost = |numbers: &[u32]| Effect::Write(numbers.iter().fold(0, |all, number| all | 1 << number));
    for (word, effect) in [
        // adrp x30, .; mrs x30, sp_el0; add x30, x1, x2; cmp x1, #1; fmov x30, d0; fmov d30, x0; fadd d29, d0, d1.
        (0x9000_001e, lost(&[30])),
        (0xd538_411e, lost(&[30])),
        (0x8b02_003e, lost(&[30])),
        (0xf100_043f, lost(&[])),
        (0x9e66_001e, lost(&[30])),
        (0x9e67_001e, Effect::None),
        (0x1e61_281d, Effect::None),
        // ldr x30, [x0, x1, lsl #3]; swp x1, x30, [x2]; ldaxr x29, [x0]; umov w29, v0.b[0].
        (0xf861_781e, lost(&[30])),
        (0xf821_805e, lost(&[30])),
        (0x0e01_3c1d, lost(&[29])),
    ] {
        assert_eq!(decode(word, AT), effect, "{word:#x}");
    }
    // ldr w30, [sp, #8]: half a word; prfm; ldr q30, [sp, #32].
    let half = Access { load: true, lost: 1 << 30, base: 31, plus: 8, ..Access::default() };
    assert_eq!(decode(0xb940_0bfe, AT), Effect::Access(half));
    assert_eq!(decode(0xf980_0000, AT), Effect::Access(Access { load: true, ..Access::default() }));
    let vector = Access { load: true, base: 31, plus: 32, ..Access::default() };
    assert_eq!(decode(0x3dc0_0bfe, AT), Effect::Access(vector));
    // ldaxr x29, [x0] names 31 for the registers that it does not have.
    assert_eq!(decode(0xc85f_fc1d, AT), lost(&[29]));
}

/// A register by its name; 31 for those that are always zero, nothing for vectors.
fn general(name: &str) -> Option<u16> {
    match name.trim() {
        "sp" | "wsp" | "xzr" | "wzr" => Some(31),
        name => name.strip_prefix(['x', 'w'])?.parse().ok(),
    }
}

fn number(text: &str) -> Option<i64> {
    let text = text.trim().trim_start_matches('#');
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
    match digits.strip_prefix("0x") {
        Some(digits) => i64::from_str_radix(digits, 16).ok().map(|value| sign * value),
        None => digits.parse::<i64>().ok().map(|value| sign * value),
    }
}

/// Base, offset and change of the base of an operand like `[sp, #16]!`.
fn place(operands: &str) -> Option<(u16, i64, i64)> {
    let (_, rest) = operands.split_once('[')?;
    let (inside, behind) = rest.split_once(']')?;
    let (base, offset) = inside.split_once(',').unwrap_or((inside, "0"));
    let (base, offset) = (general(base)?, number(offset)?);
    Some(match behind.trim().strip_prefix(',') {
        Some(after) => (base, 0, number(after)?),
        None if behind.starts_with('!') => (base, offset, offset),
        None => (base, offset, 0),
    })
}

/// What `objdump` says of an instruction, held against what was decoded: nothing where the two agree.
fn disagrees(effect: Effect, name: &str, operands: &str) -> Option<&'static str> {
    let target = || {
        u64::from_str_radix(
            operands.rsplit(',').next()?.split('<').next()?.trim().trim_start_matches("0x"),
            16,
        )
        .ok()
    };
    let first = operands.split(',').next().unwrap_or("").trim();
    let flow = match name {
        "ret" | "retaa" | "retab" => Some(effect == Effect::Return(general(first).unwrap_or(30))),
        "bl" | "blr" | "blraa" | "blrab" => Some(effect == Effect::Call),
        "b" => Some(Some(effect) == target().map(Effect::Jump)),
        "cbz" | "cbnz" | "tbz" | "tbnz" => Some(Some(effect) == target().map(Effect::Branch)),
        "br" => Some(Some(effect) == general(first).map(Effect::JumpAway)),
        "svc" => Some(effect == Effect::SystemCall),
        "brk" | "udf" | "hlt" => Some(effect == Effect::Halt),
        "bti" => Some((effect == Effect::Entry) == (first == "c")),
        _ if name.starts_with("b.") => Some(Some(effect) == target().map(Effect::Branch)),
        _ => None,
    };
    if let Some(right) = flow {
        return (!right).then_some("flow");
    }
    let stores = name.starts_with("st") && !name.starts_with("stx") && !name.starts_with("stlx");
    if let Effect::Access(access) = effect {
        let said = place(operands);
        // By a literal's or a register's offset there is nothing to say.
        if said.is_some_and(|said| said != (access.base, access.plus, access.moved)) {
            return Some("place");
        }
        let whole = matches!(name, "ldp" | "stp" | "ldr" | "str" | "ldur" | "stur") && first.starts_with('x');
        let count = if name.ends_with('p') { 2 } else { 1 };
        let mut words = [None; 2];
        for (word, operand) in words.iter_mut().zip(operands.split(',').take(count)) {
            *word = general(operand).filter(|number| whole && *number != 31);
        }
        let prefetches = name.starts_with("prf");
        if words != access.words || (!prefetches && access.load == stores) {
            return Some("words");
        }
        let half = access.load && !whole && general(first).is_some_and(|number| number != 31);
        return (half && access.lost == 0 || !access.load && access.lost != 0).then_some("half");
    }
    if stores && place(operands).is_some_and(|(_, _, moved)| moved != 0) && effect == Effect::None {
        return Some("a base that moves");
    }
    let written = match effect {
        Effect::Write(written) => written,
        Effect::Set { to, .. }
        | Effect::Sum { to, .. }
        | Effect::Number { to, .. }
        | Effect::Part { to, .. } => 1 << to,
        Effect::None => 0,
        _ => return Some("no flow"),
    };
    let kept = matches!(
        name,
        "cmp"
            | "cmn"
            | "tst"
            | "ccmp"
            | "ccmn"
            | "msr"
            | "prfm"
            | "nop"
            | "dc"
            | "ic"
            | "tlbi"
            | "at"
            | "sys"
    );
    match general(first) {
        Some(31) if first.contains("zr") => None,
        Some(number) if !kept && !stores => {
            (written >> number & 1 == 0).then_some("a register that is written")
        }
        // Vectors are nobody's here; of the scalable ones it is not told apart what they write.
        None if first.starts_with(['v', 'd', 's', 'q', 'h', 'b']) && written != 0 => Some("none is written"),
        _ => None,
    }
}

/// Every instruction of libc does what objdump says.
#[test]
fn instructions_are_objdumps() {
    extern crate std;
    use alloc::string::String;
    use alloc::vec::Vec;
    let path = "/usr/aarch64-linux-gnu/lib/libc.so.6";
    let output = std::process::Command::new("aarch64-linux-gnu-objdump").args(["-d", path]).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    if text.len() < 10_000 {
        assert!(std::env::var_os("VMC_REQUIRE_ALL").is_none(), "objdump says nothing of {path}");
        let _ = std::io::Write::write_fmt(
            &mut std::io::stderr(),
            std::format_args!("skipped: objdump says nothing of {path}\n"),
        );
        return;
    }
    let (mut seen, mut wrong) = (0, Vec::new());
    for line in text.lines() {
        let mut parts = line.split('\t');
        let (Some(at), Some(word), Some(name)) = (parts.next(), parts.next(), parts.next()) else { continue };
        let operands = parts.next().unwrap_or("").split("//").next().unwrap_or("").trim();
        let at = u64::from_str_radix(at.trim().trim_end_matches(':'), 16);
        let (Ok(at), Ok(word)) = (at, u32::from_str_radix(word.trim(), 16)) else { continue };
        if name.starts_with('.') {
            continue;
        }
        seen += 1;
        let effect = decode(word, at);
        if let Some(why) = disagrees(effect, name, operands) {
            wrong.push(std::format!("{line}: {effect:?}: {why}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {seen}: {:#?}", wrong.len(), &wrong[..wrong.len().min(20)]);
    assert!(seen > 100_000, "{seen}");
}
