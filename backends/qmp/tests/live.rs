//! Real guests under QEMU's TCG, held against QEMU's own dump of them and against what they said of themselves.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    missing_docs,
    reason = "tests may panic and tell figures"
)]

mod common;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use common::{Control, Guest, shared_guest};
use serde_json::{Value, json};
use vmc::{LiveGuest, PhysAddr, PhysMemory, Registers, Vcpus};
use vmc_dump::{Image, OpenOptions};
use vmc_linux::Linux;
use vmc_qmp::{ConnectOptions, Qmp};

const IMAGE: &str = "x86_64-6.1-pti";

fn connect(address: &str) -> Qmp {
    Qmp::connect(address, &ConnectOptions { timeout: Duration::from_secs(20), ..ConnectOptions::default() })
        .unwrap()
}

/// The image that was taken when the guest's state was.
fn image() -> Option<Image> {
    let cache_dir = Some(PathBuf::from(env!("CARGO_TARGET_TMPDIR")));
    let mut options = OpenOptions { cache_dir, ..OpenOptions::default() };
    Some(Image::open_with(shared_guest(IMAGE)?.join("mem.elf.zst"), &mut options).unwrap())
}

/// Is all memory of `guest` as in `image`? The image has firmware besides, which is no RAM.
fn same_memory(guest: &dyn PhysMemory, image: &dyn PhysMemory) {
    let (mut ours, mut theirs) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    let mut compared = 0u64;
    for region in guest.regions() {
        for offset in (0..region.len).step_by(ours.len()) {
            let len = ours.len().min((region.len - offset) as usize);
            let at = region.start.wrapping_add(offset);
            guest.read(at, &mut ours[..len]).unwrap();
            image.read(at, &mut theirs[..len]).unwrap();
            assert!(ours[..len] == theirs[..len], "memory differs from {at} on");
            compared += len as u64;
        }
    }
    assert_eq!(compared, 112 << 20);
}

#[test]
fn a_paused_guest_is_as_its_image() {
    let (Some(mut guest), Some(image)) = (Guest::of_image(IMAGE, false), image()) else { return };
    let qmp = connect(&guest.qmp);
    assert!(!qmp.running());
    qmp.stop().unwrap();
    same_memory(&qmp, &image);
    assert_eq!(qmp.count(), image.count());
    // One is in a program, with the program's GS base: what the kernel's is, `info registers` does not tell.
    let user =
        |index: &usize| matches!(image.registers(*index), Ok(Registers::X86_64(x86)) if x86.in_user_mode());
    assert!((0..qmp.count()).any(|index| user(&index)));
    for index in 0..qmp.count() {
        assert_eq!(qmp.registers(index).unwrap(), image.registers(index).unwrap(), "vCPU {index}");
    }
    let facts = qmp.facts();
    assert_eq!((facts.pid, facts.ram_bytes, facts.backend), (Some(guest.pid), 112 << 20, "qmp"));
    assert_eq!(facts.registers, "info registers and a dump's notes");
    assert_eq!(facts.warnings, Vec::<String>::new());
    qmp.resume().unwrap();
    drop(qmp);
    assert_eq!(guest.control.status(), "paused");
}

#[test]
fn processes_and_stacks_are_those_of_the_image_and_of_the_guests_word() {
    let (Some(guest), Some(image)) = (Guest::of_image(IMAGE, false), image()) else { return };
    let qmp = connect(&guest.qmp);
    qmp.stop().unwrap();
    let live = Linux::open(&qmp, &qmp).unwrap();
    let still = Linux::open(&image, &image).unwrap();
    // Every field of each process, and every frame of each thread's stack.
    let rows = |linux: &Linux<'_>| {
        let stacks = linux.stacks(&[]);
        let mut cache = vmc_unwind::Cache::new();
        let mut rows = Vec::new();
        for task in linux.processes().unwrap().map(Result::unwrap) {
            rows.push(format!("{:?}", task.process_row()));
            for thread in task.threads().unwrap().map(Result::unwrap) {
                rows.push(format!("{:?}", stacks.stack(&thread, false, &mut cache)));
            }
        }
        rows
    };
    let found = rows(&live);
    assert_eq!(found, rows(&still));
    // One was in a program, the other idle: both are seen to run there.
    let frames = found.iter().filter(|row| row.contains("Registers")).count();
    assert!(found.len() > 100 && frames >= 2, "{frames} of {}", found.len());
    let truth = shared_guest(IMAGE).unwrap().join("truth.json");
    let truth: Value = serde_json::from_slice(&std::fs::read(truth).unwrap()).unwrap();
    let said: BTreeSet<u64> =
        truth["processes"].as_array().unwrap().iter().map(|row| row["pid"].as_u64().unwrap()).collect();
    let pids = live.processes().unwrap().map(|task| u64::from(task.unwrap().process_row().pid));
    let pids: BTreeSet<u64> = pids.collect();
    assert!(said.len() > 20 && said.is_subset(&pids), "missing: {:?}", said.difference(&pids));
}

