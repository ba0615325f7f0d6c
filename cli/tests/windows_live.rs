//! A Windows guest in a KVM process: it says what its image says.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs,
    reason = "tests may panic and tell what they saw"
)]

mod common;
#[path = "common/live/mod.rs"]
mod live;
#[path = "../../os-windows/tests/common/shared.rs"]
mod shared;

use std::path::{Path, PathBuf};

use common::{scratch, skip, vmc};
use live::{Bare, alike};
use vmc::{Architecture, Vcpus};
use vmc_dump::{CoreWriter, Image, OpenOptions};

/// A synthetic image with its registers, as a core.
fn core(folder: &Path) -> PathBuf {
    let path = scratch().join(format!("windows-{}.elf", std::process::id()));
    let mut options = OpenOptions { cache_dir: Some(scratch()), ..OpenOptions::default() };
    let image = Image::open_with(folder.join("mem.raw.xz"), &mut options).unwrap();
    let vcpus = shared::Ledger::new(&shared::json(&folder.join("registers.json")));
    let mut core = CoreWriter::new(&image, Architecture::X86_64);
    for index in 0..vcpus.count() {
        assert!(core.vcpu(index, &vcpus.registers(index).unwrap()));
    }
    core.write(&std::fs::File::create(&path).unwrap(), &mut |_| {}).unwrap();
    path
}

#[test]
fn a_live_guest_says_what_its_image_says() {
    let folder = shared::folder().join("images/20348-kpti");
    if !folder.is_dir() {
        return skip("the shared data's windows/images is not there");
    }
    let core = core(&folder);
    let core = core.to_str().unwrap();
    let symbols = shared::folder().join("symbols");
    let symbols = ["--symbols", symbols.to_str().unwrap()];
    if let Some(bare) = Bare::start(&["core", core, "parked"]) {
        for question in [&["ps"][..], &["threads"], &["modules"], &["lsof"], &["bt"], &["maps", "--pid", "4"]]
        {
            alike(&[question, &symbols].concat(), &bare.target(), core);
        }
        for question in [["ps"], ["bt"]] {
            let words = [&question[..], &symbols, &["--no-stop"]].concat();
            let live = live::json(&[&words[..1], &[&bare.target()], &words[1..]].concat());
            assert_eq!(live, live::json(&[&question[..], &[core], &symbols].concat()), "{question:?}");
        }
        // Processes are not told apart over time yet: one line says so, and where the vCPUs stand is shown. Whether it is Windows
        // or no system at all is not looked into: the line says so of both.
        for os in [&["--os", "windows"][..], &[]] {
            let top = vmc(&[&["top", &bare.target(), "--batch", "-n", "1"], os].concat()).succeeded();
            assert!(top.stderr.contains("Windows guests") && top.stdout.contains("vCPU 1"), "{top:?}");
            let record = vmc(&[&["record", &bare.target(), "--duration", "1"], os].concat()).succeeded();
            assert!(record.stderr.contains("Windows guests are not told apart"), "{record:?}");
            assert!(record.stdout.lines().count() > 0, "{record:?}");
            let words = ["record", &bare.target(), "--duration", "1", "--pid", "4"];
            let refused = vmc(&[&words[..], os].concat());
            assert_eq!((refused.status, refused.stdout.as_str()), (1, ""), "{refused:?}");
            assert!(refused.stderr.contains("process 4 cannot be looked for"), "{refused:?}");
        }
        // What is saved of it is what it was.
        let saved = scratch().join(format!("windows-saved-{}.elf", std::process::id()));
        let saved = saved.to_str().unwrap();
        vmc(&[&["dump", &bare.target(), saved][..], &symbols].concat()).succeeded();
        let of = |target| live::json(&[&["bt", target][..], &symbols].concat());
        assert_eq!(of(saved), of(core));
        std::fs::remove_file(saved).unwrap();
    }
    std::fs::remove_file(core).unwrap();
}
