//! Linux guests seen through QEMU's stub while they are held: what they say of themselves, as on an image of the same moment; by
//! packets, by QEMU's process, and on aarch64.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "tests may panic"
)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use common::Guest;
use serde_json::Value;
use vmc::{LiveGuest, PhysAddr, PhysMemory, Registers, Vcpus};
use vmc_gdb::{ConnectOptions, Gdb};
use vmc_linux::Linux;

/// Processes, and the frames of every thread's stack, or of those of one program.
fn seen(memory: &dyn PhysMemory, vcpus: &dyn Vcpus, all: bool) -> (BTreeMap<u32, String>, Vec<String>) {
    let linux = Linux::open(memory, vcpus).unwrap();
    let tasks: Vec<_> = linux.processes().unwrap().map(|task| task.unwrap()).collect();
    let names = tasks.iter().map(|task| (task.pid().unwrap(), task.name().unwrap())).collect();
    let threads: Vec<_> = tasks
        .iter()
        .flat_map(|task| task.threads().unwrap())
        .map(|thread| thread.unwrap())
        .filter(|thread| all || thread.name().is_ok_and(|name| name == "deep"))
        .collect();
    let stacks = linux.stacks(&threads);
    let mut cache = vmc_unwind::Cache::new();
    let frames = threads.iter().map(|thread| format!("{:?}", stacks.stack(thread, false, &mut cache).frames));
    (names, frames.collect())
}

fn holds(truth: &Value, names: &BTreeMap<u32, String>) {
    for told in truth["processes"].as_array().unwrap() {
        let (pid, name) = (told["pid"].as_u64().unwrap() as u32, told["comm"].as_str().unwrap());
        // The collector is gone or about to go; of kernel threads /proc tells more than their 15 characters.
        let found = names.get(&pid);
        let same = found
            .is_some_and(|found| found == name || (found.len() == 15 && name.starts_with(found.as_str())));
        assert!(same || name == "collect" || told["kernel_thread"] == true, "{pid} is {found:?}, not {name}");
    }
}

#[test]
fn a_held_guest_is_what_its_image_is() {
    let Some(mut guest) = Guest::incoming("x86_64-6.1-pti", false) else { return };
    let truth = guest.truth();
    let image = guest.image();
    let expected = seen(&image, &image, false);
    assert!(!expected.1.is_empty());
    holds(&truth, &expected.0);
    for process in [false, true] {
        let options = ConnectOptions { process, ..ConnectOptions::default() };
        let gdb = Gdb::connect(&guest.stub(), &options).unwrap();
        let found = seen(&gdb, &gdb, false);
        assert_eq!(found, expected, "by the process: {process}");
        let facts = gdb.facts();
        if process && facts.pid.is_none() {
            common::skip("QEMU's memory may not be read by this user");
        } else {
            assert_eq!(facts.pid, process.then_some(guest.pid() as u32));
        }
        gdb.detach().unwrap();
        assert_eq!(guest.status(), "paused");
    }
}

#[test]
fn a_running_guest_is_read_from_its_process() {
    let Some(mut guest) = Guest::incoming("x86_64-6.1-pti", true) else { return };
    guest.wait_for("running", Duration::from_secs(5)).unwrap();
    let gdb = Gdb::connect(&guest.stub(), &ConnectOptions::default()).unwrap();
    if gdb.facts().pid.is_none() {
        return common::skip("QEMU's memory may not be read by this user");
    }
    // It runs on from attaching on, and is found and read while it does; registers of the same moment are kept.
    assert!(gdb.running());
    assert_eq!(guest.status(), "running");
    assert!(gdb.facts().warnings.is_empty(), "{:?}", gdb.facts().warnings);
    let at_first = gdb.registers(0).unwrap();
    let linux = Linux::open(&gdb, &gdb).unwrap();
    assert_eq!(linux.facts().release, guest.truth()["uname"]["release"]);
    drop(linux);
    assert_eq!(gdb.registers(0).unwrap(), at_first);
    // New registers take a stop, which is over when they are there.
    let mut moments = BTreeSet::new();
    for _ in 0..50 {
        gdb.forget();
        let both = [gdb.registers(0).unwrap(), gdb.registers(1).unwrap()];
        assert!(gdb.running());
        moments.insert(format!("{both:?}"));
        let mut page = [0; 4096];
        gdb.read(PhysAddr::new(0x10_0000), &mut page).unwrap();
    }
    assert!(moments.len() > 1, "always the same registers");
    assert_eq!(guest.status(), "running");
    // A monitor's line too.
    let mut gdb = gdb;
    assert!(vmc_qmp::hmp::Monitor::hmp(&mut gdb, "info status").unwrap().contains("paused"));
    assert_eq!(guest.status(), "running");
    // Somebody else pauses it meanwhile: from then on it is not ours to let go.
    guest.qmp("stop", serde_json::json!({}));
    gdb.stop().unwrap();
    gdb.registers(0).unwrap();
    gdb.resume().unwrap();
    assert_eq!(guest.status(), "paused");
    guest.qmp("cont", serde_json::json!({}));
    drop(gdb);
    guest.wait_for("running", Duration::from_secs(5)).unwrap();
}

