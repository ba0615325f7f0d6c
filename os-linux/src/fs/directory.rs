//! Directories as `ls` shows them, out of the dentry cache.

use alloc::string::String;
use alloc::vec::Vec;

use hashbrown::HashSet;
use vmc::VirtAddr;
use vmc::text::lossless;
use vmc::view::{DirectoryEntry, RowErrors};

use crate::error::LinuxError;
use crate::fs::children::NamedChild;
use crate::fs::inode::{DIRECTORY, LINK};
use crate::fs::lookup::{Place, Steps};
use crate::kernel::Linux;
use crate::mm::CachedFile;
use crate::task::Task;

/// What the dentry cache has of a directory.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// Its entries in the order of their names; of directories below it, right behind theirs.
    pub entries: Vec<DirectoryEntry>,
    /// How many directories were gone through.
    pub directories: usize,
    /// Of how many of them there may be more entries than the dentry cache has.
    pub partial: usize,
    /// Why entries are missing.
    pub errors: RowErrors,
}

/// A directory that is still to be shown.
struct Open {
    place: Place,
    path: Vec<u8>,
    children: alloc::vec::IntoIter<NamedChild>,
}

impl<'k, 'm> Task<'k, 'm> {
    /// The directory at a path, as the process sees it, with those below it if `deep` says so; of what is no directory, the
    /// file itself. Symbolic links on the way are followed.
    ///
    /// # Errors
    /// [`LinuxError::NoFile`] where the path leads nowhere, as far as the dentry cache tells; another error where the way
    /// cannot be read.
    pub fn list(&self, path: &[u8], deep: bool) -> Result<Listing, LinuxError> {
        let linux = self.linux;
        let place = self.place(path, true)?;
        let inode = linux.dentry()?.inode.pointer(linux.space(), place.dentry);
        let inode = inode.map_err(LinuxError::read("a dentry"))?;
        let mut listing = Listing::default();
        if linux.kind(inode)? != DIRECTORY {
            let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
            listing.entries.push(linux.directory_entry(name, path, inode));
            return Ok(listing);
        }
        let mut seen = HashSet::new();
        let mut path = Vec::from(path);
        while path.len() > 1 && path.ends_with(b"/") {
            path.pop();
        }
        let (mut open, mut steps) = (Vec::new(), Steps::new(linux));
        linux.open_directory(place, path, &mut listing, &mut seen, &mut open, &mut steps)?;
        while let Some(directory) = open.last_mut() {
            let Some(child) = directory.children.next() else {
                open.pop();
                continue;
            };
            if listing.entries.len() >= linux.limits().directory_entries {
                let reason = "there are more entries than the limit";
                let at = directory.place.dentry;
                listing.errors.push(
                    linux.limits(),
                    "ls",
                    &LinuxError::Broken { what: "a directory", at, reason },
                );
                break;
            }
            let mut below = directory.path.clone();
            if !below.ends_with(b"/") {
                below.push(b'/');
            }
            below.extend_from_slice(&child.name);
            if below.len() > linux.limits().path_bytes {
                let (at, reason) = (child.dentry, "its path is longer than the limit");
                listing.errors.push(
                    linux.limits(),
                    "ls",
                    &LinuxError::Broken { what: "a directory", at, reason },
                );
                continue;
            }
            let mount = directory.place.mount;
            let shown = linux.show(mount, &child, &below, &mut listing, &mut steps);
            let Some(place) = shown.filter(|_| deep) else { continue };
            if open.len() >= linux.limits().directory_depth {
                let reason = "directories lie deeper in one another than the limit";
                let at = place.dentry;
                listing.errors.push(
                    linux.limits(),
                    "ls",
                    &LinuxError::Broken { what: "a directory", at, reason },
                );
                continue;
            }
            if let Err(why) =
                linux.open_directory(place, below, &mut listing, &mut seen, &mut open, &mut steps)
            {
                listing.errors.push(linux.limits(), &lossless(&child.name), &why);
            }
        }
        Ok(listing)
    }
}

