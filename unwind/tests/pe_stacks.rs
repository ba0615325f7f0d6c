//! Stacks of real x64 code in synthetic Windows images, frame by frame, against the shadow stack that an emulator kept.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::panic,
    reason = "tests and their helpers may panic and tell what they saw"
)]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use vmc::arch::x86_64::{Levels, X86PageTables};
use vmc::view::Stop;
use vmc::{AddressSpace, FlatMemory, Limits, PageTables, PhysAddr, ReadExt, VirtAddr, VirtualMemory};
use vmc_unwind::gimli;
use vmc_unwind::pe::x64::PeUnwinder;
use vmc_unwind::pe::{PeModule, PeModules};
use vmc_unwind::x86_64::Registers;
use vmc_unwind::{CodeAddress, NoTable};

fn number(value: &Value) -> u64 {
    match value {
        Value::String(text) => u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap(),
        other => other.as_u64().unwrap(),
    }
}

/// Modules as the ledger has them, their exception directories as their headers in memory say.
struct Ledger(Vec<PeModule>);

impl Ledger {
    fn new<'t>(space: &AddressSpace<'_>, rows: impl Iterator<Item = &'t Value>) -> Self {
        let module = |row: &Value| {
            let base = VirtAddr::new(number(&row["base"]));
            let header: u32 = space.read_value(base.wrapping_add(0x3c)).ok()?;
            // The fourth data directory of a 64-bit optional header.
            let directory: [u32; 2] =
                space.read_value(base.wrapping_add(u64::from(header) + 24 + 112 + 3 * 8)).ok()?;
            let range = base..base.wrapping_add(number(&row["size"]));
            Some(PeModule { range, exceptions: (directory[0], directory[1]) })
        };
        Self(rows.filter_map(module).collect())
    }
}

impl PeModules for Ledger {
    fn find(&self, address: VirtAddr) -> Result<PeModule, NoTable> {
        self.0.iter().find(|module| module.range.contains(&address)).cloned().ok_or(NoTable::None)
    }
}

fn registers(row: &Value) -> Registers {
    const ORDER: [&str; 16] = [
        "rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12", "r13",
        "r14", "r15",
    ];
    Registers::with_all(VirtAddr::new(number(&row["rip"])), ORDER.map(|name| number(&row[name])))
}

/// Holds a walk against a stack of the ledger; the registers of the code that the kernel was entered from.
fn check(
    space: &AddressSpace<'_>,
    modules: &Ledger,
    from: Registers,
    address: CodeAddress,
    stack: &Value,
    who: &str,
) -> Option<Registers> {
    let limits = Limits::default();
    let mut walk = PeUnwinder::new(modules, space, &limits).walk(from, address);
    let ours: Vec<_> = walk.by_ref().map(|frame| (frame.address.address().get(), frame.sp.get())).collect();
    let frames = stack.as_array().unwrap().iter();
    let theirs: Vec<_> = frames.map(|frame| (number(&frame["ip"]), number(&frame["sp"]))).collect();
    assert!(ours == theirs, "{who}: {ours:#x?}, ledger {theirs:#x?}, {}", walk.stop());
    assert_eq!(walk.stop(), Stop::End, "{who}");
    walk.entered_from().copied()
}

fn image(folder: &Path) -> (usize, usize) {
    let json =
        |name: &str| -> Value { serde_json::from_slice(&std::fs::read(folder.join(name)).unwrap()).unwrap() };
    let (truth, vcpus) = (json("truth.json"), json("registers.json"));
    let raw = Command::new("xz").arg("-dc").arg(folder.join("mem.raw.xz")).output().unwrap().stdout;
    let memory = FlatMemory::new(PhysAddr::new(0), &raw);
    let (mut user, mut kernel) = (0, 0);
    for process in truth["processes"].as_array().unwrap() {
        let tables = X86PageTables::new(PhysAddr::new(number(&process["dtb"])), Levels::Four);
        let space = AddressSpace::new(&memory, PageTables::X86_64(tables));
        let own = process["modules"].as_array().unwrap().iter().filter(|module| module["wow64"] == false);
        let modules = Ledger::new(&space, truth["kernel_modules"].as_array().unwrap().iter().chain(own));
        for thread in process["threads"].as_array().unwrap() {
            let who = format!("{} tid {} ({})", folder.display(), thread["tid"], thread["stop"]);
            let vcpu = vcpus["vcpus"].as_array().unwrap().iter().find(|vcpu| vcpu["tid"] == thread["tid"]);
            let mut entered = None;
            let on_vcpu = vcpu.filter(|_| !thread["running_on"].is_null());
            if !thread["kernel_stack"].as_array().is_none_or(Vec::is_empty) {
                let (from, address) = match on_vcpu {
                    Some(vcpu) => {
                        let from = registers(vcpu);
                        (from, CodeAddress::InstructionPointer(from.ip()))
                    }
                    None => {
                        // KSWITCH_FRAME: Rbp and the return address.
                        let frame = VirtAddr::new(number(&thread["kernel_stack_pointer"]));
                        let word = |at: u64| space.read_u64(frame.wrapping_add(at)).unwrap();
                        let ip = VirtAddr::new(word(0x38));
                        let mut from = Registers::new(ip, frame.wrapping_add(0x40));
                        from.set(gimli::X86_64::RBP, word(0x30));
                        (from, CodeAddress::ReturnAddress(ip))
                    }
                };
                entered = check(&space, &modules, from, address, &thread["kernel_stack"], &who);
                kernel += 1;
            }
            if thread["user_stack"].as_array().is_none_or(Vec::is_empty) {
                continue;
            }
            let stated = registers(&thread["registers"]);
            if let Some(entered) = entered {
                // What the kernel does not use stays what it was.
                assert_eq!((entered.ip(), entered.sp()), (stated.ip(), stated.sp()), "{who}");
                for saved in [3, 4, 5, 6, 12, 13, 14, 15].map(gimli::Register) {
                    assert_eq!(entered.get(saved), stated.get(saved), "{who}: {saved:?}");
                }
            }
            let from = entered.unwrap_or(stated);
            check(
                &space,
                &modules,
                from,
                CodeAddress::InstructionPointer(from.ip()),
                &thread["user_stack"],
                &who,
            );
            user += 1;
        }
    }
    (user, kernel)
}

#[test]
fn stacks_are_those_that_an_emulator_has_seen() {
    let shared = std::env::var_os("VMC_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"), PathBuf::from);
    let Ok(images) = std::fs::read_dir(shared.join("windows/images")) else {
        return common::skip("the shared data's windows/images is not there");
    };
    if Command::new("xz").arg("--version").output().is_err() {
        return common::skip("xz is not installed");
    }
    let mut sum = (0, 0);
    for folder in
        images.map(|entry| entry.unwrap().path()).filter(|folder| folder.join("truth.json").exists())
    {
        if folder.display().to_string().contains("hostile") {
            continue;
        }
        let (user, kernel) = image(&folder);
        println!("{}: {user} user stacks, {kernel} kernel stacks", folder.file_name().unwrap().display());
        sum = (sum.0 + user, sum.1 + kernel);
    }
    assert!(sum.0 > 50 && sum.1 > 50, "{sum:?}");
}