/// A guest that we have stopped is what QEMU itself writes of it at that moment: every process, every frame of every thread.
#[test]
fn a_guest_that_was_stopped_while_it_ran_is_what_its_dump_is() {
    let Some(mut guest) = Guest::incoming("x86_64-6.1-pti", true) else { return };
    guest.wait_for("running", Duration::from_secs(5)).unwrap();
    for process in [true, false] {
        let options = ConnectOptions { process, ..ConnectOptions::default() };
        let gdb = Gdb::connect(&guest.stub(), &options).unwrap();
        std::thread::sleep(Duration::from_millis(200));
        gdb.stop().unwrap();
        assert_eq!(guest.status(), "paused");
        let dump = guest.folder().join(format!("dump-{process}.elf"));
        let protocol = format!("file:{}", dump.display());
        guest.qmp("dump-guest-memory", serde_json::json!({"paging": false, "protocol": protocol}));
        let image = common::image(&dump);
        for index in 0..gdb.count() {
            assert_eq!(gdb.registers(index).unwrap(), image.registers(index).unwrap(), "vCPU {index}");
        }
        let expected = seen(&image, &image, true);
        assert!(expected.1.len() > 40, "{}", expected.1.len());
        assert_eq!(seen(&gdb, &gdb, true), expected, "by the process: {process}");
        holds(&guest.truth(), &expected.0);
        std::fs::remove_file(dump).unwrap();
        gdb.detach().unwrap();
        guest.wait_for("running", Duration::from_secs(5)).unwrap();
    }
}

#[test]
fn what_others_do_meanwhile_is_noticed() {
    let Some(mut guest) = Guest::incoming("x86_64-6.1-pti", false) else { return };
    let gdb =
        Gdb::connect(&guest.stub(), &ConnectOptions { process: false, ..ConnectOptions::default() }).unwrap();
    let before = gdb.registers(0).unwrap();
    // Paused when it was found: it stays so through resume.
    gdb.resume().unwrap();
    assert!(!gdb.running());
    assert_eq!(guest.status(), "paused");
    assert_eq!(gdb.registers(0).unwrap(), before);
    // Somebody lets it run under us: our next byte stops it and is lost; the answer comes all the same, and in the end it runs.
    guest.qmp("cont", serde_json::json!({}));
    assert_eq!(guest.status(), "running");
    let mut bytes = [0; 64];
    gdb.read(PhysAddr::new(0x20_0000), &mut bytes).unwrap();
    let text = guest.monitor("xp /1gx 0x200000");
    let told = text.trim().rsplit("0x").next().unwrap();
    assert_eq!(u64::from_str_radix(told, 16).unwrap(), u64::from_le_bytes(bytes[..8].try_into().unwrap()));
    gdb.detach().unwrap();
    guest.wait_for("running", Duration::from_secs(5)).unwrap();
}

#[test]
fn stubs_that_agreed_on_several_processes_are_left_all_the_same() {
    let Some(mut guest) = Guest::incoming("x86_64-6.1-pti", true) else { return };
    // What gdb itself does: QEMU remembers it for those that come after.
    guest.say_to_stub("qSupported:multiprocess+");
    guest.wait_for("running", Duration::from_secs(5)).unwrap();
    for _ in 0..20 {
        let gdb = Gdb::connect(&guest.stub(), &ConnectOptions::default()).unwrap();
        assert!(gdb.thread(0).unwrap().starts_with('p'), "{:?}", gdb.thread(0));
        gdb.registers(1).unwrap();
        gdb.detach().unwrap();
        assert_eq!(guest.status(), "running");
    }
}

#[test]
fn an_aarch64_machine_is_what_its_monitor_says() {
    let Some(mut guest) = Guest::bare_aarch64() else { return };
    let gdb = Gdb::connect(&guest.stub(), &ConnectOptions::default()).unwrap();
    assert_eq!(gdb.regions(), [vmc::Region { start: PhysAddr::new(1 << 30), len: 64 << 20 }]);
    assert_eq!(gdb.count(), 2);
    assert!(gdb.facts().warnings.is_empty(), "{:?}", gdb.facts().warnings);
    // The program's own word: what it put into the registers.
    let Registers::Aarch64(registers) = gdb.registers(0).unwrap() else { panic!("not aarch64") };
    assert_eq!((registers.x[1], registers.x[29]), (0x1111, 0x2929));
    assert_eq!(registers.ttbr0, Some(0x4100_0000));
    assert_eq!(registers.ttbr1, Some(0x4200_0000));
    assert_eq!(registers.tcr, Some(0x3510));
    assert_eq!(registers.sp_el0, Some(0x5000));
    assert_eq!(registers.tpidr_el1, Some(0x6000));
    assert_eq!(registers.tpidr_el0, Some(0x7000));
    assert_eq!(registers.vbar, Some(0x4000_8000));
    assert_eq!(registers.mair, Some(0x44ff));
    assert_eq!((registers.pstate & 0xf, registers.sp, registers.sp_el1), (5, 0x4000_9000, Some(0x4000_9000)));
    let text = guest.monitor("info registers");
    assert!(text.contains(&format!("PC={:016x}", registers.pc)), "{text}");
    let mut word = [0; 4];
    gdb.read(PhysAddr::new(registers.pc), &mut word).unwrap();
    assert_eq!(u32::from_le_bytes(word), 0x1400_0000, "the program ends in a branch to itself");
    gdb.detach().unwrap();
    assert_eq!(guest.status(), "running");
}
