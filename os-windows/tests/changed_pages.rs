//! States of pages that no image has, made by changing words of one: what comes out follows from what was put in.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::panic,
    reason = "tests and their helpers may panic and tell what they saw"
)]

mod images;

use images::{address, image, number, unpacked, with_memory};
use serde_json::Value;
use vmc::arch::TranslateError;
use vmc::layout::Types;
use vmc::{PhysAddr, VirtAddr, VirtualMemory};
use vmc_windows::{ProcessMemory, Windows};

/// Changes of words of an image: where in physical memory, and what stands there then.
type Words = Vec<(PhysAddr, u64)>;

/// Where a kernel structure's member lies in physical memory.
fn physical(windows: &Windows<'_>, at: VirtAddr, structure: &str, path: &str) -> PhysAddr {
    let member = windows.types().member(structure, path).unwrap();
    windows.kernel().tables().unwrap().translate(at.wrapping_add(member.offset)).unwrap()
}

/// The image of the page states as it is, and after `change` has had its way with it: what is read at the page of `kind`.
fn changed(change: impl FnOnce(&Windows<'_>, &Value) -> Words, check: impl FnOnce(&Windows<'_>, &Value)) {
    let Some((folder, truth)) = image("19041-pages") else {
        return;
    };
    let mut raw = unpacked(&folder.join("mem.raw.xz"));
    let processes = truth["processes"].as_array().unwrap();
    let process =
        processes.iter().find(|process| process["pages"].as_array().is_some_and(|all| !all.is_empty()));
    let process = process.unwrap();
    let mut words = Words::new();
    with_memory(&folder, &truth, &raw, |windows| words = change(windows, process));
    for (at, word) in words {
        let at = usize::try_from(at.get()).unwrap();
        raw[at..at + 8].copy_from_slice(&word.to_le_bytes());
    }
    with_memory(&folder, &truth, &raw, |windows| check(windows, process));
}

fn planted<'t>(process: &'t Value, kind: &str) -> &'t Value {
    process["pages"].as_array().unwrap().iter().find(|page| page["kind"] == kind).unwrap()
}

/// The VAD whose range begins where the page of `kind` lies.
fn vad_at<'t>(process: &'t Value, kind: &str) -> &'t Value {
    let va = &planted(process, kind)["va"];
    process["vads"].as_array().unwrap().iter().find(|vad| vad["start"] == *va).unwrap()
}

/// What reading the page of `kind` comes to: its label, or the reason why not.
fn outcome(windows: &Windows<'_>, process: &Value, kind: &str) -> String {
    let root = PhysAddr::new(number(&process["dtb"]));
    let memory = ProcessMemory::new(windows, root, address(process, "eprocess")).unwrap();
    let mut bytes = [0xaa; 64];
    match memory.read(address(planted(process, kind), "va"), &mut bytes) {
        Ok(()) if bytes == [0; 64] => "zeros".into(),
        Ok(()) => String::from_utf8_lossy(&bytes[..32]).trim_end_matches('.').into(),
        Err(why) => why.fault.to_string(),
    }
}

