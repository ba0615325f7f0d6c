//! Mappings as rows, as `/proc/PID/maps` shows them.
//!
//! Source: `show_map_vma()` in `fs/proc/task_mmu.c`; special mappings in `mm/mmap.c`.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use vmc::layout::Types;
use vmc::text::lossless;
use vmc::view::{Mapping, Permissions, RowErrors};
use vmc::{ReadExt, VirtAddr};

use crate::error::LinuxError;
use crate::fs::FileFacts;
use crate::mm::{AddressSpaceOf, Area};

/// The legacy page for `gettimeofday` (`arch/x86/entry/vsyscall/vsyscall_64.c`).
const VSYSCALL: u64 = 0xffff_ffff_ff60_0000;
/// Its mode: emulated with a readable page, or with one that can only be executed.
const VSYSCALL_EMULATE: u32 = 0;
const VSYSCALL_EXECUTE_ONLY: u32 = 1;

/// What of an `mm_struct` gives mappings their names.
struct Landmarks {
    start_brk: u64,
    brk: u64,
    start_stack: u64,
    /// Does a mapping that only touches the heap's bounds count as the heap? (Until 6.6.)
    touching: bool,
}

impl AddressSpaceOf<'_, '_> {
    /// Its mappings as rows, and why they are not all, where they are not.
    ///
    /// # Errors
    /// [`LinuxError`] where nothing can be read.
    pub fn mapping_rows(&self) -> Result<(Vec<Mapping>, Option<LinuxError>), LinuxError> {
        let landmarks = self.landmarks()?;
        let (areas, ended) = self.areas();
        if areas.is_empty()
            && let Some(why) = ended
        {
            return Err(why.clone());
        }
        let mut rows: Vec<Mapping> = areas.iter().map(|area| self.row(area, &landmarks)).collect();
        rows.extend(self.vsyscall());
        Ok((rows, ended.clone()))
    }

    fn landmarks(&self) -> Result<Landmarks, LinuxError> {
        let fields = self.linux.mm()?;
        let number = |field: vmc::layout::Field<u64>| {
            field.read(self.linux.space(), self.mm).map_err(LinuxError::read("mm_struct"))
        };
        Ok(Landmarks {
            start_brk: number(fields.start_brk)?,
            brk: number(fields.brk)?,
            start_stack: number(fields.start_stack)?,
            // The comparison changed in 6.7, as did the list of threads.
            touching: self.linux.types().member("task_struct", "thread_group").is_ok(),
        })
    }

    fn row(&self, area: &Area, landmarks: &Landmarks) -> Mapping {
        let limits = self.linux.limits();
        let mut errors = RowErrors::default();
        let mut row = Mapping {
            start: area.start,
            end: area.end,
            permissions: area.permissions(),
            object: area.at,
            ..Mapping::default()
        };
        if area.has_file() {
            row.offset = area.offset;
            if let Some(FileFacts { device, inode }) =
                errors.keep(limits, "inode", self.linux.file_facts(area.file))
            {
                (row.device, row.inode) = (device, inode);
            }
            let path = self.linux.file_path(area.file);
            // seq_file escapes line ends there.
            row.path = errors.keep(limits, "path", path).map(|path| path.replace('\n', "\\012"));
        } else {
            row.path = errors.keep(limits, "name", self.name_without_file(area, landmarks)).flatten();
        }
        row.errors = errors;
        row
    }

    fn name_without_file(&self, area: &Area, landmarks: &Landmarks) -> Result<Option<String>, LinuxError> {
        if let Some(name) = self.special_name(area)? {
            return Ok(Some(name));
        }
        let (start, end) = (area.start.get(), area.end.get());
        let heap = if landmarks.touching {
            start <= landmarks.brk && end >= landmarks.start_brk
        } else {
            start < landmarks.brk && end > landmarks.start_brk
        };
        if heap {
            return Ok(Some("[heap]".into()));
        }
        if start <= landmarks.start_stack && end >= landmarks.start_stack {
            return Ok(Some("[stack]".into()));
        }
        self.given_name(area)
    }

    /// The name of a mapping that the kernel made: `[vdso]`, `[vvar]`.
    pub(crate) fn special_name(&self, area: &Area) -> Result<Option<String>, LinuxError> {
        let (Some(special), false) = (self.linux.known.special_mapping_name, area.operations.is_null())
        else {
            return Ok(None);
        };
        let space = self.linux.space();
        let read = LinuxError::read("the name of a special mapping");
        let function = self.linux.vm_operations()?.name.pointer(space, area.operations).map_err(&read)?;
        if function != special || area.private_data.is_null() {
            return Ok(None);
        }
        let name = self.linux.special_mapping()?.name.pointer(space, area.private_data).map_err(&read)?;
        let text = space.read_cstr(name, self.linux.limits().string_bytes).map_err(&read)?;
        Ok(Some(lossless(&text)))
    }

    /// The name that a program gave (`prctl(PR_SET_VMA_ANON_NAME)`).
    fn given_name(&self, area: &Area) -> Result<Option<String>, LinuxError> {
        let Some(field) = self.linux.vma()?.anon_name else { return Ok(None) };
        let space = self.linux.space();
        let read = LinuxError::read("the name of an anonymous mapping");
        let name = field.pointer(space, area.at).map_err(&read)?;
        let Ok(offset) = self.linux.types().member("anon_vma_name", "name") else { return Ok(None) };
        if name.is_null() {
            return Ok(None);
        }
        let text = space.read_cstr(name.wrapping_add(offset.offset), 80).map_err(&read)?;
        Ok(Some(format!("[anon:{}]", lossless(&text))))
    }

    /// The page that every process has where the kernel was built so.
    fn vsyscall(&self) -> Option<Mapping> {
        let mode: u32 = self.linux.space().read_value(self.linux.known.vsyscall_mode?).ok()?;
        let read = match mode {
            VSYSCALL_EMULATE => true,
            VSYSCALL_EXECUTE_ONLY => false,
            _ => return None,
        };
        Some(Mapping {
            start: VirtAddr::new(VSYSCALL),
            end: VirtAddr::new(VSYSCALL + 0x1000),
            permissions: Permissions { read, execute: true, ..Permissions::default() },
            path: Some("[vsyscall]".into()),
            ..Mapping::default()
        })
    }
}
