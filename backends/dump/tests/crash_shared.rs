//! Windows crash dumps of the shared data: full and bitmap ones against the raw image of the same memory, page by page; a real triage
//! dump of Windows 10 against what Microsoft's debugger and a type table of that kernel said of it.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "tests may panic"
)]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Scratch, skip};
use serde_json::Value;
use vmc::{PhysAddr, PhysMemory, Registers, Vcpus, VirtAddr};
use vmc_dump::{CrashFacts, Format, Image, TriagePart};

fn shared(what: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("VMC_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"), PathBuf::from);
    let path = folder.join("windows").join(what);
    if path.exists() {
        return Some(path);
    }
    skip(&format!("the shared data's windows/{what} is not there"));
    None
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn number(value: &Value) -> u64 {
    match value {
        Value::String(text) => u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap(),
        other => other.as_u64().unwrap(),
    }
}

/// An image's folder, unpacked memory by `xz` and the dump, which is opened packed as it is.
fn dump_and_raw(name: &str) -> Option<(PathBuf, Image, Vec<u8>)> {
    let folder = shared(&format!("images/{name}"))?;
    let unpacked = Command::new("xz").arg("-dc").arg(folder.join("mem.raw.xz")).output();
    let Ok(raw) = unpacked else {
        skip("xz is not installed");
        return None;
    };
    let image = Image::open(folder.join("mem.dmp.xz")).unwrap();
    Some((folder, image, raw.stdout))
}

/// Holds what the dump says of the machine against the ledger and the first processor's registers.
fn holds(folder: &Path, image: &Image) -> CrashFacts {
    let (truth, vcpu) =
        (json(&folder.join("truth.json")), json(&folder.join("registers.json"))["vcpus"][0].clone());
    let facts = image.crash().unwrap();
    let kernel = &truth["kernel"];
    assert_eq!(facts.page_table_root().unwrap().get(), number(&truth["dtb"]));
    assert_eq!(facts.active_process_head.unwrap().get(), number(&kernel["ps_active_process_head"]));
    assert_eq!(facts.loaded_module_list.unwrap().get(), number(&kernel["ps_loaded_module_list"]));
    assert_eq!(facts.processors.map(u64::from), kernel["cpus"].as_u64());
    assert_eq!(facts.build.map(u64::from), kernel["build"].as_u64());
    assert_eq!((facts.machine, facts.bug_check.unwrap().code), (0x8664, 0x161));
    // The header's page of zeros and its filler are no facts.
    assert_eq!(
        (&facts.exception, facts.system_time, facts.up_time, &facts.comment),
        (&None, None, None, &None)
    );
    assert_eq!(image.count(), 1);
    let Registers::X86_64(registers) = image.registers(0).unwrap() else { panic!("not of x86_64") };
    let order = "rax rdx rcx rbx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15";
    let told: Vec<u64> = order.split(' ').map(|name| number(&vcpu[name])).collect();
    assert_eq!(registers.general[..], told);
    assert_eq!((registers.rip, registers.rflags), (number(&vcpu["rip"]), number(&vcpu["rflags"])));
    assert_eq!((registers.cs.into(), registers.ss.into()), (number(&vcpu["cs"]), number(&vcpu["ss"])));
    assert_eq!(registers.page_table_root(), number(&truth["dtb"]));
    assert!(image.compressed() && image.virtual_memory().is_none() && image.warnings().is_empty());
    facts.clone()
}

/// Holds every page against the raw image: is in the dump, and the same, or is not; counts both.
fn pages(image: &Image, raw: &[u8]) -> (usize, usize) {
    let (mut same, mut absent) = (0, 0);
    let mut page = vec![0; 0x1000];
    for (number, bytes) in raw.chunks(0x1000).enumerate() {
        let addr = PhysAddr::new(number as u64 * 0x1000);
        if image.read(addr, &mut page).is_ok() {
            assert!(page == bytes, "page {number:#x} differs");
            assert_eq!(image.slice(addr, 0x1000), Some(bytes));
            same += 1;
        } else {
            assert!(image.slice(addr, 1).is_none());
            absent += 1;
        }
    }
    (same, absent)
}

#[test]
fn a_full_dump_has_the_pages_of_the_raw_image() {
    let Some((folder, image, raw)) = dump_and_raw("17763-plain") else { return };
    assert_eq!((image.format(), holds(&folder, &image).dump_type), (Format::CrashFull, 1));
    let (same, absent) = pages(&image, &raw);
    // `file` says 32670 pages; the hole is that of PC firmware: page 0, and 0x9f to 0xff.
    assert_eq!((same, absent), (32670, 1 + 0x61));
    assert_eq!((image.total(), image.ram_bytes()), (32670 << 12, 32670 << 12));
    let regions: Vec<_> = image.regions().iter().map(|run| (run.start.get(), run.len)).collect();
    assert_eq!(regions, [(0x1000, 0x9e_000), (0x10_0000, raw.len() as u64 - 0x10_0000)]);
}