/// Where the entry that is not present lies that ends the walk to the page of `kind`.
fn entry_of(windows: &Windows<'_>, process: &Value, kind: &str) -> PhysAddr {
    let root = PhysAddr::new(number(&process["dtb"]));
    let memory = ProcessMemory::new(windows, root, address(process, "eprocess")).unwrap();
    match memory.space().walk(address(planted(process, kind), "va")) {
        Err(TranslateError::NotPresent { at, .. }) => at,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_store_of_compressed_pages_is_told_from_files() {
    let store = |windows: &Windows<'_>, _: &Value| {
        // Its structure lies behind the partition's own: what is mapped there is all that it takes.
        let partition = windows.symbol("MiSystemPartition").unwrap();
        let slot = physical(windows, partition, "_MI_PARTITION", "Vp.PagingFile");
        let layout = windows.types().layout("_MMPAGING_FILE", windows.limits()).unwrap();
        let flag = layout.members.iter().find(|member| member.name == "VirtualStorePagefile").unwrap();
        let file = partition.wrapping_add(0x100);
        let word = file.wrapping_add(flag.bit_offset / 64 * 8);
        let word = windows.kernel().tables().unwrap().translate(word).unwrap();
        vec![(PhysAddr::new(slot.get() + 8), file.get()), (word, 1 << (flag.bit_offset % 64))]
    };
    changed(store, |windows, process| {
        assert_eq!(outcome(windows, process, "pagefile"), "pagefile 0 page 0x1234");
        let second =
            process["pages"].as_array().unwrap().iter().find(|page| page["expect"] == "pagefile 1 page 0x77");
        let root = PhysAddr::new(number(&process["dtb"]));
        let memory = ProcessMemory::new(windows, root, address(process, "eprocess")).unwrap();
        let why = memory.read_u64(address(second.unwrap(), "va")).unwrap_err().fault.to_string();
        assert!(why.contains("compressed") && why.contains("pagefile 1 page 0x77"), "{why}");
    });
}

#[test]
fn without_a_mask_what_lies_above_memory_is_not_meant() {
    let none = |windows: &Windows<'_>, _: &Value| {
        let state = windows.symbol("MiState").unwrap();
        vec![(physical(windows, state, "_MI_SYSTEM_INFORMATION", "Hardware.InvalidPteMask"), 0)]
    };
    changed(none, |windows, process| {
        for kind in ["transition", "transition-swizzled", "transition-not-swizzled", "prototype-transition"] {
            assert_eq!(outcome(windows, process, kind), kind);
        }
    });
}

#[test]
fn entries_that_say_something_else_are_followed() {
    const MASK: u64 = 1 << 45;
    let change = |windows: &Windows<'_>, process: &Value| {
        let memory = windows.memory().unwrap();
        let entry = |kind| entry_of(windows, process, kind);
        let prototype = memory.read_u64(entry("prototype-valid")).unwrap();
        vec![
            // The mask is set in whatever else is not present, too.
            (entry("demand-zero"), memory.read_u64(entry("demand-zero")).unwrap() | MASK),
            (entry("prototype-valid"), prototype | MASK),
            // Given back: a guard page without access.
            (entry("private-committed-untouched"), 0x200),
            // Prototype entries in user memory, and at the page table's own place in the self-map's half.
            (entry("prototype-pagefile"), 0x7fff_0000_1000 << 16 | 0x400),
            (entry("prototype-subsection"), 0xffff_8000_0000_1000 << 16 | 0x400),
        ]
    };
    changed(change, |windows, process| {
        assert_eq!(outcome(windows, process, "demand-zero"), "zeros");
        assert_eq!(outcome(windows, process, "prototype-valid"), "prototype-valid");
        assert_eq!(outcome(windows, process, "private-committed-untouched"), "reserved, not committed");
        let why = outcome(windows, process, "prototype-pagefile");
        assert!(why.contains("not in the kernel's memory"), "{why}");
        let why = outcome(windows, process, "prototype-subsection");
        assert!(why.contains("not in memory"), "{why}");
    });
}

#[test]
fn what_is_reserved_only_is_not_read() {
    let reserve = |windows: &Windows<'_>, process: &Value| {
        let flags = physical(windows, address(vad_at(process, "valid"), "node"), "_MMVAD_SHORT", "u1");
        let word = PhysAddr::new(flags.get() & !7);
        let before = windows.memory().unwrap().read_u64(word).unwrap();
        // MemCommit, the highest bit of the second word of flags.
        vec![(word, before & !(0x8000_0000 << ((flags.get() & 7) * 8)))]
    };
    changed(reserve, |windows, process| {
        assert_eq!(outcome(windows, process, "private-committed-untouched"), "reserved, not committed");
        assert_eq!(outcome(windows, process, "demand-zero"), "zeros");
    });
}

