//! The `QEMU` note of an x86_64 core: a vCPU's registers.
//!
//! Source: `target/i386/arch_dump.c` of QEMU, `struct QEMUCPUState` (version 1): two 32-bit words (version, size), rax, rbx,
//! rcx, rdx, rsi, rdi, rsp, rbp, r8 to r15, rip, rflags, ten segments of 24 bytes (selector, limit, flags, padding, base) in the
//! order cs ds es fs gs ss ldt tr gdt idt, cr0 to cr4, and, since QEMU 5.0, kernel_gs_base.

use vmc::arch::x86_64::Registers;
use vmc::bytes::{u16_at, u32_at, u64_at};

const GENERAL: usize = 8;
const RIP: usize = GENERAL + 16 * 8;
const SEGMENTS: usize = RIP + 2 * 8;
const CONTROL: usize = SEGMENTS + 10 * 24;
const KERNEL_GS_BASE: usize = CONTROL + 5 * 8;

/// The registers in a note's description, if it is of the known version.
pub(crate) fn registers(note: &[u8]) -> Option<Registers> {
    if u32_at(note, 0)? != 1 {
        return None;
    }
    let size = usize::try_from(u32_at(note, 4)?).ok()?;
    let note = note.get(..size)?;
    let general = |index: usize| u64_at(note, GENERAL + index * 8);
    let selector = |index: usize| u16_at(note, SEGMENTS + index * 24);
    let base = |index: usize| u64_at(note, SEGMENTS + index * 24 + 16);
    let control = |index: usize| u64_at(note, CONTROL + index * 8);
    // The note has rax rbx rcx rdx rsi rdi rsp rbp, DWARF rax rdx rcx rbx rsi rdi rbp rsp.
    let mut ordered = [0; 16];
    for (slot, index) in ordered.iter_mut().zip([0, 3, 2, 1, 4, 5, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15]) {
        *slot = general(index)?;
    }
    Some(Registers {
        general: ordered,
        rip: u64_at(note, RIP)?,
        rflags: u64_at(note, RIP + 8)?,
        cs: selector(0)?,
        ss: selector(5)?,
        fs_base: base(3)?,
        gs_base: base(4)?,
        kernel_gs_base: u64_at(note, KERNEL_GS_BASE),
        cr0: control(0)?,
        cr2: control(2)?,
        cr3: control(3)?,
        cr4: control(4)?,
    })
}

/// The same, written: a note's description. What the registers do not tell (limits and attributes of segments, the selectors of
/// those that 64-bit code does without, descriptor tables) is zero.
pub(crate) fn description(registers: &Registers) -> Vec<u8> {
    let size = if registers.kernel_gs_base.is_some() { KERNEL_GS_BASE + 8 } else { KERNEL_GS_BASE };
    let mut note = Vec::with_capacity(size);
    note.extend(1u32.to_le_bytes());
    note.extend((size as u32).to_le_bytes());
    let [rax, rdx, rcx, rbx, rsi, rdi, rbp, rsp, others @ ..] = registers.general;
    let first = [rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp];
    let mut word = |word: u64| note.extend(word.to_le_bytes());
    first.into_iter().chain(others).chain([registers.rip, registers.rflags]).for_each(&mut word);
    let none = (0, 0);
    let (fs, gs) = ((0, registers.fs_base), (0, registers.gs_base));
    let segments = [(registers.cs, 0), none, none, fs, gs, (registers.ss, 0), none, none, none, none];
    for (selector, base) in segments {
        [selector.into(), 0, base].into_iter().for_each(&mut word);
    }
    [registers.cr0, 0, registers.cr2, registers.cr3, registers.cr4].into_iter().for_each(&mut word);
    registers.kernel_gs_base.into_iter().for_each(&mut word);
    note
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A note in which each general register holds its place, segments their index, control registers 0x100 and so on.
    fn note(size: u32) -> Vec<u8> {
        let mut note = Vec::new();
        note.extend(1u32.to_le_bytes());
        note.extend(size.to_le_bytes());
        (0..18u64).for_each(|n| note.extend(n.to_le_bytes()));
        for n in 0..10u64 {
            note.extend((0x10 + n).to_le_bytes());
            note.extend(0u64.to_le_bytes());
            note.extend((0x1000 + n).to_le_bytes());
        }
        (0..6u64).for_each(|n| note.extend((0x100 + n).to_le_bytes()));
        note
    }

    #[test]
    fn each_register_comes_from_its_place() {
        let registers = registers(&note(440)).unwrap();
        // rax rdx rcx rbx rsi rdi rbp rsp
        assert_eq!(registers.general[..8], [0, 3, 2, 1, 4, 5, 7, 6]);
        assert_eq!((registers.rip, registers.rflags, registers.rsp()), (16, 17, 6));
        assert_eq!((registers.cs, registers.ss), (0x10, 0x15));
        assert_eq!((registers.fs_base, registers.gs_base), (0x1003, 0x1004));
        assert_eq!(
            (registers.cr0, registers.cr2, registers.cr3, registers.cr4),
            (0x100, 0x102, 0x103, 0x104)
        );
        assert_eq!(registers.kernel_gs_base, Some(0x105));
    }

    #[test]
    fn older_notes_lack_the_kernels_gs() {
        assert_eq!(registers(&note(432)).unwrap().kernel_gs_base, None);
    }

    #[test]
    fn what_is_written_is_read_as_the_same() {
        for size in [432, 440] {
            let note = note(size);
            let registers = registers(&note).unwrap();
            let written = description(&registers);
            assert_eq!(written.len(), size as usize);
            assert_eq!(super::registers(&written), Some(registers));
            // The general registers and flags, in front of the segments, are all known.
            assert_eq!(written[..SEGMENTS], note[..SEGMENTS]);
        }
    }

    #[test]
    fn short_and_unknown_notes_are_refused() {
        assert_eq!(registers(&note(440)[..200]), None);
        assert_eq!(registers(&note(100)), None);
        assert_eq!(registers(&[2; 440]), None);
        assert_eq!(registers(&[]), None);
    }
}