impl Linux<'_> {
    /// Puts a directory on the pile of those that are being shown.
    fn open_directory(
        &self,
        place: Place,
        path: Vec<u8>,
        listing: &mut Listing,
        seen: &mut HashSet<Place>,
        open: &mut Vec<Open>,
        steps: &mut Steps,
    ) -> Result<(), LinuxError> {
        if !seen.insert(place) {
            return Ok(());
        }
        let inode = self.dentry()?.inode.pointer(self.space(), place.dentry);
        let complete = self.holds_every_entry(inode.map_err(LinuxError::read("a dentry"))?)?;
        let (children, ended) = self.named_children(place.dentry, steps)?;
        listing.directories += 1;
        listing.partial += usize::from(!complete);
        if let Some(why) = ended {
            listing.errors.push(self.limits(), &lossless(&path), &why);
        }
        open.push(Open { place, path, children: children.into_iter() });
        Ok(())
    }

    /// Adds an entry, as what is mounted on it; where that is a directory, gives its place.
    fn show(
        &self,
        mount: VirtAddr,
        child: &NamedChild,
        path: &[u8],
        listing: &mut Listing,
        steps: &mut Steps,
    ) -> Option<Place> {
        let on_it = self.mounted_on(Place { mount, dentry: child.dentry }, steps);
        let place = listing.errors.keep(self.limits(), "mounts", on_it)?;
        let inode = self.dentry().map_err(LinuxError::from).and_then(|fields| {
            fields.inode.pointer(self.space(), place.dentry).map_err(LinuxError::read("a dentry"))
        });
        let inode = listing.errors.keep(self.limits(), "dentry", inode)?;
        let entry = self.directory_entry(&child.name, path, inode);
        let is_directory = entry.kind == Some('d');
        listing.entries.push(entry);
        is_directory.then_some(place)
    }

    /// A file as a row.
    fn directory_entry(&self, name: &[u8], path: &[u8], inode: VirtAddr) -> DirectoryEntry {
        let (space, limits) = (self.space(), self.limits());
        let mut errors = RowErrors::default();
        let mut row = DirectoryEntry {
            name: lossless(name),
            path: lossless(path),
            object: inode,
            ..DirectoryEntry::default()
        };
        let mode = errors.keep(limits, "mode", self.mode(inode));
        row.kind = mode.map(letter);
        row.mode = mode.map(|mode| mode & 0o7777);
        if let Some(fields) = errors.keep(limits, "uid, gid", self.inode_details()) {
            row.uid = errors.keep(limits, "uid", fields.uid.read(space, inode));
            row.gid = errors.keep(limits, "gid", fields.gid.read(space, inode));
            if matches!(row.kind, Some('b' | 'c')) {
                let device = errors.keep(limits, "device", fields.device.read(space, inode));
                // dev_t: twelve bits of major, twenty of minor number (include/linux/kdev_t.h).
                row.device = device.map(|device| (device >> 20, device & 0xf_ffff));
            }
        }
        row.mtime = errors.keep(limits, "mtime", self.changed(inode)).flatten();
        let numbers = errors.keep(limits, "inode", self.inode());
        row.inode = numbers.and_then(|f| errors.keep(limits, "inode", f.number.read(space, inode)));
        row.size = numbers.and_then(|f| errors.keep(limits, "size", f.size.read(space, inode)));
        let real = errors.keep(limits, "overlay", self.real_inode(inode));
        match (real, row.kind) {
            (Some(real), Some('l')) => {
                let target = errors.keep(limits, "target", self.link_target(real)).flatten();
                row.target = target.map(|target| lossless(&target));
            }
            (Some(real), Some('-')) => {
                let pages = CachedFile::of_inode(self, real).and_then(|file| file.cached_pages());
                let pages = errors.keep(limits, "cached_bytes", pages);
                row.cached_bytes = pages.map(|pages| pages.saturating_mul(self.page_size()));
            }
            _ => {}
        }
        row.errors = errors;
        row
    }
}

/// The letter of `ls -l` for a mode.
fn letter(mode: u16) -> char {
    match mode & 0o170_000 {
        DIRECTORY => 'd',
        LINK => 'l',
        0o100_000 => '-',
        0o020_000 => 'c',
        0o060_000 => 'b',
        0o010_000 => 'p',
        0o140_000 => 's',
        _ => '?',
    }
}

/// A mode as `ls -l` writes it, with the letter of its kind.
#[must_use]
pub fn mode_text(kind: char, mode: u16) -> String {
    let mut text = String::from(kind);
    for (shift, special, letters) in [(6, 0o4000, "sS"), (3, 0o2000, "sS"), (0, 0o1000, "tT")] {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        let execute = bits & 1 != 0;
        text.push(match (mode & special != 0, execute) {
            (true, true) => letters.chars().next().unwrap_or('s'),
            (true, false) => letters.chars().nth(1).unwrap_or('S'),
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    text
}