#[test]
fn a_bitmap_dump_has_pages_of_the_raw_image_and_says_which_were_left_out() {
    let Some((folder, image, raw)) = dump_and_raw("20348-kpti") else { return };
    assert_eq!((image.format(), holds(&folder, &image).dump_type), (Format::CrashBitmap, 5));
    let (same, absent) = pages(&image, &raw);
    // The dump's own count; it lies behind the bitmap.
    assert_eq!((same, same + absent), (0x19c6, raw.len() >> 12));
    assert_eq!((image.total(), image.ram_bytes()), (0x19c6 << 12, 32670 << 12));
    // What was left out is nothing but zeros.
    let mut hole = 0;
    for (number, bytes) in raw.chunks(0x1000).enumerate() {
        let addr = PhysAddr::new(number as u64 * 0x1000);
        let Err(why) = image.read(addr, &mut [0; 1]) else { continue };
        if why.to_string().contains("made without it") {
            assert!(bytes.iter().all(|byte| *byte == 0), "page {number:#x}: {why}");
        } else {
            hole += 1;
        }
    }
    assert_eq!(hole, 1 + 0x61);
}

#[test]
fn the_real_triage_dump_says_what_it_is_known_to_say() {
    let Some(folder) = shared("triage") else { return };
    let expected = json(&folder.join("expected.json"));
    let image = Image::open(folder.join("triage_x64.dmp")).unwrap();
    assert_eq!((image.format(), image.warnings()), (Format::CrashTriage, &[] as &[String]));
    assert!(image.regions().is_empty() && image.ram_bytes() == 0);
    let facts = image.crash().unwrap();
    let triage = facts.triage.as_ref().unwrap();
    let base = number(&expected["kernel_base"]);
    assert_eq!(
        (facts.processors.map(u64::from), facts.build),
        (expected["processors"].as_u64(), Some(19041))
    );
    let bug_check = facts.bug_check.unwrap();
    assert_eq!(u64::from(bug_check.code), number(&expected["bugcheck"]));
    // SYSTEM_THREAD_EXCEPTION_NOT_HANDLED: an access violation, at the faulting address.
    assert_eq!(bug_check.parameters[..2], [0xffff_ffff_c000_0005, number(&expected["faulting_address"])]);
    assert_eq!(facts.page_table_root().unwrap().get(), number(&expected["dtb"]));
    let variables = [facts.loaded_module_list, facts.active_process_head, facts.debugger_data];
    let names = ["PsLoadedModuleList", "PsActiveProcessHead", "KdDebuggerDataBlock"];
    for (address, name) in variables.into_iter().zip(names) {
        assert_eq!(address.unwrap().get() - base, number(&expected["rva"][name]), "{name}");
    }
    // The header's exception is the breakpoint that Windows stops by, in the kernel.
    let exception = facts.exception.as_ref().unwrap();
    assert_eq!((exception.code, exception.parameters.len()), (0x8000_0003, 0));
    assert!((base..base + number(&expected["kernel_size"])).contains(&exception.address.get()));
    // 2021-02-21, minutes (here: seconds) after System was created at 01:38:22.
    let created = 1_613_871_502;
    let system_time = i64::try_from(facts.system_time.unwrap() / 1_000_000_000).unwrap();
    assert!((created..created + 60).contains(&system_time), "{system_time}");
    assert_eq!(facts.up_time.unwrap().as_secs(), 3);

    let Registers::X86_64(registers) = image.registers(0).unwrap() else { panic!("not of x86_64") };
    let context = &expected["context"];
    let told = ["rip", "rsp", "cs"].map(|name| number(&context[name]));
    assert_eq!([registers.rip, registers.rsp(), registers.cs.into()], told);

    assert_eq!(triage.drivers.len() as u64, number(&expected["modules"]));
    let kernel = &triage.drivers[0];
    assert!(kernel.name.ends_with(r"\ntoskrnl.exe"), "{}", kernel.name);
    assert_eq!((kernel.base.get(), u64::from(kernel.size)), (base, number(&expected["kernel_size"])));
    assert_eq!(u64::from(kernel.timestamp), number(&expected["kernel_timestamp"]));
    let faulting = number(&expected["faulting_address"]);
    let holds =
        |driver: &&vmc_dump::CrashDriver| faulting.wrapping_sub(driver.base.get()) < driver.size.into();
    let driver = triage.drivers.iter().find(holds).unwrap();
    let module = &expected["faulting_module"];
    assert!(driver.name.ends_with(module["name"].as_str().unwrap()));
    assert_eq!(
        (driver.base.get(), u64::from(driver.size)),
        (number(&module["base"]), number(&module["size"]))
    );
    let unloaded: Vec<_> = triage.unloaded_drivers.iter().map(|driver| driver.name.as_str()).collect();
    assert_eq!((unloaded.len(), unloaded[0], unloaded[1]), (4, "dam.sys", "WdBoot.sys"));
    assert!(triage.unloaded_drivers.iter().all(|driver| driver.start < driver.end));

    assert_eq!(triage.data_blocks as u64, number(&expected["data_blocks"]));
    assert_eq!(triage.data_block_bytes, number(&expected["data_block_bytes"]));
    assert_eq!(triage.stack_bytes, number(&expected["saved_stack"]["bytes"]));
    let stack = image.triage_part(TriagePart::CallStack).unwrap();
    assert_eq!(stack.len() as u64, triage.stack_bytes);
    triage_memory(&image, &expected, stack);
}

