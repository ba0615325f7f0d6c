//! ELF cores of whole machines, as QEMU's `dump-guest-memory` and `virsh dump --memory-only` write them.
//!
//! Loadable segments say by `p_paddr` which physical memory they hold (QEMU `docs/interop`, `dump/dump.c`); notes named
//! `QEMU` hold the vCPUs' registers in the machine's order; on aarch64 those of
//! type NT_PRSTATUS do. What `p_memsz` has beyond `p_filesz` was left out when the core was
//! made (`makedumpfile -E`, QEMU's `begin` and `length`): it is said to be missing, not taken for zeros. More than 65 534 program
//! headers are counted by the first section header (`PN_XNUM`, ELF gABI).

use std::path::Path;

use object::LittleEndian;
use object::elf::{EM_AARCH64, EM_X86_64, ET_CORE, FileHeader64, NT_PRSTATUS, PT_LOAD, PT_NOTE};
use object::read::elf::{FileHeader as _, ProgramHeader as _};
use vmc::{Architecture, PhysAddr, Registers};

use crate::error::OpenError;
use crate::prstatus;
use crate::qemu_note;
use crate::segments::Segment;

/// What an ELF core says.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) architecture: Architecture,
    pub(crate) segments: Vec<Segment>,
    pub(crate) vcpus: Vec<Registers>,
    pub(crate) warnings: Vec<String>,
}

/// A machine has at most this many vCPUs here: QEMU's largest machine type has 4096.
const MOST_VCPUS: usize = 8192;
/// Notes that are gone through for their own sake: some for each vCPU.
const MOST_NOTES: usize = 1 << 17;

/// Reads the headers and notes of the core in `file`.
pub(crate) fn parse(path: &Path, file: &[u8]) -> Result<Core, OpenError> {
    let bad = |reason| OpenError::BadCore { path: path.to_path_buf(), reason };
    let header = FileHeader64::<LittleEndian>::parse(file)
        .map_err(|_| bad("its header is cut short or not of 64-bit ELF"))?;
    let endian = header.endian().map_err(|_| bad("it is big-endian"))?;
    if header.e_type(endian) != ET_CORE {
        return Err(OpenError::Unsupported {
            path: path.to_path_buf(),
            found: "an ELF program, library or object",
            advice: "give a core of a whole machine (dump-guest-memory)",
        });
    }
    let architecture = match header.e_machine(endian) {
        EM_X86_64 => Architecture::X86_64,
        EM_AARCH64 => Architecture::Aarch64,
        machine => return Err(OpenError::Machine { path: path.to_path_buf(), machine: machine.0 }),
    };
    let headers = header.program_headers(endian, file).map_err(|_| bad("its program headers are cut off"))?;
    let mut core = Core { architecture, segments: Vec::new(), vcpus: Vec::new(), warnings: Vec::new() };
    let mut needed = 0u64;
    // Where in the file segments at physical address 0 lie: those of a process all have it. One that lies where another does
    // is the same memory at other virtual addresses.
    let mut at_zero = None;
    let mut process = false;
    for segment in headers {
        let offset = segment.p_offset(endian);
        let held = segment.p_filesz(endian);
        let len = segment.p_memsz(endian).max(held);
        match segment.p_type(endian) {
            PT_LOAD if len > 0 => {
                if held > 0 {
                    needed = needed.max(offset.saturating_add(held));
                    if segment.p_paddr(endian) == 0 {
                        process |= at_zero.is_some_and(|other| other != offset);
                        at_zero = Some(offset);
                    }
                }
                core.segments.push(Segment {
                    start: PhysAddr::new(segment.p_paddr(endian)),
                    len,
                    held,
                    offset,
                });
            }
            PT_NOTE => notes(segment, endian, file, &mut core),
            _ => {}
        }
    }
    if needed == 0 {
        return Err(bad("no loadable segment of it holds memory"));
    }
    if process {
        return Err(OpenError::Unsupported {
            path: path.to_path_buf(),
            found: "a core of one process",
            advice: "give a core of a whole machine (dump-guest-memory)",
        });
    }
    let have = file.len() as u64;
    if needed > have {
        core.warnings
            .push(format!("the image is cut short: its headers name {needed} bytes, the file has {have}"));
    }
    Ok(core)
}

/// The notes of the core in `file`, as far as they can be read: names, types and descriptions.
pub(crate) fn all_notes(file: &[u8]) -> Vec<(&[u8], u32, &[u8])> {
    let mut found = Vec::new();
    let Ok(header) = FileHeader64::<LittleEndian>::parse(file) else { return found };
    let Ok(endian) = header.endian() else { return found };
    for segment in header.program_headers(endian, file).unwrap_or_default() {
        let Ok(Some(mut notes)) = segment.notes(endian, file) else { continue };
        while let Ok(Some(note)) = notes.next() {
            if found.len() == MOST_NOTES {
                return found;
            }
            found.push((note.name(), note.n_type(endian).0, note.desc()));
        }
    }
    found
}

fn notes(
    segment: &object::elf::ProgramHeader64<LittleEndian>,
    endian: LittleEndian,
    file: &[u8],
    core: &mut Core,
) {
    let Ok(Some(mut notes)) = segment.notes(endian, file) else {
        core.warnings.push("the notes are cut off: no registers".to_owned());
        return;
    };
    loop {
        match notes.next() {
            Ok(Some(note)) if note.name() == b"QEMU" && core.architecture == Architecture::X86_64 => {
                match qemu_note::registers(note.desc()) {
                    Some(registers) if core.vcpus.len() < MOST_VCPUS => {
                        core.vcpus.push(Registers::X86_64(registers));
                    }
                    _ => core
                        .warnings
                        .push("a QEMU note is not of the known version: its vCPU is left out".to_owned()),
                }
            }
            Ok(Some(note))
                if core.architecture == Architecture::Aarch64
                    && note.name() == b"CORE"
                    && note.n_type(endian) == NT_PRSTATUS =>
            {
                match prstatus::registers(note.desc()) {
                    Some(registers) if core.vcpus.len() < MOST_VCPUS => {
                        core.vcpus.push(Registers::Aarch64(registers));
                    }
                    _ => core
                        .warnings
                        .push("an NT_PRSTATUS note is too short: its vCPU is left out".to_owned()),
                }
            }
            Ok(Some(_)) => {}
            Ok(None) => return,
            Err(_) => {
                core.warnings.push("the notes are damaged: registers may be missing".to_owned());
                return;
            }
        }
    }
}
