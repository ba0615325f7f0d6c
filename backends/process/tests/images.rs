//! Guests that are well are not refused: images of Linux of several kinds, with and without their vCPUs' registers.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs,
    reason = "tests may panic and tell what they saw"
)]

mod common;

use std::path::{Path, PathBuf};

use vmc::arch::{Registers, aarch64};
use vmc::{PhysMemory as _, Vcpus as _};
use vmc_dump::{Image, OpenOptions};
use vmc_process::{Layout, Piece, Verified, verify};

/// What the kernel itself says of its page tables and code: an image of QEMU's has no such registers of aarch64.
fn of_vmcoreinfo(path: &Path) -> Registers {
    let said = std::fs::read_to_string(path).unwrap();
    let value = |name: &str| {
        let found = said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        let digits = found.unwrap_or_else(|| panic!("no {name}")).trim_start_matches("0x");
        u64::from_str_radix(digits, 16).unwrap()
    };
    let voffset = value("NUMBER(kimage_voffset)");
    let pc = value("SYMBOL(_stext)");
    // Pages of 4 KiB in the upper half, and how large that is.
    let tcr = Some(2 << 30 | value("NUMBER(TCR_EL1_T1SZ)") << 16);
    let ttbr1 = Some(value("SYMBOL(swapper_pg_dir)").wrapping_sub(voffset));
    Registers::Aarch64(aarch64::Registers { pc, ttbr1, tcr, vbar: Some(pc), ..Default::default() })
}

fn verified(path: &Path) -> (Verified, usize) {
    let cache_dir = Some(PathBuf::from(env!("CARGO_TARGET_TMPDIR")));
    let image = Image::open_with(path, &mut OpenOptions { cache_dir, ..OpenOptions::default() }).unwrap();
    // As if a process had each region at its own address.
    let piece =
        |region: &vmc::Region| Piece { guest: region.start, len: region.len, host: region.start.get() };
    let layout = Layout::new(image.regions().iter().map(piece).collect(), "an image").unwrap();
    let mut registers: Vec<Registers> =
        (0..image.count()).map(|index| image.registers(index).unwrap()).collect();
    if matches!(registers[0], Registers::Aarch64(_)) {
        registers = vec![of_vmcoreinfo(&path.with_file_name("vmcoreinfo.txt"))];
    }
    verify(&layout, &image, &[]).unwrap();
    (verify(&layout, &image, &registers).unwrap(), registers.len())
}

#[test]
fn the_sample_guest() {
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/../../guests/sample/mem.elf.zst");
    let (verified, vcpus) = verified(Path::new(sample));
    println!("{verified:?}");
    assert!(verified.whole && verified.confirmed.len() > vcpus, "{verified:?}");
}

#[test]
fn guests_of_other_kinds() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let shared = std::env::var_os("VMC_SHARED").map_or_else(|| top.join("../shared"), PathBuf::from);
    for name in ["x86_64-6.1-pti", "x86_64-6.1", "x86_64-tiny", "arm64-6.1"] {
        let image = shared.join("guests").join(name).join("mem.elf.zst");
        if !image.is_file() {
            common::skip(&format!("there is no {}", image.display()));
            continue;
        }
        let (verified, _) = verified(&image);
        println!("{name}: {verified:?}");
        assert!(!verified.confirmed.is_empty(), "{name}");
    }
}
