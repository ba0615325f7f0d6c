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
