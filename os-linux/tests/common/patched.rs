//! The sample guest with single words changed.

use vmc::layout::Types;
use vmc::{PhysAddr, PhysError, PhysMemory, Region, VirtAddr};
use vmc_dump::Image;
use vmc_linux::{Linux, Task};

use super::image;

/// An image with some words replaced.
pub(crate) struct Patched {
    pub(crate) image: Image,
    pub(crate) words: Vec<(u64, u64)>,
}

impl PhysMemory for Patched {
    fn regions(&self) -> &[Region] {
        self.image.regions()
    }

    fn read(&self, addr: PhysAddr, buf: &mut [u8]) -> Result<(), PhysError> {
        self.image.read(addr, buf)?;
        for (at, word) in &self.words {
            for (index, byte) in word.to_le_bytes().iter().enumerate() {
                let place = (at + index as u64).checked_sub(addr.get()).map(|place| place as usize);
                if let Some(slot) = place.and_then(|place| buf.get_mut(place)) {
                    *slot = *byte;
                }
            }
        }
        Ok(())
    }

    fn slice(&self, addr: PhysAddr, len: usize) -> Option<&[u8]> {
        let end = addr.get() + len as u64;
        let clean = self.words.iter().all(|(at, _)| at + 8 <= addr.get() || *at >= end);
        clean.then(|| self.image.slice(addr, len)).flatten()
    }
}

/// The address of a member of a structure.
pub(crate) fn member(linux: &Linux<'_>, structure: &str, path: &str, base: VirtAddr) -> VirtAddr {
    base.wrapping_add(linux.types().member(structure, path).unwrap().offset)
}

/// The process of this name.
pub(crate) fn named<'k, 'm>(linux: &'k Linux<'m>, name: &str) -> Task<'k, 'm> {
    linux.processes().unwrap().map(Result::unwrap).find(|task| task.name().unwrap() == name).unwrap()
}

/// The sample with the word at the virtual address that `find` gives replaced by what it gives.
pub(crate) fn patched(find: impl FnOnce(&Linux<'_>) -> (VirtAddr, u64)) -> Patched {
    patched_words(|linux| vec![find(linux)])
}

/// The same, with several words.
pub(crate) fn patched_words(find: impl FnOnce(&Linux<'_>) -> Vec<(VirtAddr, u64)>) -> Patched {
    let image = image();
    let words = {
        let linux = Linux::open(&image, &image).unwrap();
        let physical = |at| linux.space().translate(at).unwrap().get();
        find(&linux).into_iter().map(|(at, word)| (physical(at), word)).collect()
    };
    Patched { image, words }
}

/// The guest in it.
pub(crate) fn open(patched: &Patched) -> Linux<'_> {
    Linux::open(patched, &patched.image).unwrap()
}
