//! What an earlier boot left in memory is not taken for the living kernel, where no registers tell.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "tests may panic")]

mod common;

use std::collections::BTreeMap;

use common::image;
use vmc::vcpu::NoVcpus;
use vmc::{PhysAddr, PhysError, PhysMemory, Region, VirtAddr};
use vmc_dump::Image;
use vmc_linux::{Linux, LinuxError};

const PAGE: u64 = 4096;
const START_KERNEL_MAP: u64 = 0xffff_ffff_8000_0000;

/// The sample with whole pages replaced.
struct Overlay {
    image: Image,
    pages: BTreeMap<u64, Vec<u8>>,
}

impl PhysMemory for Overlay {
    fn regions(&self) -> &[Region] {
        self.image.regions()
    }

    fn read(&self, addr: PhysAddr, buf: &mut [u8]) -> Result<(), PhysError> {
        self.image.read(addr, buf)?;
        let end = addr.get() + buf.len() as u64;
        for (page, bytes) in self.pages.range(addr.get() & !(PAGE - 1)..end) {
            for (at, byte) in (*page..).zip(bytes).filter(|(at, _)| (addr.get()..end).contains(at)) {
                buf[(at - addr.get()) as usize] = *byte;
            }
        }
        Ok(())
    }
}

fn put(page: &mut [u8], index: u64, entry: u64) {
    page[index as usize * 8..][..8].copy_from_slice(&entry.to_le_bytes());
}

/// The remains of a boot with another offset, as they were seen in a machine that was reset: its VMCOREINFO and its upper page
/// tables are whole, and the tables below them serve the living kernel now. `distance` is how far its image lay from the
/// living one's. No trampoline tells which is which.
fn with_remains(distance: u64) -> Overlay {
    let image = image();
    let mut pages: BTreeMap<u64, Vec<u8>> =
        (0..256).map(|page| (page * PAGE, vec![0; PAGE as usize])).collect();
    {
        let linux = Linux::open(&image, &image).unwrap();
        let info = linux.identity().vmcoreinfo.as_ref().unwrap();
        let read = |at: u64| image.read_u64(PhysAddr::new(at)).unwrap();
        // Where the pages of the forged tables lie is of no account: in the first megabyte, but for the root, which has to
        // lie in the image of old.
        let swapper = info.symbol("swapper_pg_dir").unwrap().get();
        let phys_base = info.number("phys_base").unwrap().cast_unsigned();
        let old_root = (swapper - START_KERNEL_MAP).wrapping_add(phys_base).wrapping_add(distance);
        let walk = linux.space().walk(VirtAddr::new(swapper)).unwrap();
        let entry = walk.entries().iter().find(|entry| entry.level == 2).unwrap();
        let (upper, middle) = (0x10_000, 0x11_000);
        let mut table = vec![0; PAGE as usize];
        put(&mut table, 511, upper | 0x67);
        pages.insert(old_root, table);
        let mut table = vec![0; PAGE as usize];
        put(&mut table, 510, middle | 0x63);
        pages.insert(upper, table);
        let mut table = vec![0; PAGE as usize];
        let middle_of_living = entry.at.get() & !(PAGE - 1);
        let stext = info.symbol("_stext").unwrap().get();
        for slot in 0..512 {
            let mut entry = read(middle_of_living + slot * 8);
            // Its code is where it was; everything else leads where the tables lead now.
            if slot == (stext >> 21) & 511 {
                entry = entry.wrapping_add(distance);
            }
            put(&mut table, slot, entry);
        }
        pages.insert(middle, table);
        let text = info.text().replace(
            &format!("NUMBER(phys_base)={}", phys_base.cast_signed()),
            &format!("NUMBER(phys_base)={}", phys_base.wrapping_add(distance).cast_signed()),
        );
        assert_ne!(text, info.text());
        let mut page = text.into_bytes();
        page.resize(PAGE as usize, 0);
        pages.insert(0x2000, page);
    }
    Overlay { image, pages }
}

#[test]
fn remains_of_an_earlier_boot_are_passed_over() {
    let truth = common::truth();
    for distance in [4 << 20, 32 << 20] {
        let memory = with_remains(distance);
        let linux = Linux::open(&memory, &NoVcpus).unwrap();
        let stext = common::number(&truth["symbols"]["_stext"]);
        assert_eq!(linux.space().translate(VirtAddr::new(stext)), Ok(living_text(&memory.image)));
        let tasks = linux.processes().unwrap().map(Result::unwrap).count();
        assert_eq!(tasks, truth["processes"].as_array().unwrap().len());
    }
}

/// Where the code of the kernel lies that the vCPUs run.
fn living_text(image: &Image) -> PhysAddr {
    let linux = Linux::open(image, image).unwrap();
    linux.space().translate(linux.identity().stext).unwrap()
}

/// The remains alone: they are no kernel, and that is said.
#[test]
fn remains_alone_are_no_kernel() {
    let mut memory = with_remains(4 << 20);
    let living: Vec<u64> = memory
        .image
        .regions()
        .iter()
        .flat_map(|region| (region.start.get()..region.end().get()).step_by(PAGE as usize))
        .filter(|page| {
            let mut start = [0; 10];
            memory.image.read(PhysAddr::new(*page), &mut start).is_ok() && &start == b"OSRELEASE="
        })
        .collect();
    for page in living {
        memory.pages.insert(page, vec![0; PAGE as usize]);
    }
    match Linux::open(&memory, &NoVcpus) {
        Err(LinuxError::NotVerified { count: 1, reason }) => {
            assert!(reason.contains("its image"), "{reason}")
        }
        other => panic!("{other:?}"),
    }
}
