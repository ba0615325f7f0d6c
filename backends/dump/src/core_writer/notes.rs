//! The notes of a core: registers, what the kernel says of itself, and what another core's notes were.
//!
//! A note is three 32-bit words (length of the name with its NUL, length of the description, type), the name and the description,
//! each filled up to a multiple of four (ELF gABI; 64-bit cores have it no other way).

use object::elf::NT_PRSTATUS;
use vmc::Registers;

use crate::{prstatus, prstatus_x86_64, qemu_note};

/// The most that notes may have: 8192 vCPUs take 8 MiB.
const MOST: usize = 64 << 20;

/// Notes, as they are written.
#[derive(Debug, Default)]
pub(super) struct Notes {
    bytes: Vec<u8>,
    /// Registers of x86_64 in QEMU's form: they come behind those in the general one, as QEMU has them.
    qemu: Vec<u8>,
}

impl Notes {
    /// Adds a note. Nothing is added, and `false` said, where there are far too many.
    pub(super) fn add(&mut self, name: &[u8], kind: u32, description: &[u8]) -> bool {
        push(&mut self.bytes, name, kind, description)
    }

    /// Adds the registers of the vCPU with this number.
    pub(super) fn vcpu(&mut self, index: usize, registers: &Registers) -> bool {
        // As QEMU numbers them: debuggers take this for a thread's number, and 0 is none.
        let thread = u32::try_from(index).unwrap_or(u32::MAX).saturating_add(1);
        match registers {
            Registers::X86_64(registers) => {
                let status = prstatus_x86_64::description(thread, registers);
                let state = qemu_note::description(registers);
                push(&mut self.bytes, b"CORE", NT_PRSTATUS.0, &status)
                    && push(&mut self.qemu, b"QEMU", 0, &state)
            }
            Registers::Aarch64(registers) => {
                push(&mut self.bytes, b"CORE", NT_PRSTATUS.0, &prstatus::description(thread, registers))
            }
            _ => false,
        }
    }

    /// All of them.
    pub(super) fn finish(&self) -> Vec<u8> {
        [self.bytes.as_slice(), &self.qemu].concat()
    }
}

fn push(bytes: &mut Vec<u8>, name: &[u8], kind: u32, description: &[u8]) -> bool {
    let len = name.len().saturating_add(description.len()).saturating_add(bytes.len());
    if len > MOST {
        return false;
    }
    for word in [name.len() as u32 + 1, description.len() as u32, kind] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend(name);
    bytes.push(0);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend(description);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_descriptions_are_filled_up() {
        let mut notes = Notes::default();
        assert!(notes.add(b"CORE", 1, b"12345") && notes.add(b"abc", 2, b""));
        assert_eq!(
            notes.finish(),
            b"\x05\0\0\0\x05\0\0\0\x01\0\0\0CORE\0\0\0\x0012345\0\0\0\x04\0\0\0\0\0\0\0\x02\0\0\0abc\0"
        );
        assert!(!notes.add(b"x", 0, &vec![0; MOST]));
    }
}
