//! Guests whose memory is encrypted, and those whose page tables bear AMD's mark, made of the sample.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic and tell what they saw"
)]

mod common;

use std::collections::BTreeSet;

use common::image;
use vmc::arch::x86_64::Registers as X86Registers;
use vmc::{PhysAddr, PhysError, PhysMemory, Region, Registers, VcpuError, Vcpus};
use vmc_dump::Image;
use vmc_linux::{Linux, LinuxError};

/// The sample as one sees it from outside of an encrypted guest: each eight bytes are mixed with a number of their own.
struct Encrypted(Image);

/// SplitMix64.
fn scrambled(place: u64) -> u64 {
    let mut x = place.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x1234_5678_9abc_def1);
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

impl PhysMemory for Encrypted {
    fn regions(&self) -> &[Region] {
        self.0.regions()
    }

    fn read(&self, addr: PhysAddr, buf: &mut [u8]) -> Result<(), PhysError> {
        self.0.read(addr, buf)?;
        for (at, byte) in (addr.get()..).zip(buf) {
            *byte ^= scrambled(at / 8).to_le_bytes()[(at % 8) as usize];
        }
        Ok(())
    }
}

/// The sample's vCPUs, each changed.
struct Changed<F>(Image, F);

impl<F: Fn(&mut X86Registers) + Sync> Vcpus for Changed<F> {
    fn count(&self) -> usize {
        self.0.count()
    }

    fn registers(&self, index: usize) -> Result<Registers, VcpuError> {
        let mut registers = self.0.registers(index)?;
        if let Registers::X86_64(registers) = &mut registers {
            (self.1)(registers);
        }
        Ok(registers)
    }
}

#[test]
fn an_encrypted_guest_is_said_to_be_one() {
    let memory = Encrypted(image());
    let vcpus = image();
    let why = Linux::open(&memory, &vcpus).unwrap_err();
    let Ok(Registers::X86_64(registers)) = vcpus.registers(0) else { panic!() };
    assert_eq!(why, LinuxError::Encrypted { root: PhysAddr::new(registers.page_table_root()) });
    let text = why.to_string();
    assert!(text.contains("holds no page table") && text.contains("encrypted (SEV, TDX)"), "{text}");
    // Paging off: a firmware's memory may be anything.
    let firmware = Changed(image(), |registers: &mut X86Registers| registers.cr0 &= !(1 << 31));
    assert!(matches!(Linux::open(&memory, &firmware), Err(LinuxError::NotFound { .. })));
    // No registers: nothing is known of page tables.
    assert!(matches!(Linux::open(&memory, &vmc::vcpu::NoVcpus), Err(LinuxError::NotFound { .. })));
    // Registers that lead nowhere, in memory that is not encrypted.
    let elsewhere = Changed(image(), |registers: &mut X86Registers| registers.cr3 = 0x7000);
    let plain = image();
    let found = Linux::open(&plain, &elsewhere).map(|linux| linux.identity().release.clone());
    assert!(found.is_ok(), "{found:?}");
}

const MARK: u64 = 1 << 47;

/// The sample with AMD's mark in all page table entries that lead on from its vCPUs' roots.
struct Marked {
    image: Image,
    tables: BTreeSet<u64>,
}

impl PhysMemory for Marked {
    fn regions(&self) -> &[Region] {
        self.image.regions()
    }

    fn read(&self, addr: PhysAddr, buf: &mut [u8]) -> Result<(), PhysError> {
        self.image.read(addr, buf)?;
        if self.tables.contains(&(addr.get() & !0xfff)) && addr.get().is_multiple_of(8) {
            for entry in buf.chunks_exact_mut(8) {
                let value = u64::from_le_bytes((&*entry).try_into().unwrap());
                if value & 1 == 1 {
                    entry.copy_from_slice(&(value | MARK).to_le_bytes());
                }
            }
        }
        Ok(())
    }
}

#[test]
fn marks_in_page_tables_are_no_addresses() {
    let plain = image();
    let expected = Linux::open(&plain, &plain).unwrap();
    let mut tables = BTreeSet::new();
    let mut open: Vec<(u64, u8)> = Vec::from([(expected.tables().root().get(), expected.tables().levels())]);
    for index in 0..plain.count() {
        let Ok(Registers::X86_64(registers)) = plain.registers(index) else { panic!() };
        open.push((registers.page_table_root(), expected.tables().levels()));
    }
    while let Some((table, level)) = open.pop() {
        if !tables.insert(table) || level == 1 {
            continue;
        }
        for slot in 0..512 {
            match plain.read_u64(PhysAddr::new(table + slot * 8)) {
                Ok(entry) if entry & 1 == 1 && entry & 0x80 == 0 => {
                    open.push((entry & 0x000f_ffff_ffff_f000, level - 1));
                }
                _ => {}
            }
        }
    }
    let marked = Marked { image: image(), tables };
    let vcpus = Changed(image(), |registers: &mut X86Registers| registers.cr3 |= MARK);
    let linux = Linux::open(&marked, &vcpus).unwrap();
    assert_eq!(linux.identity().release, expected.identity().release);
    let names = |linux: &Linux<'_>| -> Vec<_> {
        linux.processes().unwrap().map(|task| task.unwrap().process_row().command_line).collect()
    };
    assert_eq!(names(&linux), names(&expected));
    // VMCOREINFO denies the mark, so the kernel was found without it, and its symbols by their content.
    assert!(linux.identity().vmcoreinfo.is_none());
    assert_eq!(linux.kernel_symbols().table().len(), expected.kernel_symbols().table().len());
    assert_eq!(linux.tables().root(), expected.tables().root());
}
