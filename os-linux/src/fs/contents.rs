//! A file's bytes, as far as memory has them.
//!
//! Source: `mm/filemap.c` and, for tmpfs, `mm/shmem.c`: what the cache of a tmpfs lacks was never written and reads as zero, a
//! value in its place tells a swapped page; pages set aside by `fallocate()` are not up to date and read as zero too.

use alloc::format;
use alloc::string::String;

use vmc::view::{FilePart, PartKind};
use vmc::{Fault, VirtAddr};

use crate::error::LinuxError;
use crate::fs::inode::{DIRECTORY, LINK, REGULAR};
use crate::fs::kinds::Backing;
use crate::kernel::Linux;
use crate::mm::{CacheEntry, CacheWalk, CachedFile};
use crate::task::Task;

/// A regular file whose bytes may be in memory.
#[derive(Clone, Copy, Debug)]
pub struct FileContents<'k, 'm> {
    linux: &'k Linux<'m>,
    file: CachedFile<'k, 'm>,
    backing: Backing,
}

impl<'k, 'm> Task<'k, 'm> {
    /// The file at a path, as the process sees it: an absolute path from its root, any other from the directory that it stands
    /// in, symbolic links followed.
    ///
    /// # Errors
    /// [`LinuxError::NoFile`] where the path leads nowhere, as far as the dentry cache tells, or to what is no file with
    /// contents; another error where the way cannot be read.
    pub fn contents(&self, path: &[u8]) -> Result<FileContents<'k, 'm>, LinuxError> {
        let place = self.place(path, true)?;
        let inode = self.linux.dentry()?.inode.pointer(self.linux.space(), place.dentry);
        let name = || vmc::text::lossless(path);
        FileContents::of_inode(self.linux, inode.map_err(LinuxError::read("a dentry"))?, name)
    }

    /// The file that its process has open as `fd`, also one that was deleted or never had a name.
    ///
    /// # Errors
    /// [`LinuxError::NoDescriptor`] where it has not; [`LinuxError::NoFile`] where it is no file with contents; another error
    /// where the way cannot be read.
    pub fn descriptor_contents(&self, fd: u32) -> Result<FileContents<'k, 'm>, LinuxError> {
        let (descriptors, ended) = self.descriptors()?;
        let Some(found) = descriptors.iter().find(|descriptor| descriptor.fd == fd) else {
            return Err(ended.unwrap_or(LinuxError::NoDescriptor { pid: self.pid()?, fd }));
        };
        let inode = self.linux.file()?.inode.pointer(self.linux.space(), found.file);
        let name = || self.linux.file_path(found.file).unwrap_or_else(|_| format!("descriptor {fd}"));
        FileContents::of_inode(self.linux, inode.map_err(LinuxError::read("f_inode"))?, name)
    }
}

impl<'k, 'm> FileContents<'k, 'm> {
    fn of_inode(
        linux: &'k Linux<'m>,
        inode: VirtAddr,
        name: impl Fn() -> String,
    ) -> Result<Self, LinuxError> {
        let no_contents = |reason| Err(LinuxError::NoFile { path: name(), reason });
        match linux.kind(inode)? {
            REGULAR => {}
            DIRECTORY => return no_contents("it is a directory"),
            LINK => return no_contents("it is a symbolic link"),
            _ => return no_contents("it is a device, a pipe or a socket: it has no contents in memory"),
        }
        let real = linux.real_inode(inode)?;
        let backing = Backing::of(linux.magic(real)?);
        match backing {
            Backing::Memory | Backing::Device => {}
            Backing::Virtual => {
                return no_contents(
                    "the kernel makes its contents up as they are read: there are none in memory",
                );
            }
            Backing::HugePages => return no_contents("it lies in huge pages, which are not read"),
            Backing::Overlay => return no_contents("it lies on an overlay that is not understood"),
        }
        let file = CachedFile::of_inode(linux, real)?;
        if file.size > i64::MAX.cast_unsigned() {
            let reason = "its size is negative";
            return Err(LinuxError::Broken { what: "an inode", at: real, reason });
        }
        Ok(Self { linux, file, backing })
    }

