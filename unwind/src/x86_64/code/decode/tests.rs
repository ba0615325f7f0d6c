//! Instructions by hand, cut off, and all of libc's lengths against objdump's.

use super::*;
use alloc::string::String;
use alloc::vec::Vec;

fn effect(bytes: &[u8]) -> Effect {
    let decoded = decode(bytes, 0x1000).unwrap();
    assert_eq!(usize::from(decoded.len), bytes.len());
    decoded.effect
}

#[test]
fn what_moves_the_stack_pointer_is_understood() {
    assert_eq!(effect(b"\x41\x57"), Effect::Push(Some(15)));
    assert_eq!(effect(b"\x5b"), Effect::Pop(3));
    assert_eq!(effect(b"\x48\x83\xec\x18"), Effect::Set { to: 7, from: 7, plus: -0x18 });
    assert_eq!(effect(b"\x48\x81\xc4\x00\x01\0\0"), Effect::Set { to: 7, from: 7, plus: 0x100 });
    assert_eq!(effect(b"\x48\x8d\x65\xf0"), Effect::Set { to: 7, from: 6, plus: -16 });
    assert_eq!(effect(b"\x48\x8d\x64\x24\x08"), Effect::Set { to: 7, from: 7, plus: 8 });
    assert_eq!(effect(b"\x48\x89\xe5"), Effect::Set { to: 6, from: 7, plus: 0 });
    assert_eq!(effect(b"\x48\x8b\x5d\xf8"), Effect::Load { to: 3, base: 6, plus: -8 });
    assert_eq!(effect(b"\x4c\x8b\x24\x24"), Effect::Load { to: 12, base: 7, plus: 0 });
    // With an index, relative to rip, of a segment: not followed.
    assert_eq!(effect(b"\x48\x8b\x1c\x04"), Effect::Write(3, 3));
    assert_eq!(effect(b"\x48\x8b\x1d\0\0\0\0"), Effect::Write(3, 3));
    assert_eq!(effect(b"\x64\x48\x8b\x04\x25\0\0\0\0"), Effect::Write(0, 0));
    assert_eq!(effect(b"\x48\x29\xc4"), Effect::Write(7, 7));
    // mov $1,%ah is no write to rsp; mov $1,%spl is.
    assert_eq!(effect(b"\xb4\x01"), Effect::Write(0, 0));
    assert_eq!(effect(b"\x40\xb4\x01"), Effect::Write(7, 7));
    assert_eq!(effect(b"\xc2\x08\x00"), Effect::Return(8));
    assert_eq!(effect(b"\xf3\xc3"), Effect::Return(0));
    assert_eq!(effect(b"\xeb\xfe"), Effect::Jump(0x1000));
    assert_eq!(effect(b"\x0f\x84\0\x01\0\0"), Effect::Branch(0x1106));
    assert_eq!(effect(b"\xf3\x0f\x1e\xfa"), Effect::Entry);
    assert_eq!(effect(b"\x0f\x05"), Effect::SystemCall);
    assert_eq!(effect(b"\x0f\x0b"), Effect::Halt);
}

#[test]
fn cut_off_instructions_are_nothing() {
    for whole in [&b"\x48\x81\xc4\x00\x01\0\0"[..], b"\x66\x66\x48\xe8\0\0\0\0", b"\xc4\xe2\x70\xf2\xc1"] {
        for len in 0..whole.len() {
            assert_eq!(decode(&whole[..len], 0), None);
        }
        assert!(decode(whole, 0).is_some());
    }
    assert_eq!(decode(&[0x66; 20], 0), None);
}

/// Every instruction of libc has the length that objdump gives it.
#[test]
fn lengths_are_objdumps() {
    extern crate std;
    let path = "/lib/x86_64-linux-gnu/libc.so.6";
    let output = std::process::Command::new("objdump").args(["-d", "--insn-width=16", path]).output();
    let Ok(output) = output else {
        let _ = std::io::Write::write_fmt(
            &mut std::io::stderr(),
            std::format_args!("skipped: there is no objdump\n"),
        );
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let (mut seen, mut wrong) = (0, Vec::new());
    for line in text.lines() {
        let mut parts = line.split('\t');
        let (Some(_), Some(bytes), Some(what)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let bytes: Vec<u8> =
            bytes.split_whitespace().map_while(|byte| u8::from_str_radix(byte, 16).ok()).collect();
        if what.starts_with("(bad)") || bytes.is_empty() {
            continue;
        }
        seen += 1;
        let found = decode(&bytes, 0).map(|decoded| usize::from(decoded.len));
        // A prefix that stands alone in objdump's eyes belongs to what follows in ours.
        if found != Some(bytes.len()) && !what.starts_with("fs") && !what.starts_with("rex") {
            wrong.push((String::from(line), found));
        }
    }
    assert!(wrong.is_empty(), "{} of {seen}: {:#?}", wrong.len(), &wrong[..wrong.len().min(20)]);
}
