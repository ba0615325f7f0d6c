//! A part of a dump: QEMU writes some of the guest's memory, with its vCPUs' notes, into a file in memory that it is handed.
//!
//! It takes half a millisecond and changes nothing of a guest that stands still; one that runs is stopped by QEMU for that long,
//! so it is asked of those alone that stand still.
//!
//! Source: `qapi/dump.json` of QEMU (`begin`, `length`), the ELF specification for headers.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::AsFd;

use rustix::fs::{MemfdFlags, memfd_create};
use vmc::bytes::{u16_at, u32_at, u64_at};

use crate::connection::Connection;
use crate::error::CommandError;
use crate::message::Dump;

/// The name that QEMU keeps the file under for that moment.
const NAME: &str = "vmc-part";
/// More than the notes of QEMU's most vCPUs take, and a part.
const MOST: u64 = 64 << 20;
/// PT_LOAD.
const LOAD: u32 = 1;
/// PT_NOTE.
const NOTE: u32 = 4;

/// A core with a part of the guest's memory.
#[derive(Debug)]
pub(crate) struct Part(Vec<u8>);

impl Part {
    /// Asks for `length` bytes of memory from `begin` on, all of which the guest has.
    pub(crate) fn ask(connection: &mut Connection, begin: u64, length: u64) -> Result<Self, CommandError> {
        let peer = connection.peer().to_owned();
        let wrong = |what: String| CommandError::Answer { peer, command: "dump-guest-memory", what };
        let mut file = match memfd_create(NAME, MemfdFlags::CLOEXEC) {
            Ok(file) => File::from(file),
            Err(error) => return Err(wrong(error.to_string())),
        };
        let protocol = format!("fd:{NAME}");
        let (begin, length) = (Some(begin), Some(length));
        let dump = Dump { paging: false, protocol: &protocol, detach: None, begin, length };
        connection.dump_into(file.as_fd(), NAME, dump)?;
        let mut bytes = Vec::new();
        let read = file.rewind().and_then(|()| file.take(MOST).read_to_end(&mut bytes));
        read.map_err(|error| wrong(error.to_string())).map(|_| Self(bytes))
    }

    /// The notes' bytes.
    pub(crate) fn notes(&self) -> Option<&[u8]> {
        self.headers().find(|header| u32_at(header, 0) == Some(NOTE)).and_then(|header| self.contents(header))
    }

    /// The memory in it: addresses and bytes.
    pub(crate) fn memory(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.headers()
            .filter(|header| u32_at(header, 0) == Some(LOAD))
            .filter_map(|header| Some((u64_at(header, 24)?, self.contents(header)?)))
    }

    /// The program headers.
    fn headers(&self) -> impl Iterator<Item = &[u8]> {
        let elf = self.0.as_slice();
        let table = || {
            let start = usize::try_from(u64_at(elf, 32)?).ok()?;
            let (size, count) = (usize::from(u16_at(elf, 54)?), usize::from(u16_at(elf, 56)?));
            let known = elf.starts_with(b"\x7fELF\x02\x01") && size >= 56;
            Some(elf.get(start..).filter(|_| known)?.chunks_exact(size).take(count))
        };
        table().into_iter().flatten()
    }

    /// What a header tells of.
    fn contents(&self, header: &[u8]) -> Option<&[u8]> {
        let start = usize::try_from(u64_at(header, 8)?).ok()?;
        let len = usize::try_from(u64_at(header, 32)?).ok()?;
        self.0.get(start..start.checked_add(len)?)
    }

    /// Bytes that were not asked for.
    #[cfg(test)]
    pub(crate) fn of_bytes(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}
