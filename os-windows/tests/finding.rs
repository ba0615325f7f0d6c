//! Finding the kernel of synthetic images, its facts and modules, held against what was planted.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::panic,
    reason = "tests and their helpers may panic and tell what they saw"
)]

#[path = "common/shared.rs"]
mod shared;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde_json::Value;
use vmc::layout::Types;
use vmc::vcpu::NoVcpus;
use vmc::{FlatMemory, Limits, PhysAddr, PhysError, PhysMemory, Region, Vcpus, VirtAddr};
use vmc_windows::pe::Image;
use vmc_windows::{Hints, KernelTypes, Windows, WindowsError};

use shared::{Files, Ledger, folder, json, missing, number, skip, unpack};

/// Memory that counts the bytes that are read of it, lends nothing, and lacks some pages.
struct Counted<'a> {
    memory: FlatMemory<'a>,
    bytes: AtomicU64,
    missing: Vec<u64>,
}

impl<'a> Counted<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self {
            memory: FlatMemory::new(PhysAddr::new(0), bytes),
            bytes: AtomicU64::new(0),
            missing: Vec::new(),
        }
    }
}

impl PhysMemory for Counted<'_> {
    fn regions(&self) -> &[Region] {
        self.memory.regions()
    }

    fn read(&self, addr: PhysAddr, buf: &mut [u8]) -> Result<(), PhysError> {
        self.bytes.fetch_add(buf.len() as u64, Ordering::Relaxed);
        let (first, last) = (addr.get() >> 12, (addr.get() + buf.len() as u64 - 1) >> 12);
        if self.missing.iter().any(|page| (first..=last).contains(page)) {
            return Err(PhysError::NoMemory { addr, len: buf.len() });
        }
        self.memory.read(addr, buf)
    }
}

fn open<'m>(
    memory: &'m dyn PhysMemory,
    vcpus: &'m dyn Vcpus,
    files: &mut Files,
) -> Result<Windows<'m>, WindowsError> {
    Windows::open(memory, vcpus, &Hints::default(), Limits::default(), Some(files))
}

fn check(windows: &Windows<'_>, truth: &Value, who: &str) {
    let (facts, kernel) = (windows.facts(), &truth["kernel"]);
    assert_eq!(facts.kernel_base.get(), number(&kernel["base"]), "{who}");
    assert_eq!(facts.kernel_size, number(&kernel["size"]), "{who}");
    // Which process is System is not to be told without types.
    if windows.types().source() != KernelTypes::DERIVED {
        assert_eq!(facts.page_table_root.unwrap().get(), number(&truth["dtb"]), "{who}");
    }
    assert_eq!(facts.version, Some(format!("10.0.{}", kernel["build"])), "{who}");
    assert_eq!(facts.build_lab.as_deref(), kernel["build_lab"].as_str(), "{who}");
    assert_eq!(u64::from(facts.processors.unwrap()), number(&kernel["cpus"]), "{who}");
    assert_eq!(facts.system_root.as_deref(), kernel["system_root"].as_str(), "{who}");
    let seconds = facts.system_time.unwrap() / 1_000_000_000;
    assert_eq!(seconds, i128::from(number(&kernel["system_time_unix"])), "{who}");
    let pdb = facts.pdb.unwrap();
    assert_eq!(Some(pdb.guid_text().as_str()), kernel["pdb"]["guid"].as_str(), "{who}");
    let rows: Vec<_> = windows.modules().unwrap().filter_map(Result::ok).collect();
    for module in truth["kernel_modules"].as_array().unwrap() {
        let row = rows.iter().find(|row| row.object.get() == number(&module["entry"]));
        // A list that was broken has lost what lies between two breaks.
        let Some(row) = row else {
            assert_eq!(truth["scenario"], "hostile", "{who}: no {}", module["name"]);
            continue;
        };
        if truth["scenario"] == "hostile" {
            continue;
        }
        assert_eq!(Some(row.name.as_str()), module["name"].as_str(), "{who}");
        assert_eq!(row.path.as_deref(), module["path"].as_str(), "{who}");
        assert_eq!((row.base.get(), row.size), (number(&module["base"]), number(&module["size"])), "{who}");
        let guid = row.pdb.as_ref().map(|pdb| pdb.guid_text());
        assert_eq!(guid.as_deref(), module["pdb"]["guid"].as_str(), "{who}: {}", row.name);
    }
    if truth["scenario"] == "hostile" {
        println!(
            "{who}: {} modules, ledger {}, {}",
            rows.len(),
            truth["kernel_modules"].as_array().unwrap().len(),
            truth["expect"]
        );
    } else {
        assert_eq!(rows.len(), truth["kernel_modules"].as_array().unwrap().len(), "{who}");
    }
}