/// The virtual memory of the dump.
fn triage_memory(image: &Image, expected: &Value, stack: &[u8]) {
    let memory = image.virtual_memory().unwrap();
    let triage = image.crash().unwrap().triage.as_ref().unwrap();
    // All of the saved stack, which other blocks overlap; it ends within the thread's stack.
    let mut bytes = vec![0; stack.len()];
    memory.read(triage.top_of_stack.unwrap(), &mut bytes).unwrap();
    assert!(bytes == stack);
    let thread = &expected["current_thread"];
    let top = triage.top_of_stack.unwrap().get();
    assert!(
        top > number(&thread["stack_limit"]) && top + triage.stack_bytes == number(&thread["stack_base"])
    );
    // Every processor's block, and the first one's copy, which only padding follows.
    let size = number(&expected["prcb_size"]) as usize;
    let mut prcb = vec![0; size];
    for (_, address) in expected["prcb"].as_object().unwrap() {
        memory.read(VirtAddr::new(number(address)), &mut prcb).unwrap();
    }
    memory.read(VirtAddr::new(number(&expected["prcb"]["0"])), &mut prcb).unwrap();
    assert!(image.triage_part(TriagePart::Prcb).unwrap() == prcb);
    // The list heads in an EPROCESS that is alone in them lead to themselves.
    let process = image.triage_part(TriagePart::Process).unwrap();
    let eprocess = number(&expected["system_process"]["eprocess"]);
    let mut bytes = vec![0; process.len()];
    memory.read(VirtAddr::new(eprocess), &mut bytes).unwrap();
    assert!(bytes == process && process.len() == 0xa40);
    assert_eq!(triage.process.unwrap().get(), eprocess);
    // KPRCB.CurrentThread of the processor that crashed; all of the thread can be read there.
    let thread =
        u64::from_le_bytes(*image.triage_part(TriagePart::Prcb).unwrap()[8..].first_chunk().unwrap());
    let saved = image.triage_part(TriagePart::Thread).unwrap();
    let mut bytes = vec![0; saved.len()];
    memory.read(VirtAddr::new(thread), &mut bytes).unwrap();
    assert!(bytes == saved && triage.thread.unwrap().get() == thread);
    let thread = &expected["current_thread"];
    assert!(process[8..24].chunks(8).all(|link| link == (eprocess + 8).to_le_bytes()));
    // KTHREAD: InitialStack, StackLimit, StackBase at 0x28 of this build.
    let words = &image.triage_part(TriagePart::Thread).unwrap()[0x28..0x40];
    let told = ["initial_stack", "stack_limit", "stack_base"].map(|name| number(&thread[name]).to_le_bytes());
    assert_eq!(words, told.concat());
    // The debugger's data lies where the header says, and names the kernel's base.
    let data = image.crash().unwrap().debugger_data.unwrap();
    assert_eq!(memory.read_u64(data.wrapping_add(0x18)).unwrap(), number(&expected["kernel_base"]));
    // A read that leaves a block says where it could not go on.
    let base = VirtAddr::new(number(&thread["stack_base"]));
    let why = memory.read(VirtAddr::new(base.get() - 8), &mut [0; 32]).unwrap_err();
    assert_eq!((why.addr, why.done), (base, 8));
    assert!(why.to_string().contains("not in the triage dump"), "{why}");
    // The kernel's own list is not among the blocks.
    let list = image.crash().unwrap().loaded_module_list.unwrap();
    assert!(memory.read_u64(list).is_err());
}

#[test]
fn a_packed_triage_dump_is_the_same() {
    let Some(folder) = shared("triage") else { return };
    let scratch = Scratch::new();
    let Ok(packed) = Command::new("xz").args(["-0", "-c"]).arg(folder.join("triage_x64.dmp")).output() else {
        return skip("xz is not installed");
    };
    let plain = Image::open(folder.join("triage_x64.dmp")).unwrap();
    let packed = Image::open(scratch.file("packed", &packed.stdout)).unwrap();
    assert!(packed.compressed() && packed.crash() == plain.crash());
    let at = plain.crash().unwrap().triage.as_ref().unwrap().top_of_stack.unwrap();
    let read = |image: &Image| image.virtual_memory().unwrap().read_u64(at).unwrap();
    assert_eq!(read(&packed), read(&plain));
}