#[test]
fn a_running_guest_goes_on_and_is_never_left_stopped() {
    let Some(mut guest) = Guest::of_image(IMAGE, true) else { return };
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let qmp = connect(&guest.qmp);
    assert!(qmp.running());
    // Registers of a running guest are those of some moment; it is not stopped for them.
    assert!(qmp.registers(0).is_ok());
    qmp.stop().unwrap();
    assert!(!qmp.running());
    assert_eq!(guest.control.status(), "paused");
    let registers = qmp.registers(0).unwrap();
    let mut first = vec![0; 1 << 20];
    qmp.read(PhysAddr::new(0), &mut first).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    qmp.forget();
    assert_eq!(qmp.registers(0).unwrap(), registers);
    let mut again = vec![0; 1 << 20];
    qmp.read(PhysAddr::new(0), &mut again).unwrap();
    assert!(first == again);
    qmp.resume().unwrap();
    assert_eq!((qmp.running(), guest.control.status().as_str()), (true, "running"));
    // What was read of the stopped guest stays, until it is forgotten.
    assert_eq!(qmp.registers(0).unwrap(), registers);
    drop(qmp);
    let before = descriptors();
    for _ in 0..20 {
        let qmp = connect(&guest.qmp);
        qmp.stop().unwrap();
        assert!(qmp.registers(1).is_ok() && qmp.read(PhysAddr::new(0x1000), &mut [0; 8]).is_ok());
    }
    assert!(descriptors() <= before + 8);
    guest.control.wait_for("running");
}

#[test]
fn dumps_are_whole() {
    let (Some(guest), Some(image)) = (Guest::of_image(IMAGE, false), image()) else { return };
    let qmp = connect(&guest.qmp);
    let path = guest.scratch.path("dump.elf");
    let file = std::fs::File::create(&path).unwrap();
    let mut told = (0, 0);
    qmp.dump_guest_memory(&file, &mut |completed, total| told = (completed, total)).unwrap();
    assert!(told.0 == told.1 && told.1 >= 112 << 20, "{told:?}");
    let dump = Image::open(&path).unwrap();
    same_memory(&qmp, &dump);
    for index in 0..qmp.count() {
        assert_eq!(dump.registers(index), image.registers(index));
    }
}

/// A machine of 3.5 GiB, whose RAM is in two parts, and its own words on where they lie.
#[test]
fn memory_above_the_pci_hole_is_where_the_machine_has_it() {
    for (machine, low) in [("pc", 3u64 << 30), ("q35", 2 << 30), ("microvm", 3 << 30)] {
        let words = ["-M", machine, "-m", "3584", "-vga", "none"];
        let Some(mut guest) = Guest::of_words("qemu-system-x86_64", &words) else { return };
        let qmp = connect(&guest.qmp);
        assert_eq!(qmp.facts().ram_bytes, 3584 << 20);
        // What lies between the ends of a piece is asked of QEMU anew, at its last byte.
        for piece in &qmp.layout().pieces {
            for at in [piece.guest.get(), piece.guest.get() + piece.len - 1] {
                let said = guest.control.hmp(&format!("gpa2hva {at:#x}"));
                let host = u64::from_str_radix(said.trim().rsplit_once("0x").unwrap().1, 16).unwrap();
                assert_eq!(host - piece.host, at - piece.guest.get(), "{machine} {at:#x}");
            }
        }
        let ends: Vec<_> = qmp.regions().iter().map(|region| region.end().get()).collect();
        assert!(
            ends.contains(&low) && ends.contains(&((4 << 30) + (3584 << 20) - low)),
            "{machine}: {ends:x?}"
        );
        // Firmware covers 256 KiB of RAM before it runs; of microvm it can be written, and is memory as any other.
        let covered = if machine == "microvm" { -(64 << 10) } else { 256 << 10 };
        assert_eq!(qmp.total().cast_signed(), (3584 << 20) - covered, "{machine}");
    }
}

