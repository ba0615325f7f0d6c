//! The areas (`vm_area_struct`) of a process, from its maple tree (6.1 and later) or its list (before).

use alloc::vec::Vec;

use vmc::VirtAddr;

use crate::error::LinuxError;
use crate::kernel::Linux;
use crate::mm::maple;

/// `VM_READ`, `VM_WRITE`, `VM_EXEC`, `VM_MAYSHARE` (`include/linux/mm.h`).
const READ: u64 = 0x1;
const WRITE: u64 = 0x2;
const EXECUTE: u64 = 0x4;
const MAY_SHARE: u64 = 0x80;

/// An area of a process' memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Area {
    /// Its `vm_area_struct`.
    pub(crate) at: VirtAddr,
    pub(crate) start: VirtAddr,
    pub(crate) end: VirtAddr,
    flags: u64,
    /// Where in the file it begins, in bytes.
    pub(crate) offset: u64,
    /// Its `struct file`; null where there is none.
    pub(crate) file: VirtAddr,
    pub(crate) operations: VirtAddr,
    pub(crate) private_data: VirtAddr,
}

impl Area {
    fn read(linux: &Linux<'_>, at: VirtAddr) -> Result<Self, LinuxError> {
        let fields = linux.vma()?;
        let space = linux.space();
        let number =
            |field: vmc::layout::Field<u64>| field.read(space, at).map_err(LinuxError::read("a mapping"));
        let area = Self {
            at,
            start: VirtAddr::new(number(fields.start)?),
            end: VirtAddr::new(number(fields.end)?),
            flags: number(fields.flags)?,
            offset: number(fields.page_offset)?.wrapping_mul(linux.page_size()),
            file: VirtAddr::new(number(fields.file)?),
            operations: VirtAddr::new(number(fields.operations)?),
            private_data: VirtAddr::new(number(fields.private_data)?),
        };
        if area.start >= area.end {
            return Err(LinuxError::Broken { what: "a mapping", at, reason: "it ends before it begins" });
        }
        Ok(area)
    }

    pub(crate) fn contains(&self, address: VirtAddr) -> bool {
        self.start <= address && address < self.end
    }

    pub(crate) fn has_file(&self) -> bool {
        !self.file.is_null()
    }

    pub(crate) fn executable(&self) -> bool {
        self.flags & EXECUTE != 0
    }

    pub(crate) fn permissions(&self) -> vmc::view::Permissions {
        vmc::view::Permissions {
            read: self.flags & READ != 0,
            write: self.flags & WRITE != 0,
            execute: self.executable(),
            shared: self.flags & MAY_SHARE != 0,
        }
    }

    /// Where `address` lies in the file, in bytes.
    pub(crate) fn file_offset(&self, address: VirtAddr) -> Option<u64> {
        self.offset.checked_add(address.offset_from(self.start)?)
    }
}

/// The areas of the `mm_struct` at `mm`, ascending, as far as they can be read, and why no further.
pub(super) fn areas(linux: &Linux<'_>, mm: VirtAddr) -> Result<(Vec<Area>, Option<LinuxError>), LinuxError> {
    let fields = linux.mm()?;
    let read = LinuxError::read("the mappings");
    let mut found = Vec::new();
    let mut add = |at: VirtAddr| -> Result<(), LinuxError> {
        let area = Area::read(linux, at)?;
        if found.last().is_some_and(|last: &Area| last.end > area.start) {
            return Err(LinuxError::Broken {
                what: "the mappings",
                at,
                reason: "one begins before the last one ends",
            });
        }
        if found.len() >= linux.limits().mappings {
            return Err(LinuxError::Broken {
                what: "the mappings",
                at,
                reason: "there are more than the limit",
            });
        }
        found.push(area);
        Ok(())
    };
    let ended = if let Some(field) = fields.maple_root {
        let root = field.read(linux.space(), mm).map_err(read)?;
        maple::walk(linux, root, &mut add).err()
    } else if let (Some(first), Some(next)) = (fields.mmap, linux.vma()?.next) {
        let mut at = first.pointer(linux.space(), mm).map_err(&read)?;
        loop {
            if at.is_null() {
                break None;
            }
            // Ascending addresses make sure that a circle ends.
            if let Err(why) = add(at) {
                break Some(why);
            }
            match next.pointer(linux.space(), at) {
                Ok(next) => at = next,
                Err(source) => break Some(LinuxError::Read { what: "the mappings", source }),
            }
        }
    } else {
        return Err(vmc::layout::LayoutError::NoMember {
            structure: "mm_struct".into(),
            member: "mm_mt".into(),
        }
        .into());
    };
    Ok((found, ended))
}
