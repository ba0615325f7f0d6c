//! What `info registers` does not tell of x86_64: the GS base that the kernel keeps while a program runs.
//!
//! QEMU writes it into a dump's `QEMU` notes.
//!
//! Source: the ELF specification for headers and notes; `target/i386/arch_dump.c` of QEMU for the note: two 32-bit words
//! (version 1, size), 16 general registers, rip, rflags, ten segments of 24 bytes, cr0 to cr4, kernel_gs_base (5.0 and later).

use vmc::bytes::{u32_at, u64_at};

use crate::connection::Connection;
use crate::error::CommandError;
use crate::part::Part;

const PAGE: u64 = 4096;
const RIP: usize = 8 + 16 * 8;
const CR3: usize = RIP + 2 * 8 + 10 * 24 + 3 * 8;
const KERNEL_GS_BASE: usize = CR3 + 2 * 8;

/// A vCPU's note.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) rip: u64,
    pub(crate) cr3: u64,
    pub(crate) kernel_gs_base: u64,
}

/// The notes of all vCPUs of a guest that stands still; `page` is the address of one that the guest has.
pub(crate) fn ask(connection: &mut Connection, page: u64) -> Result<Vec<Note>, CommandError> {
    let part = Part::ask(connection, page, PAGE)?;
    parse(&part).ok_or_else(|| CommandError::Answer {
        peer: connection.peer().to_owned(),
        command: "dump-guest-memory",
        what: "it has no notes of the vCPUs".to_owned(),
    })
}

/// The notes of a core.
fn parse(part: &Part) -> Option<Vec<Note>> {
    let mut rest = part.notes()?;
    let mut notes = Vec::new();
    while let Some((name, description, behind)) = next(rest) {
        if name == b"QEMU\0" {
            notes.push(note(description)?);
        }
        rest = behind;
    }
    Some(notes)
}

/// A note's name and description, and what is behind it.
fn next(notes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (name_len, len) = (u32_at(notes, 0)? as usize, u32_at(notes, 4)? as usize);
    let (name, rest) = notes.get(12..)?.split_at_checked(name_len)?;
    let rest = rest.get(name_len.next_multiple_of(4) - name_len..)?;
    let (description, rest) = rest.split_at_checked(len)?;
    Some((name, description, rest.get(len.next_multiple_of(4) - len..).unwrap_or_default()))
}

fn note(description: &[u8]) -> Option<Note> {
    let size = u32_at(description, 4)? as usize;
    let description = description.get(..size).filter(|note| u32_at(note, 0) == Some(1))?;
    let word = |at| u64_at(description, at);
    Some(Note { rip: word(RIP)?, cr3: word(CR3)?, kernel_gs_base: word(KERNEL_GS_BASE)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A core with a header for memory, one for notes, and per vCPU a note of another kind and QEMU's.
    fn core(vcpus: &[(u64, u64, u64)]) -> Vec<u8> {
        let mut notes = Vec::new();
        let mut add = |name: &[u8], description: &[u8]| {
            let sizes = [name.len() as u32, description.len() as u32, 0];
            notes.extend(sizes.iter().flat_map(|size| size.to_le_bytes()));
            notes.extend(name);
            notes.resize(notes.len().next_multiple_of(4), 0);
            notes.extend(description);
            notes.resize(notes.len().next_multiple_of(4), 0);
        };
        for (rip, cr3, gs) in vcpus {
            add(b"CORE\0", &[7; 13]);
            let mut words = [0u64; 55];
            words[0] = 1 | 440 << 32;
            (words[17], words[52], words[54]) = (*rip, *cr3, *gs);
            add(b"QEMU\0", &words.map(u64::to_le_bytes).concat());
        }
        let mut elf = vec![0; 64];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        elf[32..40].copy_from_slice(&64u64.to_le_bytes());
        elf[54..58].copy_from_slice(&[56, 0, 2, 0]);
        for (kind, start, len) in [(1u32, 0u64, 0u64), (4, 176, notes.len() as u64)] {
            let mut header = [0; 56];
            header[..4].copy_from_slice(&kind.to_le_bytes());
            header[8..16].copy_from_slice(&start.to_le_bytes());
            header[32..40].copy_from_slice(&len.to_le_bytes());
            elf.extend(header);
        }
        elf.extend(notes);
        elf
    }

    #[test]
    fn notes_are_found_among_others() {
        let notes = parse(&Part::of_bytes(&core(&[(1, 2, 3), (4, 5, 6)]))).unwrap();
        let of = |rip, cr3, kernel_gs_base| Note { rip, cr3, kernel_gs_base };
        assert_eq!(notes, [of(1, 2, 3), of(4, 5, 6)]);
    }

    #[test]
    fn damaged_cores_are_refused_wherever_they_are_cut() {
        let whole = core(&[(1, 2, 3), (4, 5, 6)]);
        for len in 0..whole.len() {
            assert!(parse(&Part::of_bytes(&whole[..len])).is_none_or(|notes| notes.len() < 2), "{len}");
        }
        // Every byte of the headers, made as wrong as can be.
        for at in 0..176 {
            let mut damaged = whole.clone();
            damaged[at] = 0xff;
            let _ = parse(&Part::of_bytes(&damaged));
        }
        // Before QEMU 5.0 the note ends before the kernel's GS.
        let mut old = core(&[(1, 2, 3)]);
        let at = old.windows(8).position(|word| word == (1u64 | 440 << 32).to_le_bytes()).unwrap();
        old[at + 4..at + 8].copy_from_slice(&432u32.to_le_bytes());
        assert_eq!(parse(&Part::of_bytes(&old)), None);
    }
}