/// A program of a few instructions: its registers and memory are known by arithmetic.
#[test]
fn aarch64_registers_are_those_that_a_program_set() {
    let scratch = common::Scratch::new();
    let mut code: Vec<u32> = (0..31).map(|n| 0xd280_0000 | (0x100 + n) << 5 | n).collect();
    // mov sp, x5; b .
    code.extend([0x9100_00bf, 0x1400_0000]);
    let bytes: Vec<u8> = code.iter().flat_map(|word| word.to_le_bytes()).collect();
    std::fs::write(scratch.path("code"), &bytes).unwrap();
    let loader = format!("loader,file={},addr=0x40100000,force-raw=on,cpu-num=0", scratch.text("code"));
    let words = ["-M", "virt", "-cpu", "cortex-a57", "-smp", "2", "-m", "128", "-device", &loader];
    let Some(mut guest) = Guest::of_words("qemu-system-aarch64", &words) else { return };
    let qmp = connect(&guest.qmp);
    qmp.stop().unwrap();
    drop(qmp);
    assert_eq!(guest.control.status(), "prelaunch");
    guest.control.ask("cont", &json!({}));
    std::thread::sleep(Duration::from_millis(500));
    let qmp = connect(&guest.qmp);
    qmp.stop().unwrap();
    let Registers::Aarch64(registers) = qmp.registers(0).unwrap() else { panic!() };
    let expected: Vec<u64> = (0x100..0x11f).collect();
    assert_eq!(registers.x[..], expected[..]);
    assert_eq!((registers.sp, registers.pc), (0x105, 0x4010_0000 + 32 * 4));
    assert!(!registers.in_user_mode());
    assert_eq!((qmp.count(), qmp.facts().ram_bytes), (2, 128 << 20));
    assert_eq!(qmp.regions().len(), 1);
    let mut read = vec![0; bytes.len()];
    qmp.read(PhysAddr::new(0x4010_0000), &mut read).unwrap();
    assert_eq!(read, bytes);
    assert_eq!(qmp.facts().pid, Some(guest.pid));
    drop(qmp);
    assert_eq!(guest.control.status(), "running");
}

#[test]
fn a_guest_reached_by_tcp_is_found_on_this_host() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let tcp = format!("tcp:127.0.0.1:{port},server=on,wait=off");
    let Some(guest) = Guest::of_words("qemu-system-x86_64", &["-M", "pc", "-m", "64", "-qmp", &tcp]) else {
        return;
    };
    let qmp = connect(&format!("127.0.0.1:{port}"));
    assert_eq!((qmp.facts().pid, qmp.facts().ram_bytes), (Some(guest.pid), 64 << 20));
    // It is in firmware; what the kernel's GS base is cannot be had over TCP, and nothing fails for that.
    let Registers::X86_64(registers) = qmp.registers(0).unwrap() else { panic!() };
    assert_eq!((registers.rip, registers.kernel_gs_base), (0xfff0, None));
    let file = std::fs::File::create(guest.scratch.path("dump")).unwrap();
    let refused = qmp.dump_guest_memory(&file, &mut |_, _| {}).unwrap_err().to_string();
    assert!(refused.contains("Unix socket"), "{refused}");
}

#[test]
fn a_killed_machine_is_gone() {
    let Some(mut guest) = Guest::of_words("qemu-system-x86_64", &["-M", "pc", "-m", "64"]) else { return };
    let qmp = connect(&guest.qmp);
    guest.control.ask("cont", &json!({}));
    qmp.stop().unwrap();
    guest.end();
    let error = qmp.resume().unwrap_err().to_string();
    assert!(error.contains("is gone") && error.contains("closed"), "{error}");
    assert!(!qmp.running() && qmp.registers(0).is_err());
    assert!(qmp.read(PhysAddr::new(0x10_0000), &mut vec![0; 1 << 20]).is_err());
    let again = Qmp::connect(&guest.qmp, &ConnectOptions::default()).unwrap_err().to_string();
    assert!(again.contains("no QMP socket at"), "{again}");
}

#[test]
fn a_socket_that_another_client_holds_says_so() {
    let Some(guest) = Guest::of_words("qemu-system-x86_64", &["-M", "pc", "-m", "64"]) else { return };
    let held = Control::connect(&guest.qmp);
    let options = ConnectOptions { timeout: Duration::from_millis(300), ..ConnectOptions::default() };
    let error = Qmp::connect(&guest.qmp, &options).unwrap_err().to_string();
    assert!(error.contains("one client at a time"), "{error}");
    drop(held);
    // The one that was refused waits in the queue no more.
    connect(&guest.qmp);
}

