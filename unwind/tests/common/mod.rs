//! What the tests share: call frame information made by hand, memory made of words, and the host's libc.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::panic,
    reason = "a helper of tests may panic and print, and not every test file uses every helper"
)]

pub(crate) mod bare;
pub(crate) mod pe;

use std::io::Write;
use std::sync::Arc;

use object::{Object, ObjectSection};
use vmc::{Fault, ReadError, VirtAddr, VirtualMemory};
use vmc_unwind::{AddressSize, Module, ModuleMap, Section, Sections, UnwindTable};

pub(crate) const EH_FRAME: u64 = 0x10_0000;
pub(crate) const EH_FRAME_HDR: u64 = 0x0f_0000;

/// `DW_CFA_def_cfa_offset`.
pub(crate) const DEF_CFA_OFFSET: u8 = 0x0e;
/// `DW_CFA_undefined rip`.
pub(crate) const NO_CALLER: [u8; 2] = [0x07, 16];

/// Assembles `.eh_frame` and `.eh_frame_hdr`.
#[derive(Default)]
pub(crate) struct Cfi {
    bytes: Vec<u8>,
    /// Start and offset of each FDE.
    pub(crate) fdes: Vec<(u64, u64)>,
}

impl Cfi {
    fn entry(&mut self, id: impl FnOnce(usize) -> u32, body: &[&[u8]]) -> usize {
        let at = self.bytes.len();
        let mut rest = id(at + 4).to_le_bytes().to_vec();
        rest.extend(body.concat());
        rest.resize(rest.len().next_multiple_of(8) + 4, 0);
        self.bytes.extend((rest.len() as u32).to_le_bytes());
        self.bytes.extend(rest);
        at
    }

    /// A CIE with absolute pointers; by it the return address lies at CFA - 8 and the CFA is rsp + 8.
    pub(crate) fn cie(&mut self, augmentation: &str, instructions: &[u8]) -> usize {
        let head = [1u8];
        let tail = [0, 1, 0x78, 16, 1, 0, 0x0c, 7, 8, 0x90, 1];
        self.entry(|_| 0, &[&head, augmentation.as_bytes(), &tail, instructions])
    }

    /// The same of aarch64: the CFA is sp, and the return address stays in x30.
    pub(crate) fn cie_aarch64(&mut self, augmentation: &str, instructions: &[u8]) -> usize {
        let tail = [0, 4, 0x78, 30, 1, 0, 0x0c, 31, 0];
        self.entry(|_| 0, &[&[1], augmentation.as_bytes(), &tail, instructions])
    }

    pub(crate) fn fde(&mut self, cie: usize, start: u64, len: u64, instructions: &[u8]) -> usize {
        let body: [&[u8]; 4] = [&start.to_le_bytes(), &len.to_le_bytes(), &[0], instructions];
        let at = self.entry(|field| (field - cie) as u32, &body);
        self.fdes.push((start, at as u64));
        at
    }

    pub(crate) fn eh_frame(&self) -> Section {
        Section::new(EH_FRAME, [&self.bytes[..], &[0; 4]].concat())
    }

    pub(crate) fn header(&self) -> Section {
        let mut bytes = vec![1, 0x1b, 0x03, 0x3b];
        bytes.extend(((EH_FRAME - EH_FRAME_HDR - 4) as u32).to_le_bytes());
        bytes.extend((self.fdes.len() as u32).to_le_bytes());
        let mut fdes = self.fdes.clone();
        fdes.sort_unstable();
        for (start, offset) in fdes {
            bytes.extend((start.wrapping_sub(EH_FRAME_HDR) as u32).to_le_bytes());
            bytes.extend(((EH_FRAME + offset - EH_FRAME_HDR) as u32).to_le_bytes());
        }
        Section::new(EH_FRAME_HDR, bytes)
    }

    pub(crate) fn sections(&self) -> Sections {
        Sections { eh_frame_hdr: self.header(), eh_frame: self.eh_frame(), ..Sections::default() }
    }

    pub(crate) fn table(&self) -> UnwindTable {
        UnwindTable::new(self.sections())
    }

    /// One module of everything below 1 MiB, at `bias`.
    pub(crate) fn module(&self, bias: u64) -> ModuleMap {
        let range = VirtAddr::new(bias)..VirtAddr::new(bias + 0x10_0000);
        ModuleMap::new(vec![Module { range, bias, table: Some(Arc::new(self.table())), index: 0 }])
    }
}

