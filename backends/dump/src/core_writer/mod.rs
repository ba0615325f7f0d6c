//! ELF cores, written: of any memory, with the registers of its vCPUs, for vmc, gdb, crash and drgn.
//!
//! The form is that of the kernel's `/proc/vmcore` and of QEMU's `dump-guest-memory`: a note segment, then a loadable segment for
//! each run of memory with its physical address (`p_paddr`) and the virtual one at which the kernel has it (`p_vaddr`), and one for
//! the kernel's image at its own addresses. The image is not held twice: both segments name the same part of the file. Zeros are
//! holes.

mod copy;
mod headers;
mod new_file;
mod notes;

use std::fmt;
use std::fs::File;
use std::io;

use vmc::{Architecture, PhysError, PhysMemory, Region, Registers, VirtAddr};

pub use copy::Unread;
pub use new_file::NewFile;

use crate::sparse::{Budget, SparseWriter};
use copy::Copy;
use headers::Load;
use notes::Notes;

/// Memory begins at a multiple of this in the file, so that pages of zeros can be holes.
const ALIGNMENT: u64 = 4096;

/// Why a core could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The system does not write.
    #[error("it cannot be written after {done} bytes: {source}")]
    Io {
        /// How many bytes of it there were, holes among them.
        done: u64,
        /// What the system says.
        source: io::Error,
    },
    /// The disk has too little room left.
    #[error("the disk is full: after {done} bytes only {free} are left free on it")]
    NoSpace {
        /// How many bytes of it there were, holes among them.
        done: u64,
        /// How many bytes are free.
        free: u64,
    },
    /// There is more memory than a file can hold.
    #[error("its memory is larger than a file can be")]
    TooLarge,
    /// Reads that gave nothing took too long.
    #[error("reading took {seconds} s and gave nothing: {source}")]
    Silent {
        /// How long was waited.
        seconds: u64,
        /// What the last of them said.
        source: PhysError,
    },
}

impl WriteError {
    fn of(why: Budget, done: u64) -> Self {
        match why {
            Budget::TooLarge => Self::TooLarge,
            Budget::NoSpace { free } => Self::NoSpace { done, free },
            Budget::Write(source) => Self::Io { done, source },
        }
    }
}

/// A core to be written.
///
/// ```
/// use vmc::{Architecture, PhysAddr, PhysMemory, memory::FlatMemory};
/// use vmc_dump::{CoreWriter, Image, NewFile};
///
/// let path = std::env::temp_dir().join(format!("vmc-doc-core-{}", std::process::id()));
/// let ram = [7; 8192];
/// let memory = FlatMemory::new(PhysAddr::new(0x10_0000), &ram);
///
/// let new = NewFile::create(&path, false)?;
/// let written = CoreWriter::new(&memory, Architecture::X86_64).write(new.file(), &mut |_| ())?;
/// assert_eq!(written.bytes, 0);
/// new.keep()?;
/// assert_eq!(Image::open(&path)?.regions(), memory.regions());
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct CoreWriter<'m> {
    memory: &'m dyn PhysMemory,
    architecture: Architecture,
    notes: Notes,
    regions: Vec<(Region, VirtAddr)>,
    /// Runs of memory that lie at other virtual addresses too.
    also: Vec<(Region, VirtAddr)>,
}

impl fmt::Debug for CoreWriter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CoreWriter")
            .field("architecture", &self.architecture)
            .field("regions", &self.regions)
            .field("also", &self.also)
            .finish_non_exhaustive()
    }
}

impl<'m> CoreWriter<'m> {
    /// A core of `memory`, whose virtual addresses are the physical ones until they are [told](Self::place).
    #[must_use]
    pub fn new(memory: &'m dyn PhysMemory, architecture: Architecture) -> Self {
        let regions = memory.regions().iter().filter(|region| region.len > 0);
        Self {
            memory,
            architecture,
            notes: Notes::default(),
            regions: regions.map(|region| (*region, VirtAddr::new(region.start.get()))).collect(),
            also: Vec::new(),
        }
    }

    /// Adds a note. It is left out, and `false` said, where there are more than 64 MiB of them.
    pub fn note(&mut self, name: &[u8], kind: u32, description: &[u8]) -> bool {
        self.notes.add(name, kind, description)
    }

    /// Adds the registers of the vCPU with this number, each vCPU once and in their order. What debuggers want to know of a vCPU and
    /// `registers` do not tell is zero.
    pub fn vcpu(&mut self, index: usize, registers: &Registers) -> bool {
        self.notes.vcpu(index, registers)
    }

    /// Says at which virtual address each run of memory lies, for those where `place` knows it.
    pub fn place(&mut self, mut place: impl FnMut(Region) -> Option<VirtAddr>) {
        for (region, virt) in &mut self.regions {
            *virt = place(*region).unwrap_or(*virt);
        }
    }

