//! A program of the sample guest whose headers lead to no unwind information, and a debug file that has it.
//!
//! The oracle is the walk over the guest as it is, which `sample_guest.rs` holds against the guest's own word.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "tests may panic")]

mod common;

use common::image;
use vmc::view::{BuildId, DebugLink, FoundBy, Stack};
use vmc::{PhysAddr, PhysError, PhysMemory, ReadExt, Region, VirtAddr};
use vmc_dump::Image;
use vmc_linux::{AddressSpaceOf, DebugFiles, Linux, Task};
use vmc_unwind::{AddressSize, Cache, Section, Sections, eh_frame_address};

const PAGE: usize = 4096;
const PT_LOAD: u32 = 1;
const PT_GNU_EH_FRAME: u32 = 0x6474_e550;

/// An image with some pages replaced.
struct Patched {
    image: Image,
    pages: Vec<(u64, Vec<u8>)>,
}

impl PhysMemory for Patched {
    fn regions(&self) -> &[Region] {
        self.image.regions()
    }

    fn read(&self, addr: PhysAddr, buf: &mut [u8]) -> Result<(), PhysError> {
        self.image.read(addr, buf)?;
        for (at, page) in &self.pages {
            for (place, byte) in (*at..).zip(page) {
                let place = place.checked_sub(addr.get()).and_then(|place| buf.get_mut(place as usize));
                if let Some(slot) = place {
                    *slot = *byte;
                }
            }
        }
        Ok(())
    }
}

/// One debug file, and which were asked for.
struct OneFile {
    id: BuildId,
    sections: Sections,
    asked: Vec<BuildId>,
}

impl DebugFiles for OneFile {
    fn unwind_sections(&mut self, build_id: Option<&BuildId>, _: Option<&DebugLink>) -> Option<Sections> {
        self.asked.extend(build_id.cloned());
        (build_id == Some(&self.id)).then(|| self.sections.clone())
    }
}

fn deep<'k, 'm>(linux: &'k Linux<'m>) -> Task<'k, 'm> {
    linux.processes().unwrap().map(Result::unwrap).find(|task| task.name().unwrap() == "deep").unwrap()
}

/// A program header: type, address, size in memory.
fn program_headers(page: &[u8]) -> Vec<(usize, u32, u64, u64)> {
    let word = |at: usize| u64::from_le_bytes(page[at..at + 8].try_into().unwrap());
    let headers = (0..usize::from(page[0x38])).map(|index| 64 + index * 56);
    headers.map(|at| (at, word(at) as u32, word(at + 16), word(at + 40))).collect()
}

/// What the process has of a part of its program.
fn section(memory: &AddressSpaceOf<'_, '_>, base: VirtAddr, address: u64, len: u64) -> Section {
    let mut section = Section { address, ..Section::default() };
    for offset in 0..len {
        let at = base.wrapping_add(address + offset);
        match memory.read_value::<u8>(at) {
            Ok(byte) => section.bytes.push(byte),
            Err(_) => {
                section.bytes.push(0);
                section.missing.push(offset..offset + 1);
            }
        }
    }
    section
}

fn frames(stack: &Stack) -> Vec<(u64, FoundBy)> {
    stack.frames.iter().map(|frame| (frame.ip.get(), frame.found_by)).collect()
}

#[test]
fn a_debug_file_unwinds_what_brings_nothing_itself() {
    let image = image();
    let linux = Linux::open(&image, &image).unwrap();
    let task = deep(&linux);
    let expected = linux.stacks(&[task]).user_stack(&task, false, &mut Cache::new());
    assert!(expected.frames.iter().filter(|frame| frame.found_by == FoundBy::Cfi).count() > 40);

    // What its debug file would have; it is linked at 0.
    let memory = task.memory().unwrap();
    let program = memory.module_rows().into_iter().find(|row| row.name == "deep").unwrap();
    let page = memory.read_vec(program.base, PAGE as u64, PAGE).unwrap();
    let headers = program_headers(&page);
    let (place, _, address, len) = *headers.iter().find(|header| header.1 == PT_GNU_EH_FRAME).unwrap();
    let eh_frame_hdr = section(&memory, program.base, address, len);
    let start = eh_frame_address(&eh_frame_hdr, AddressSize::Eight).unwrap();
    let segment =
        headers.iter().find(|(_, kind, at, len)| *kind == PT_LOAD && (*at..at + len).contains(&start));
    let end = segment.map(|(_, _, at, len)| at + len).unwrap();
    let eh_frame = section(&memory, program.base, start, end - start);
    let sections = Sections { eh_frame_hdr, eh_frame, ..Sections::default() };

    // The program's first page, wherever it lies in memory: without that header, and without section headers.
    let mut bare = page.clone();
    bare[place] = 0;
    bare[0x3c..0x40].fill(0);
    let mut pages = Vec::new();
    for region in image.regions() {
        for at in (region.start.get()..region.start.get() + region.len).step_by(PAGE) {
            let mut found = [0; PAGE];
            if image.read(PhysAddr::new(at), &mut found).is_ok() && found == page[..] {
                pages.push((at, bare.clone()));
            }
        }
    }
    assert!(!pages.is_empty());
    let id = program.build_id.unwrap();
    let patched = Patched { image: common::image(), pages };
    let linux = Linux::open(&patched, &patched.image).unwrap();
    let task = deep(&linux);
    let alone = linux.stacks(&[task]).user_stack(&task, false, &mut Cache::new());
    assert_ne!(frames(&alone), frames(&expected));

    let mut files = OneFile { id: id.clone(), sections, asked: Vec::new() };
    let stack = linux.stacks_with(&[task], &mut files).user_stack(&task, false, &mut Cache::new());
    assert!(files.asked.contains(&id));
    assert_eq!(frames(&stack), frames(&expected));
    assert_eq!(stack.stop, expected.stop);

    // A file that makes no sense changes nothing for the worse.
    for noise in [vec![0xff; 64], vec![0; 64], (0..=255).collect()] {
        files.sections = Sections { debug_frame: Section::new(0, noise), ..Sections::default() };
        let stack = linux.stacks_with(&[task], &mut files).user_stack(&task, false, &mut Cache::new());
        assert_eq!(frames(&stack), frames(&alone));
    }
}