#[test]
fn prototype_entries_in_several_pieces_are_found() {
    let split = |windows: &Windows<'_>, process: &Value| {
        let node = address(vad_at(process, "vad-prototype-pte-zero"), "node");
        let other = process["vads"].as_array().unwrap().iter().find(|vad| vad["path"] == "\\data\\file.bin");
        let other = address(other.unwrap(), "node");
        let pointer = |at, structure, path| {
            let at = physical(windows, at, structure, path);
            VirtAddr::new(windows.memory().unwrap().read_u64(at).unwrap())
        };
        let first = pointer(node, "_MMVAD", "FirstPrototypePte");
        let (one, two) = (pointer(node, "_MMVAD", "Subsection"), pointer(other, "_MMVAD", "Subsection"));
        let count = |at: VirtAddr, pages: u64| {
            let at = physical(windows, at, "_SUBSECTION", "PtesInSubsection");
            let word = PhysAddr::new(at.get() & !7);
            let (shift, before) = ((at.get() & 7) * 8, windows.memory().unwrap().read_u64(word).unwrap());
            (word, before & !(0xffff_ffff << shift) | pages << shift)
        };
        vec![
            (physical(windows, node, "_MMVAD", "LastContiguousPte"), first.get()),
            (physical(windows, one, "_SUBSECTION", "NextSubsection"), two.get()),
            (physical(windows, two, "_SUBSECTION", "SubsectionBase"), first.get() + 16),
            count(one, 2),
            count(two, 1),
        ]
    };
    changed(split, |windows, process| {
        for kind in ["vad-prototype-pte-zero", "vad-prototype-pte-lookup", "vad-prototype-transition"] {
            assert_eq!(outcome(windows, process, kind), kind);
        }
        assert!(outcome(windows, process, "vad-prototype-file").contains("behind the last subsection"));
    });
}

/// Numbers without order (xorshift, Marsaglia 2003).
fn noise(count: usize) -> impl Iterator<Item = u64> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    (0..count).map(move |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    })
}

#[test]
fn tables_and_trees_of_noise_end_in_reasons() {
    let scramble = |windows: &Windows<'_>, process: &Value| {
        let table = entry_of(windows, process, "demand-zero").align_down(0x1000);
        // Few bits: transition, prototype, swizzle and protection in all their company, and then addresses of all sorts.
        let entries = (0..512).zip(noise(512)).map(|(index, word)| {
            let word = if index < 256 { word & 0xffff } else { word };
            (PhysAddr::new(table.get() + 8 * index), word & !1)
        });
        let node = address(vad_at(process, "vad-prototype-pte-zero"), "node");
        let node = windows.kernel().tables().unwrap().translate(node).unwrap();
        let links =
            (0..17).zip(noise(17)).map(|(index, word)| (PhysAddr::new((node.get() & !7) + 8 * index), word));
        entries.chain(links).collect()
    };
    changed(scramble, |windows, process| {
        let root = PhysAddr::new(number(&process["dtb"]));
        let eprocess = address(process, "eprocess");
        let memory = ProcessMemory::new(windows, root, eprocess).unwrap();
        let first = address(planted(process, "valid"), "va").align_down(0x20_0000);
        let read = |page: u64| memory.read_u64(first.wrapping_add(page * 0x1000));
        let (read, not): (Vec<_>, Vec<_>) = (0..512).map(read).partition(Result::is_ok);
        assert!(!read.is_empty() && not.len() > 256, "{} were read", read.len());
        let (rows, broken): (Vec<_>, Vec<_>) =
            vmc_windows::vads(windows, eprocess).unwrap().partition(Result::is_ok);
        assert!(!rows.is_empty() && !broken.is_empty(), "{} ranges, {} reasons", rows.len(), broken.len());
    });
}
