//! Open files, as `/proc/PID/fd` and `/proc/PID/fdinfo` show them.
//!
//! Source: `struct fdtable` in `include/linux/fdtable.h`; `seq_show()` and `proc_readfd_common()` in `fs/proc/fd.c`.

use alloc::vec::Vec;

use vmc::bytes::u64_at;
use vmc::view::{OpenFile, RowErrors};
use vmc::{ReadExt, VirtAddr, VirtualMemory};

use crate::error::LinuxError;
use crate::task::Task;

/// `O_CLOEXEC`: kept a descriptor, not a file.
const CLOSE_ON_EXEC: u32 = 0o2_000_000;
/// Descriptors that a word of the bitmaps tells of.
const WORD: u64 = 64;

/// A descriptor that is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Descriptor {
    pub(crate) fd: u32,
    /// Its `struct file`.
    pub(crate) file: VirtAddr,
    pub(crate) close_on_exec: bool,
}

impl<'k, 'm> Task<'k, 'm> {
    /// The files that its process has open, ascending, and why they are not all, where they are not. Zombies have none.
    ///
    /// # Errors
    /// [`LinuxError`] where the table of its descriptors cannot be read.
    pub fn open_files(
        &self,
    ) -> Result<(impl Iterator<Item = OpenFile> + use<'k, 'm>, Option<LinuxError>), LinuxError> {
        let (task, pid) = (*self, self.pid()?);
        let (descriptors, ended) = self.descriptors()?;
        Ok((descriptors.into_iter().map(move |descriptor| task.open_file(pid, &descriptor)), ended))
    }

    /// The descriptors in use, ascending, and why they are not all.
    pub(crate) fn descriptors(&self) -> Result<(Vec<Descriptor>, Option<LinuxError>), LinuxError> {
        let space = self.linux.space();
        let files = self.pointer(self.linux.task_files()?.files, "files")?;
        if files.is_null() {
            return Ok((Vec::new(), None));
        }
        let fields = self.linux.fd_table()?;
        let read = LinuxError::read("the table of descriptors");
        let table = self.linux.files()?.table.pointer(space, files).map_err(&read)?;
        let most = fields.max.read(space, table).map_err(&read)? as usize;
        let slots = fields.files.pointer(space, table).map_err(&read)?;
        let open = fields.open.pointer(space, table).map_err(&read)?;
        let closing = fields.close_on_exec.pointer(space, table).map_err(&read)?;
        let count = most.min(self.limits().open_files);
        let mut ended = (count < most).then_some(LinuxError::Broken {
            what: "the table of descriptors",
            at: table,
            reason: "it has more descriptors than the limit",
        });
        // A bitmap's last word is whole: tables grow by powers of two, from 64.
        let (bitmap, broken) = space.read_part(open, count.div_ceil(8).next_multiple_of(8));
        ended = broken.map(&read).or(ended);
        let mut found = Vec::new();
        for index in 0..bitmap.len() / 8 {
            let Some(word) = u64_at(&bitmap, index * 8).filter(|word| *word != 0) else { continue };
            let first = index as u64 * WORD;
            let closing = space.read_u64(closing.wrapping_add(first / 8)).map_err(&read);
            let pointers = space.read_value::<[u64; WORD as usize]>(slots.wrapping_add(first * 8));
            let (closing, pointers) = match (closing, pointers.map_err(&read)) {
                (Ok(closing), Ok(pointers)) => (closing, pointers),
                // The next word may lie in a page that can be read.
                (Err(why), _) | (_, Err(why)) => {
                    ended = Some(why);
                    continue;
                }
            };
            for (bit, pointer) in pointers.iter().enumerate().filter(|(bit, _)| word >> bit & 1 != 0) {
                // A descriptor is taken before its file is there.
                if *pointer != 0 {
                    found.push(Descriptor {
                        fd: (first + bit as u64) as u32,
                        file: VirtAddr::new(*pointer),
                        close_on_exec: closing >> bit & 1 != 0,
                    });
                }
            }
        }
        Ok((found, ended))
    }

    fn open_file(&self, pid: u32, descriptor: &Descriptor) -> OpenFile {
        let linux = self.linux;
        let (space, limits, file) = (linux.space(), linux.limits(), descriptor.file);
        let mut errors = RowErrors::default();
        let fields = errors.keep(limits, "file", linux.file_state());
        let flags = fields.and_then(|f| errors.keep(limits, "flags", f.flags.read(space, file)));
        let offset = fields.and_then(|f| errors.keep(limits, "offset", f.position.read(space, file)));
        let path = errors.keep(limits, "path", linux.file_path(file));
        let closing = if descriptor.close_on_exec { CLOSE_ON_EXEC } else { 0 };
        OpenFile {
            pid,
            fd: descriptor.fd,
            path,
            flags: flags.map(|flags| flags & !CLOSE_ON_EXEC | closing),
            offset: offset.map(u64::cast_signed),
            object: file,
            errors,
        }
    }

    fn limits(&self) -> &vmc::Limits {
        self.linux.limits()
    }
}
