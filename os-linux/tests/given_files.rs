//! Symbols and types out of files, in place of those that the sample has itself.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic and tell what they saw"
)]

mod common;

use common::image;
use common::patched::{Patched, patched};
use vmc::symbols::{SymbolTable, SymbolTableBuilder};
use vmc::{Limits, ReadExt};
use vmc_linux::{Checks, Fits, GivenSymbols, GivenTypes, KernelFiles, KernelIdentity, Linux};
use vmc_types::Btf;

/// What a user has: symbols at link-time addresses, BTF.
struct Given {
    symbols: Vec<SymbolTable>,
    types: Vec<Vec<u8>>,
    /// Which of them fit, in their order.
    fitted: Vec<bool>,
    banner: Option<String>,
}

impl KernelFiles for Given {
    fn symbols(&mut self, kernel: &KernelIdentity, fits: &Fits<'_>) -> Option<GivenSymbols> {
        self.banner.clone_from(&kernel.banner);
        self.symbols.iter().find_map(|table| {
            self.fitted.push(fits(table));
            let fitted = self.fitted.last() == Some(&true);
            fitted.then(|| GivenSymbols { source: "system-map", table: table.clone() })
        })
    }

    fn types(&mut self, kernel: &KernelIdentity, checks: &Checks<'_>) -> Option<GivenTypes> {
        self.banner.clone_from(&kernel.banner);
        for table in &self.symbols {
            self.fitted.push((checks.symbols)(table));
        }
        self.types.iter().find_map(|bytes| {
            let btf = Btf::parse(bytes.clone().into(), &Limits::default()).ok()?;
            self.fitted.push((checks.types)(&btf));
            let fitted = self.fitted.last() == Some(&true);
            fitted.then(|| GivenTypes { source: "btf", types: Box::new(btf) })
        })
    }
}

/// The sample's symbols as System.map has them: before KASLR moved the image; those that `change` gives another address.
fn system_map(linux: &Linux<'_>, change: impl Fn(&[u8], u64) -> u64) -> SymbolTable {
    let slide = linux.identity().kaslr_offset.unwrap();
    let mut builder = SymbolTableBuilder::default();
    for symbol in linux.symbols().iter() {
        let moved = symbol.address >> 63 == 1;
        let at = if moved { symbol.address - slide } else { symbol.address };
        builder.push(symbol.name, change(symbol.name, at), 0, symbol.kind);
    }
    builder.build()
}

fn rows(linux: &Linux<'_>) -> Vec<String> {
    linux.processes().unwrap().map(|task| format!("{:?}", task.unwrap().process_row())).collect()
}

fn open<'m>(guest: &'m Patched, files: &mut Given) -> Result<Linux<'m>, vmc_linux::LinuxError> {
    Linux::open_with_files(guest, &guest.image, Limits::default(), Some(files))
}

#[test]
fn symbols_of_a_file_take_the_place_of_kallsyms() {
    let clean = image();
    let expected = Linux::open(&clean, &clean).unwrap();
    // No symbol can be read: VMCOREINFO's pointer leads to a count of none.
    let count = |linux: &Linux<'_>| {
        let info = linux.identity().vmcoreinfo.as_ref().unwrap();
        (info.symbol("kallsyms_num_syms").unwrap(), 0)
    };
    let guest = patched(count);
    assert!(Linux::open(&guest, &guest.image).unwrap_err().to_string().contains("kallsyms"));
    // Of another build: the banner, the names lie elsewhere; code lies where none is.
    let moved = |wanted: &'static [u8], by: u64| {
        system_map(&expected, move |name, at| if name == wanted { at.wrapping_add(by) } else { at })
    };
    let other = moved(b"linux_banner", 0x40);
    let (longer, named) = (moved(b"_stext", 1 << 29), moved(b"init_uts_ns", 0x100));
    let nothing = SymbolTableBuilder::default().build();
    let right = system_map(&expected, |_, at| at);
    let mut files = Given {
        symbols: vec![other, longer, named, nothing, right],
        types: Vec::new(),
        fitted: Vec::new(),
        banner: None,
    };
    let opened = open(&guest, &mut files);
    let linux = opened.unwrap_or_else(|why| panic!("{why}: {:?} {:?}", files.fitted, files.banner));
    assert_eq!(files.fitted, [false, false, false, false, true]);
    assert!(files.banner.unwrap().starts_with("Linux version 6.12"));
    assert_eq!(linux.kernel_symbols().source(), "system-map");
    assert_eq!(rows(&linux), rows(&expected));
    // Only wrong ones: the kernel's own error stays.
    let mut files = Given { symbols: Vec::new(), types: Vec::new(), fitted: Vec::new(), banner: None };
    assert!(open(&guest, &mut files).unwrap_err().to_string().contains("kallsyms"));
}

#[test]
fn types_of_a_file_take_the_place_of_btf() {
    let clean = image();
    let expected = Linux::open(&clean, &clean).unwrap();
    let place = |name: &[u8]| vmc::VirtAddr::new(expected.symbols().named(name).next().unwrap().address);
    let (start, stop) = (place(b"__start_BTF"), place(b"__stop_BTF"));
    let whole = expected.space().read_vec(start, stop.get() - start.get(), 64 << 20).unwrap();
    let guest = patched(|_| (start, 0));
    assert!(Linux::open(&guest, &guest.image).unwrap_err().to_string().contains("BTF"));
    // Another kernel's: `comm` and `tasks` have changed names, so neither lies where it should; cut off.
    let text = |from: &[u8], to: &[u8]| {
        let mut bytes = whole.clone();
        let at = bytes.windows(from.len()).position(|window| window == from).unwrap();
        bytes[at..at + to.len()].copy_from_slice(to);
        bytes
    };
    let others = [text(b"\0comm\0", b"\0mmoc\0"), whole[..whole.len() / 2].to_vec()];
    let right = system_map(&expected, |_, at| at);
    let wrong = system_map(&expected, |_, at| at ^ (at >> 4 & 0xfff0));
    let mut files = Given {
        symbols: vec![right, wrong],
        types: others.into_iter().chain([whole]).collect(),
        fitted: Vec::new(),
        banner: None,
    };
    let linux = open(&guest, &mut files).unwrap();
    // Both tables of symbols; BTF whose strings are cut off is none at all.
    assert_eq!(files.fitted, [true, false, false, true]);
    assert!(files.banner.unwrap().starts_with("Linux version 6.12"));
    assert_eq!(linux.types().source(), "btf");
    assert_eq!(rows(&linux), rows(&expected));
}