    /// Its size in bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.file.size
    }

    /// The address of the inode that has its bytes: of a file on an overlay, the real one's.
    #[must_use]
    pub const fn address(&self) -> VirtAddr {
        self.file.inode
    }

    /// Its parts from the first byte to the last, without gaps. An error is the last thing that comes.
    pub fn parts(&self) -> impl Iterator<Item = Result<FilePart, LinuxError>> + use<'k, 'm> {
        Parts { contents: *self, walk: CacheWalk::new(&self.file), entry: None, at: 0, failed: false }
    }

    /// Fills `buf` from `offset` on; the bytes have to be in memory.
    ///
    /// # Errors
    /// [`Fault`] where one is not.
    pub fn read(&self, offset: u64, buf: &mut [u8]) -> Result<(), Fault> {
        let (mut done, page) = (0, self.linux.page_size());
        while done < buf.len() {
            let at = offset.checked_add(done as u64).ok_or(Fault::Overflow)?;
            let step = ((page - at % page) as usize).min(buf.len() - done);
            let Some(part) = buf.get_mut(done..done + step) else { return Err(Fault::Overflow) };
            self.file.read_in_page(at, part)?;
            done += step;
        }
        Ok(())
    }

    /// What a page that the cache has nothing for is.
    const fn absent(&self) -> PartKind {
        match self.backing {
            Backing::Memory => PartKind::Hole,
            _ => PartKind::Missing,
        }
    }

    /// What page `index` is, given what the cache has for it.
    fn kind_of(&self, entry: &CacheEntry, index: u64) -> Result<PartKind, LinuxError> {
        if entry.is_value() {
            return Ok(match self.backing {
                Backing::Memory => PartKind::Swapped,
                _ => PartKind::Missing,
            });
        }
        let Some(frame) = self.file.valid_frame(entry, index)? else { return Ok(self.absent()) };
        let there = self.linux.memory().read(frame, &mut [0u8; 1]).is_ok();
        Ok(if there { PartKind::Data } else { PartKind::Missing })
    }
}

/// Goes through a file's parts.
struct Parts<'k, 'm> {
    contents: FileContents<'k, 'm>,
    walk: CacheWalk<'k, 'm>,
    /// What of the cache comes next.
    entry: Option<CacheEntry>,
    /// The page that comes next.
    at: u64,
    failed: bool,
}

impl Parts<'_, '_> {
    /// The next pages that are alike.
    fn part(&mut self, pages: u64) -> Result<Option<(u64, u64, PartKind)>, LinuxError> {
        if self.at >= pages {
            return Ok(None);
        }
        while self.entry.is_none_or(|entry| entry.first.saturating_add(entry.count) <= self.at) {
            match self.walk.next().transpose()? {
                Some(entry) => self.entry = Some(entry),
                None => {
                    self.entry = None;
                    let from = core::mem::replace(&mut self.at, pages);
                    return Ok(Some((from, pages, self.contents.absent())));
                }
            }
        }
        let Some(entry) = self.entry else { return Ok(None) };
        let from = self.at;
        if from < entry.first {
            self.at = entry.first.min(pages);
            return Ok(Some((from, self.at, self.contents.absent())));
        }
        let kind = self.contents.kind_of(&entry, from)?;
        let end = entry.first.saturating_add(entry.count).min(pages);
        self.at += 1;
        if entry.is_value() {
            self.at = end;
        }
        while self.at < end && self.contents.kind_of(&entry, self.at)? == kind {
            self.at += 1;
        }
        Ok(Some((from, self.at, kind)))
    }
}

impl Iterator for Parts<'_, '_> {
    type Item = Result<FilePart, LinuxError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let (size, page) = (self.contents.size(), self.contents.linux.page_size());
        match self.part(size.div_ceil(page)) {
            Ok(None) => None,
            Ok(Some((from, to, kind))) => {
                let (start, end) = (from.saturating_mul(page), to.saturating_mul(page).min(size));
                Some(Ok(FilePart { offset: start, len: end.saturating_sub(start), kind }))
            }
            Err(why) => {
                self.failed = true;
                Some(Err(why))
            }
        }
    }
}
