//! The machine of an x86_64 image for the independent stub.
#![allow(clippy::unwrap_used, clippy::panic, dead_code, reason = "a helper of tests may panic")]

use vmc::arch::x86_64;
use vmc::{PhysMemory, Registers, Vcpus};
use vmc_dump::Image;

use super::server::{Machine, Vcpu};

/// Registers of x86_64 in an order that no other stub has, in two documents; those of the control registers are not in `g`.
fn x86_64(registers: &x86_64::Registers) -> Vcpu {
    let mut g = registers.kernel_gs_base.unwrap_or(0).to_le_bytes().to_vec();
    g.extend((registers.rflags as u32).to_le_bytes());
    g.extend(u32::from(registers.cs).to_le_bytes());
    g.extend(u32::from(registers.ss).to_le_bytes());
    g.extend(registers.rip.to_le_bytes());
    registers.general.iter().rev().for_each(|value| g.extend(value.to_le_bytes()));
    let more =
        [registers.fs_base, registers.gs_base, registers.cr0, registers.cr2, registers.cr3, registers.cr4];
    (g, more.into_iter().enumerate().map(|(at, value)| (0x100 + at, value)).collect())
}

const GENERAL: [&str; 16] = [
    "rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
    "r15",
];

fn documents() -> Vec<(String, String)> {
    let reg = |name: &str, bits: u32| format!(r#"<reg name="{name}" bitsize="{bits}"/>"#);
    let general: String = GENERAL.iter().rev().map(|name| reg(name, 64)).collect();
    let first = [("k_gs_base", 64), ("eflags", 32), ("cs", 32), ("ss", 32), ("rip", 64)];
    let first: String = first.iter().map(|(name, bits)| reg(name, *bits)).collect();
    let control = ["fs_base", "gs_base", "cr0", "cr2", "cr3", "cr4"].iter().enumerate();
    let control: String = control
        .map(|(at, name)| format!(r#"<reg name="{name}" bitsize="64" regnum="{}"/>"#, 0x100 + at))
        .collect();
    let head = r#"<?xml version="1.0"?><!DOCTYPE target SYSTEM "gdb-target.dtd">"#;
    vec![
        (
            "target.xml".into(),
            format!(
                r#"{head}<target version="1.0"><architecture>i386:x86-64</architecture>
                <xi:include href="general.xml"/><feature name="a.b">{control}</feature></target>"#
            ),
        ),
        ("general.xml".into(), format!(r#"<feature name="c.d">{first}{general}</feature>"#)),
    ]
}

/// A machine whose memory and registers are the image's; with a memory map.
pub(crate) fn machine(image: Image, acks: bool) -> Machine<Image> {
    let vcpus = (0..image.count()).map(|index| match image.registers(index).unwrap() {
        Registers::X86_64(registers) => x86_64(&registers),
        other => panic!("{other:?}"),
    });
    let vcpus = vcpus.collect();
    let ranges = image.regions().iter().map(|region| {
        format!(r#"<memory type="ram" start="{:#x}" length="{:#x}"/>"#, region.start.get(), region.len)
    });
    let map = format!("<memory-map>{}</memory-map>", ranges.collect::<String>());
    Machine { memory: image, vcpus, documents: documents(), map, acks }
}
