//! A deep stack of real functions of a libc.

use std::sync::Arc;

use object::{Object, ObjectSection};
use vmc::{Fault, ReadError, VirtAddr, VirtualMemory};
use vmc_unwind::cfi::{CfaRule, RegisterRule};
use vmc_unwind::gimli::Register;
use vmc_unwind::{Scratch, Section, Sections, UnwindTable};

pub(crate) const BIAS: u64 = 0x7f12_3400_0000;
pub(crate) const STACK: u64 = 0x7ffc_1234_0000;
pub(crate) const FRAMES: usize = 70;

/// The stack, in one slice.
pub(crate) struct Flat(pub(crate) Vec<u64>);

impl VirtualMemory for Flat {
    #[inline]
    fn read(&self, addr: VirtAddr, buf: &mut [u8]) -> Result<(), ReadError> {
        let start = addr.get().wrapping_sub(STACK) as usize / 8;
        for (chunk, word) in buf.chunks_mut(8).zip(self.0.get(start..).unwrap_or_default()) {
            chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
        }
        Ok(())
    }

    #[inline]
    fn read_u64(&self, addr: VirtAddr) -> Result<u64, ReadError> {
        let word = self.0.get((addr.get().wrapping_sub(STACK) / 8) as usize);
        word.copied().ok_or_else(|| ReadError::new(addr, Fault::NotMapped))
    }
}

/// What differs between architectures.
pub(crate) struct Target {
    pub(crate) name: &'static str,
    /// A library of real functions.
    pub(crate) libc: &'static str,
    pub(crate) sp: Register,
    /// The return address' column.
    pub(crate) link: Register,
    /// How long an instruction is, at the least.
    pub(crate) step: u64,
}

pub(crate) struct Scene {
    pub(crate) sections: Sections,
    pub(crate) table: Arc<UnwindTable>,
    pub(crate) text: std::ops::Range<u64>,
    pub(crate) ip: u64,
    pub(crate) fp: u64,
    pub(crate) stack: Flat,
}

/// Lays out a stack of `FRAMES` frames: each in the middle of another function, with what it saved and where it returns.
pub(crate) fn scene(target: &Target) -> Option<Scene> {
    let file = std::fs::read(target.libc).ok()?;
    let object = object::read::elf::ElfFile64::<object::LittleEndian>::parse(&*file).ok()?;
    let section = |name| {
        let section = object.section_by_name(name).unwrap();
        Section::new(section.address(), section.data().unwrap().to_vec())
    };
    let text = object.section_by_name(".text")?;
    let sections = Sections {
        eh_frame_hdr: section(".eh_frame_hdr"),
        eh_frame: section(".eh_frame"),
        text: Some(text.address()),
        ..Sections::default()
    };
    let table = UnwindTable::new(sections.clone());
    let mut scratch = Scratch::new();
    let header = &sections.eh_frame_hdr;
    let mut frames = Vec::new();
    for entry in header.bytes[12..].chunks_exact(8) {
        let start =
            header.address.wrapping_add_signed(i32::from_le_bytes(entry[..4].try_into().unwrap()).into());
        let Ok(row) = table.row_for(start, &mut scratch) else { continue };
        let at = start + (row.function.end - start) * 2 / 3 / target.step * target.step;
        let Ok(row) = table.row_for(at - target.step, &mut scratch) else { continue };
        let CfaRule::RegisterAndOffset { register, offset: offset @ 16..1000 } = row.cfa else { continue };
        if register != target.sp {
            continue;
        }
        // What was popped already lies below the stack pointer, in the frame before.
        let inside = |rule| matches!(rule, RegisterRule::Offset(at) if at < 0 && -at <= offset);
        if inside(row.return_address) && row.registers().all(|(_, rule)| inside(rule)) {
            frames.push((at, row));
        }
    }
    let step = frames.len() / FRAMES;
    let chosen: Vec<_> = frames.into_iter().step_by(step).take(FRAMES).collect();
    let mut words = Vec::new();
    for (index, (_, row)) in chosen.iter().enumerate() {
        let CfaRule::RegisterAndOffset { offset, .. } = row.cfa else { panic!() };
        let base = words.len();
        words.resize(base + offset as usize / 8, 0u64);
        for (register, rule) in row.registers() {
            let RegisterRule::Offset(at) = rule else { panic!() };
            let place = (base as i64 + (offset + at) / 8) as usize;
            let caller = chosen.get(index + 1).map_or(0, |(at, _)| BIAS + at);
            words[place] = if register == target.link { caller } else { STACK + 8 };
        }
    }
    words.extend([0; 16]);
    // The innermost is looked up as it is: make that the byte whose row was taken.
    let ip = BIAS + chosen[0].0 - target.step;
    let table = Arc::new(table);
    let text = text.address()..text.address() + text.size();
    Some(Scene { sections, table, text, ip, fp: STACK + 8, stack: Flat(words) })
}