/// Words from an address on; nothing elsewhere.
pub(crate) struct Words(pub(crate) u64, pub(crate) Vec<u64>);

impl VirtualMemory for Words {
    fn read(&self, addr: VirtAddr, buf: &mut [u8]) -> Result<(), ReadError> {
        for (offset, byte) in (0u64..).zip(buf) {
            let at = addr.get().wrapping_add(offset).wrapping_sub(self.0);
            let word = self.1.get((at / 8) as usize).ok_or_else(|| {
                let missing = VirtAddr::new(addr.get().wrapping_add(offset));
                ReadError::new(missing, Fault::NotMapped)
            })?;
            *byte = word.to_le_bytes()[(at % 8) as usize];
        }
        Ok(())
    }
}

pub(crate) const LIBC: &str = "/lib/x86_64-linux-gnu/libc.so.6";

/// The sections of the host's libc; where it has none, says so, and the test has nothing to do.
pub(crate) fn libc() -> Option<Sections> {
    sections_or_skip(LIBC)
}

/// Those of Debian's libc6-arm64-cross.
pub(crate) fn libc_aarch64() -> Option<Sections> {
    sections_or_skip("/usr/aarch64-linux-gnu/lib/libc.so.6")
}

fn sections_or_skip(path: &str) -> Option<Sections> {
    let sections = sections_of(path);
    if sections.is_none() {
        skip(&format!("{path} is not there, or no little-endian ELF file"));
    }
    sections
}

/// The sections for unwinding of the ELF file at `path`.
pub(crate) fn sections_of(path: &str) -> Option<Sections> {
    let file = std::fs::read(path).ok()?;
    let object = object::File::parse(&*file).ok().filter(object::File::is_little_endian)?;
    let section = |name| {
        let section = object.section_by_name(name);
        section.map(|s| Section::new(s.address(), s.data().unwrap().to_vec())).unwrap_or_default()
    };
    let address_size = if object.is_64() { AddressSize::Eight } else { AddressSize::Four };
    let text = object.section_by_name(".text").map(|section| section.address());
    Some(Sections {
        eh_frame_hdr: section(".eh_frame_hdr"),
        eh_frame: section(".eh_frame"),
        debug_frame: section(".debug_frame"),
        text,
        address_size,
    })
}

/// Starts and ends of all functions, by the table of the header.
pub(crate) fn functions(sections: &Sections) -> Vec<std::ops::Range<u64>> {
    let table = UnwindTable::new(sections.clone());
    let mut scratch = vmc_unwind::Scratch::new();
    let header = &sections.eh_frame_hdr;
    let starts = header.bytes[12..].chunks_exact(8).map(|entry| {
        let start = i32::from_le_bytes(entry[..4].try_into().unwrap());
        header.address.wrapping_add_signed(i64::from(start))
    });
    starts.filter_map(|start| Some(table.row_for(start, &mut scratch).ok()?.function)).collect()
}

/// `rounds`, times `VMC_FUZZ` where that is set: for a longer search by hand.
pub(crate) fn times(rounds: usize) -> std::ops::Range<usize> {
    let factor = std::env::var("VMC_FUZZ").ok().and_then(|factor| factor.parse().ok());
    0..rounds * factor.unwrap_or(1)
}

/// A small deterministic generator (xorshift), so that a failure can be seen again.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

/// Says that a test is skipped and why; where everything has to run (`VMC_REQUIRE_ALL`, set by `.ci/run`) that is a failure.
pub(crate) fn skip(why: &str) {
    assert!(std::env::var_os("VMC_REQUIRE_ALL").is_none(), "cannot be skipped here: {why}");
    // Past the runner's capture, which shows nothing of a test that passes.
    let thread = std::thread::current();
    let _ = writeln!(std::io::stderr(), "test {} skipped: {why}", thread.name().unwrap_or("?"));
}

/// Makes the program stop at its start, traced by this thread.
#[allow(unsafe_code, reason = "a hook between fork and exec is unsafe; see SAFETY below")]
pub(crate) fn trace_me(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt;
    // SAFETY: the hook makes one system call and touches no memory, as code after a fork has to.
    unsafe {
        command.pre_exec(|| nix::sys::ptrace::traceme().map_err(std::io::Error::from));
    }
}