/// The other end of the socket is the test, which has no guest: as if QEMU were on another host.
#[test]
fn memory_of_another_host_is_read_through_the_monitor() {
    let (Some(guest), Some(image)) = (Guest::of_image(IMAGE, false), image()) else { return };
    let proxy = guest.scratch.path("proxy.sock");
    let listener = std::os::unix::net::UnixListener::bind(&proxy).unwrap();
    let target = guest.qmp.clone();
    let relay = std::thread::spawn(move || {
        let (near, _) = listener.accept().unwrap();
        let far = std::os::unix::net::UnixStream::connect(target).unwrap();
        let (mut from_far, mut to_near) = (far.try_clone().unwrap(), near.try_clone().unwrap());
        let back = std::thread::spawn(move || std::io::copy(&mut from_far, &mut to_near));
        let (mut near, mut far) = (near, far);
        let _ = std::io::copy(&mut near, &mut far);
        let _ = far.shutdown(std::net::Shutdown::Both);
        let _ = back.join();
    });
    let qmp = connect(proxy.to_str().unwrap());
    let facts = qmp.facts();
    assert_eq!((facts.pid, facts.backend), (None, "qmp"));
    let slow = "memory is read through QEMU's monitor, which is slow: no process of this host has it";
    assert!(facts.warnings.iter().any(|warning| warning == slow), "{:?}", facts.warnings);
    let started = std::time::Instant::now();
    let (mut ours, mut theirs) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    for start in [0, 0x9_f001, 0x100_0003, (112 << 20) - (1 << 20)] {
        let at = PhysAddr::new(start);
        qmp.read(at, &mut ours).unwrap();
        image.read(at, &mut theirs).unwrap();
        assert!(ours == theirs, "{at}");
    }
    eprintln!("4 MiB by xp: {:?}", started.elapsed());
    assert_eq!(qmp.facts().memory, "the monitor's xp");
    // A kernel is found in it, and its processes.
    let linux = Linux::open(&qmp, &qmp).unwrap();
    assert!(linux.processes().unwrap().count() > 20);
    // A descriptor does not come through such a relay; what it was for is left out and said.
    assert!(
        qmp.facts().warnings.iter().any(|warning| warning.contains("GS base")),
        "{:?}",
        qmp.facts().warnings
    );
    drop(linux);
    drop(qmp);
    relay.join().unwrap();
}

#[test]
fn machines_on_their_way_and_machines_that_have_gone_are_told_apart() {
    let words = ["-M", "pc", "-m", "64", "-incoming", "defer"];
    let Some(mut guest) = Guest::of_words("qemu-system-x86_64", &words) else { return };
    let error = Qmp::connect(&guest.qmp, &ConnectOptions::default()).unwrap_err().to_string();
    assert!(error.contains("on its way here (inmigrate)"), "{error}");
    // `stop` would have changed what becomes of it on arrival.
    assert_eq!(guest.control.status(), "inmigrate");

    let mut guest = Guest::of_words("qemu-system-x86_64", &["-M", "pc", "-m", "64"]).unwrap();
    guest.control.ask("cont", &json!({}));
    guest.control.ask("migrate", &json!({"uri": "exec:cat > /dev/null"}));
    guest.control.wait_for("postmigrate");
    let qmp = connect(&guest.qmp);
    let warnings = qmp.facts().warnings;
    assert!(warnings.iter().any(|warning| warning.contains("moved to another host")), "{warnings:?}");
    qmp.stop().unwrap();
    assert!(qmp.registers(0).is_ok() && qmp.read(PhysAddr::new(0), &mut [0; 4096]).is_ok());
    drop(qmp);
    assert_eq!(guest.control.status(), "postmigrate");
}

/// As where the process may not be read: the socket alone gives all memory.
#[test]
fn memory_is_read_out_of_parts_of_dumps() {
    let (Some(mut guest), Some(image)) = (Guest::of_image(IMAGE, false), image()) else { return };
    let options = ConnectOptions { process: false, ..ConnectOptions::default() };
    let qmp = Qmp::connect(&guest.qmp, &options).unwrap();
    assert_eq!(qmp.facts().memory, "dump-guest-memory and xp");
    let started = std::time::Instant::now();
    same_memory(&qmp, &image);
    eprintln!("112 MiB by parts of dumps: {:?}", started.elapsed());
    assert_eq!(qmp.facts().memory, "dump-guest-memory and xp");
    // A guest that runs is not stopped for it.
    guest.control.ask("cont", &json!({}));
    qmp.forget();
    let before = guest.control.stops();
    qmp.read(PhysAddr::new(0x100_0000), &mut [0; 64]).unwrap();
    assert_eq!((qmp.running(), guest.control.stops()), (true, before));
}