#[test]
fn kernels_are_found_with_and_without_registers() {
    if let Some(why) = missing() {
        return skip(why);
    }
    let images = std::fs::read_dir(folder().join("images")).unwrap();
    let mut files = Files::default();
    let mut count = 0;
    for folder in images.map(|entry| entry.unwrap().path()).filter(|path| path.join("truth.json").exists()) {
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        let (truth, registers) = (json(&folder.join("truth.json")), json(&folder.join("registers.json")));
        let raw = unpack(&folder.join("mem.raw.xz"));
        let vcpus = Ledger::new(&registers);
        let memory = Counted::new(&raw);
        let windows = open(&memory, &vcpus, &mut files).unwrap();
        let read = memory.bytes.load(Ordering::Relaxed);
        println!("{name}: {read} bytes read with registers");
        assert!(read < 8 << 20, "{name}: {read} bytes were read although vCPUs tell the root");
        check(&windows, &truth, &name);
        // The same facts and modules without a file; no process.
        let none: [&dyn Vcpus; 2] = [&vcpus, &NoVcpus];
        for (vcpus, who) in none.into_iter().zip(["derived", "derived, raw"]) {
            let windows = Windows::open(&memory, vcpus, &Hints::default(), Limits::default(), None).unwrap();
            check(&windows, &truth, &format!("{name}, {who}"));
            assert!(windows.processes().all(|process| process.is_err()), "{name}, {who}");
        }
        // What leads to the kernel is enough, and little of memory is touched on the way. Not every image has a low stub.
        let leads = 1 + usize::from(truth["low_stub"] == true);
        for vcpus in none.into_iter().take(leads) {
            let memory = Counted::new(&raw);
            let (hints, limits) = (Hints::default(), Limits::default());
            let windows = Windows::open_told(&memory, vcpus, &hints, limits, Some(&mut files)).unwrap();
            check(&windows, &truth, &format!("{name}, told"));
            let read = memory.bytes.load(Ordering::Relaxed);
            assert!(read < 8 << 20, "{name}: {read} bytes were read although the kernel is told");
        }
        // Only those in user mode: under KVA shadow their CR3 maps little of the kernel.
        let users = Ledger::new(&registers).in_user_mode();
        let memory = Counted::new(&raw);
        check(&open(&memory, &users, &mut files).unwrap(), &truth, &format!("{name}, user mode"));
        println!("{name}: {} bytes read with user registers", memory.bytes.load(Ordering::Relaxed));
        let started = Instant::now();
        let memory = Counted::new(&raw);
        check(&open(&memory, &NoVcpus, &mut files).unwrap(), &truth, &format!("{name}, raw"));
        println!("{name}: {} bytes, {:?} without", memory.bytes.load(Ordering::Relaxed), started.elapsed());
        // Without the low stub the root refers to itself.
        let mut memory = Counted::new(&raw);
        memory.missing = (1..0x100).collect();
        check(&open(&memory, &NoVcpus, &mut files).unwrap(), &truth, &format!("{name}, no low stub"));
        let mut memory = Counted::new(&raw);
        memory.missing = (1..0x100).collect();
        let who = format!("{name}, user mode, no low stub");
        check(&open(&memory, &users, &mut files).unwrap(), &truth, &who);
        println!("{who}: {} bytes", memory.bytes.load(Ordering::Relaxed));
        // A root alone, as a crash dump's header has it: of some process, not necessarily of System.
        let process = truth["processes"].as_array().unwrap().iter().rev().find(|row| row["dtb"].is_string());
        let root = Some(PhysAddr::new(number(&process.unwrap()["dtb"])));
        let hints = Hints { page_table_root: root, ..Hints::default() };
        let memory = Counted::new(&raw);
        let windows = Windows::open(&memory, &NoVcpus, &hints, Limits::default(), Some(&mut files)).unwrap();
        check(&windows, &truth, &format!("{name}, root alone"));
        println!("{name}: {} bytes with a root alone", memory.bytes.load(Ordering::Relaxed));
        count += 1;
    }
    assert!(count >= 7, "{count} images");
}

