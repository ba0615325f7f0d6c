//! A process' command line, as `/proc/PID/cmdline` shows it.
//!
//! Source: `get_mm_cmdline()` and `get_mm_proctitle()` in `fs/proc/base.c`: the words between `arg_start` and `arg_end`; where
//! the last byte is no NUL, a program has written its own title over them, and it may go on into the environment.

use alloc::string::String;
use alloc::vec::Vec;

use vmc::text::lossless;
use vmc::{ReadExt, VirtAddr};

use crate::error::LinuxError;
use crate::mm::AddressSpaceOf;

impl AddressSpaceOf<'_, '_> {
    /// Its command line, a word an entry.
    ///
    /// # Errors
    /// [`LinuxError`] where no byte of it can be read.
    pub fn command_line(&self) -> Result<Vec<String>, LinuxError> {
        let fields = self.linux.mm()?;
        let kernel = self.linux.space();
        let number = |field: vmc::layout::Field<u64>| {
            field.read(kernel, self.mm).map_err(LinuxError::read("mm_struct"))
        };
        let (start, end) = (VirtAddr::new(number(fields.arg_start)?), VirtAddr::new(number(fields.arg_end)?));
        let broken = |reason| LinuxError::Broken { what: "the command line", at: start, reason };
        if start == end {
            return Ok(Vec::new());
        }
        let len = end.offset_from(start).ok_or_else(|| broken("it ends before it begins"))?;
        let limit = self.linux.limits().command_line_bytes;
        let mut bytes = self.read_vec(start, len, limit).map_err(LinuxError::read("the command line"))?;
        if bytes.last() != Some(&0) {
            // A title: up to its NUL, a page at the most, not beyond the environment.
            let beyond = number(fields.env_end)?.saturating_sub(end.get()).min(4096) as usize;
            let (more, _) = self.read_part(end, beyond);
            let stop = memchr::memchr(0, &more).unwrap_or(more.len());
            bytes.extend_from_slice(more.get(..stop).unwrap_or_default());
            if let Some(stop) = memchr::memchr(0, &bytes) {
                bytes.truncate(stop);
            }
            bytes.push(0);
        }
        bytes.pop();
        Ok(bytes.split(|byte| *byte == 0).map(lossless).collect())
    }
}