    /// Says that `run` lies at `virt` as well: the kernel's image.
    pub fn also_at(&mut self, run: Region, virt: VirtAddr) {
        self.also.push((run, virt));
    }

    /// The bytes of memory that are written.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.regions.iter().fold(0, |sum, (region, _)| sum.saturating_add(region.len))
    }

    /// Writes it into the empty `file`; calls `told` with the bytes of memory of each part. What of memory could not be read.
    ///
    /// # Errors
    /// [`WriteError`]; what is in the file then is of no use.
    pub fn write(&self, file: &File, told: &mut dyn FnMut(u64)) -> Result<Unread, WriteError> {
        let notes = self.notes.finish();
        let loads = self.loads(notes.len() as u64).ok_or(WriteError::TooLarge)?;
        let mut head = headers::encode(self.architecture, &loads, notes.len() as u64);
        head.extend(notes);
        let mut writer = SparseWriter::new(file, i64::MAX.cast_unsigned());
        let mut copy = Copy::of(self.memory);
        writer.write(&head).map_err(|why| WriteError::of(why, 0))?;
        for (load, (region, _)) in loads.iter().zip(&self.regions) {
            let done = writer.position();
            writer.skip(load.offset.saturating_sub(done)).map_err(|why| WriteError::of(why, done))?;
            copy.region(*region, &mut writer, told)?;
        }
        let done = writer.position();
        writer.finish().map_err(|source| WriteError::Io { done, source })?;
        Ok(copy.unread())
    }

    /// Where each run lies in the file, those first that are written.
    fn loads(&self, notes_len: u64) -> Option<Vec<Load>> {
        let mut also = Vec::new();
        for (run, virt) in &self.also {
            for (index, (region, _)) in self.regions.iter().enumerate() {
                let start = run.start.max(region.start);
                let end = run.end().min(region.end());
                if let Some(len) = end.offset_from(start).filter(|len| *len > 0) {
                    let virt = virt.wrapping_add(start.offset_from(run.start)?);
                    also.push((
                        index,
                        start.offset_from(region.start)?,
                        Load { offset: 0, virt: virt.get(), physical: start.get(), len },
                    ));
                }
            }
        }
        let count = self.regions.len().checked_add(also.len())? as u64;
        let mut at = headers::len(count).checked_add(notes_len)?;
        let mut loads = Vec::with_capacity(self.regions.len() + also.len());
        for (region, virt) in &self.regions {
            let offset =
                at.checked_next_multiple_of(ALIGNMENT)?.checked_add(region.start.offset_in(ALIGNMENT))?;
            loads.push(Load { offset, virt: virt.get(), physical: region.start.get(), len: region.len });
            at = offset.checked_add(region.len)?;
        }
        for (index, into, load) in also {
            let offset = loads.get(index)?.offset.checked_add(into)?;
            loads.push(Load { offset, ..load });
        }
        Some(loads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmc::PhysAddr;
    use vmc::memory::FlatMemory;

    #[test]
    fn memory_that_no_file_holds_is_refused() {
        struct Huge(Vec<Region>);
        impl PhysMemory for Huge {
            fn regions(&self) -> &[Region] {
                &self.0
            }
            fn read(&self, addr: PhysAddr, buf: &mut [u8]) -> Result<(), PhysError> {
                Err(PhysError::NoMemory { addr, len: buf.len() })
            }
        }
        let start = PhysAddr::new(0);
        let memory = Huge(vec![Region { start, len: u64::MAX }, Region { start, len: u64::MAX }]);
        let core = CoreWriter::new(&memory, Architecture::X86_64);
        assert!(core.loads(0).is_none());
    }

    #[test]
    fn a_run_at_other_addresses_shares_the_files_bytes() {
        let bytes = vec![1; 0x5000];
        let memory = FlatMemory::new(PhysAddr::new(0x1_0100), &bytes);
        let mut core = CoreWriter::new(&memory, Architecture::X86_64);
        core.place(|region| Some(VirtAddr::new(0xffff_8880_0000_0000).wrapping_add(region.start.get())));
        // It begins before the memory and ends behind it.
        let run = Region { start: PhysAddr::new(0x1_0000), len: 0x1_0000 };
        core.also_at(run, VirtAddr::new(0xffff_ffff_8100_0000));
        core.also_at(Region { start: PhysAddr::new(0x9_0000), len: 4096 }, VirtAddr::new(1));
        let [ram, image] = core.loads(20).unwrap().try_into().unwrap();
        assert_eq!((ram.offset, ram.virt, ram.len), (0x1100, 0xffff_8880_0001_0100, 0x5000));
        assert_eq!((image.offset, image.virt, image.len), (0x1100, 0xffff_ffff_8100_0100, 0x5000));
        assert_eq!(image.physical, 0x1_0100);
    }
}