/// What public headers fix is what each kernel's own types say.
#[test]
fn derived_layouts_are_those_of_the_files() {
    if let Some(why) = missing() {
        return skip(why);
    }
    for name in ["17763-plain", "19041-plain", "20348-decoy"] {
        let raw = unpack(&folder().join("images").join(name).join("mem.raw.xz"));
        let memory = FlatMemory::new(PhysAddr::new(0), &raw);
        let windows = open(&memory, &NoVcpus, &mut Files::default()).unwrap();
        let (hints, limits) = (Hints::default(), Limits::default());
        let derived = Windows::open(&memory, &NoVcpus, &hints, limits, None).unwrap();
        let mut members = 0;
        for structure in ["_KUSER_SHARED_DATA", "_KLDR_DATA_TABLE_ENTRY"] {
            for member in derived.types().layout(structure, windows.limits()).unwrap().members {
                let told = windows.types().member(structure, &member.name).or_else(|_| {
                    // Some kernels' types have the loader's entries of user mode alone, which begin alike.
                    windows.types().member("_LDR_DATA_TABLE_ENTRY", &member.name)
                });
                let told = told.unwrap();
                assert_eq!(
                    (told.offset * 8, told.size * 8),
                    (member.bit_offset, member.bit_size),
                    "{member:?}"
                );
                members += 1;
            }
        }
        assert!(members >= 11, "{members}");
    }
}

#[test]
fn a_kernel_without_its_header_is_known_by_its_lists() {
    let image = folder().join("images/19041-plain");
    if let Some(why) = missing() {
        return skip(why);
    }
    let (truth, registers) = (json(&image.join("truth.json")), json(&image.join("registers.json")));
    let raw = unpack(&image.join("mem.raw.xz"));
    let mut files = Files::default();
    let vcpus = Ledger::new(&registers);
    let memory = FlatMemory::new(PhysAddr::new(0), &raw);
    let windows = open(&memory, &vcpus, &mut files).unwrap();
    let tables = windows.kernel().tables().unwrap();
    let header = tables.translate(windows.identity().base).unwrap();
    let kernel = &truth["kernel"];
    // What a triage dump tells.
    let hints = Hints {
        loaded_module_list: Some(VirtAddr::new(number(&kernel["ps_loaded_module_list"]))),
        active_process_head: Some(VirtAddr::new(number(&kernel["ps_active_process_head"]))),
        ..Hints::default()
    };
    let headless = Headless { space: tables, base: windows.identity().base };
    let told =
        Windows::open_virtual(&headless, &NoVcpus, &hints, Limits::default(), Some(&mut files)).unwrap();
    assert_eq!(told.identity().base.get(), number(&kernel["base"]));
    assert_eq!(told.facts().page_table_root.unwrap().get(), number(&truth["dtb"]));
    assert_eq!(told.modules().unwrap().count(), truth["kernel_modules"].as_array().unwrap().len());
    let wrong =
        Hints { active_process_head: hints.active_process_head.map(|at| at.wrapping_add(0x1000)), ..hints };
    assert!(Windows::open_virtual(&headless, &NoVcpus, &wrong, Limits::default(), Some(&mut files)).is_err());
    // The debugger's block tells the base, too, where the header's page is gone.
    let mut memory = Counted::new(&raw);
    memory.missing = vec![header.get() >> 12];
    let windows = open(&memory, &vcpus, &mut files).unwrap();
    assert_eq!(windows.identity().base.get(), number(&kernel["base"]));
    assert_eq!(windows.facts().page_table_root.unwrap().get(), number(&truth["dtb"]));
}

/// A kernel whose first page is missing.
struct Headless<'a, 'm> {
    space: &'a vmc::AddressSpace<'m>,
    base: VirtAddr,
}

impl vmc::VirtualMemory for Headless<'_, '_> {
    fn read(&self, addr: VirtAddr, buf: &mut [u8]) -> Result<(), vmc::ReadError> {
        if addr.align_down(0x1000) == self.base {
            return Err(vmc::ReadError::new(addr, vmc::Fault::NotMapped));
        }
        self.space.read(addr, buf)
    }
}

#[test]
fn exports_are_found_by_name_and_by_place() {
    let image = folder().join("images/20348-kpti");
    if let Some(why) = missing() {
        return skip(why);
    }
    let raw = unpack(&image.join("mem.raw.xz"));
    let memory = FlatMemory::new(PhysAddr::new(0), &raw);
    let vcpus = Ledger::new(&json(&image.join("registers.json")));
    let windows = open(&memory, &vcpus, &mut Files::default()).unwrap();
    let header = Image::read(windows.kernel(), windows.identity().base).unwrap();
    let exports = header.exports(windows.kernel(), windows.limits()).unwrap();
    assert_eq!(exports.image_name(), Some("ntoskrnl.exe"));
    let variable = exports.named("PsInitialSystemProcess").unwrap();
    let symbol = windows.symbol("PsInitialSystemProcess").unwrap();
    assert_eq!(windows.identity().base.wrapping_add(u64::from(variable.rva)), symbol);
    assert_eq!(exports.at(variable.rva + 1), Some(variable));
    assert!(exports.named("NoSuchFunction").is_none());
    let (rva, bytes) = header.exceptions().unwrap();
    assert!(rva + bytes <= header.size() && bytes > 0 && bytes % 12 == 0);
}

/// Changes words of the kernel's header, debug directory and export table: nothing is believed that leads out of bounds.
#[test]
fn forged_headers_are_bounded() {
    let image = folder().join("images/20348-kpti");
    if let Some(why) = missing() {
        return skip(why);
    }
    let mut raw = unpack(&image.join("mem.raw.xz"));
    let truth = json(&image.join("truth.json"));
    let base = VirtAddr::new(number(&truth["kernel"]["base"]));
    let root = PhysAddr::new(number(&truth["dtb"]));
    let tables = vmc::arch::x86_64::X86PageTables::new(root, vmc::arch::x86_64::Levels::Four);
    let tables = vmc::PageTables::X86_64(tables);
    let header = {
        let memory = FlatMemory::new(PhysAddr::new(0), &raw);
        let space = vmc::AddressSpace::new(&memory, tables);
        let code_view = Image::read(&space, base).unwrap().code_view(&space).unwrap().unwrap();
        assert_eq!(Some(code_view.guid_text().as_str()), truth["kernel"]["pdb"]["guid"].as_str());
        space.translate(base).unwrap().get() as usize
    };
    let (mut refused, mut without) = (0, 0);
    for place in (0..0x200).step_by(2) {
        for value in [[0, 0], [0xff, 0xff], [0xff, 0x7f], [1, 0]] {
            let old = [raw[header + place], raw[header + place + 1]];
            raw[header + place..header + place + 2].copy_from_slice(&value);
            let memory = FlatMemory::new(PhysAddr::new(0), &raw);
            let space = vmc::AddressSpace::new(&memory, tables);
            match Image::read(&space, base) {
                Ok(image) => {
                    assert!(image.sections().iter().all(|section| section.rva < image.size()));
                    assert!(image.exceptions().is_none_or(|(rva, bytes)| rva + bytes <= image.size()));
                    without += usize::from(!matches!(image.code_view(&space), Ok(Some(_))));
                    if let Ok(exports) = image.exports(&space, &Limits::default()) {
                        assert!(exports.all().iter().all(|export| export.rva < image.size()));
                    }
                }
                Err(_) => refused += 1,
            }
            raw[header + place..header + place + 2].copy_from_slice(&old);
        }
    }
    // The marks and sizes decide, and the debug directory's place.
    assert!(refused >= 10 && without >= 4, "{refused} refused, {without} without a record");
}
