//! The pieces of a layout as they are read: mapped here too where the process shares them with us, else by the process.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::libc;
use nix::sys::stat::{major, minor};
use vmc::PhysAddr;

use crate::layout::Piece;
use crate::mapped::Mapped;
use crate::maps::Map;
use crate::proc;

/// As many descriptors of the process as are looked at to find a file.
const MOST_DESCRIPTORS: usize = 4096;

/// As many of its mappings as are tried; monitors have a few.
const MOST_MAPPED: usize = 128;

/// Guest-physical memory that is read in one way.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) guest: PhysAddr,
    pub(crate) len: u64,
    pub(crate) host: u64,
    /// The mapping of ours that has it, and where in it this begins.
    pub(crate) mapped: Option<(Arc<Mapped>, usize)>,
}

/// The segments of `pieces`, in their order, and how many bytes of them are mapped.
pub(crate) fn of(pid: u32, pieces: &[Piece], maps: &[Map]) -> (Vec<Segment>, u64) {
    let mut shared = Shared { pid, opened: Vec::new() };
    let mut segments = Vec::new();
    let mut bytes = 0u64;
    for piece in pieces {
        let mut done = 0;
        while done < piece.len {
            let host = piece.host.saturating_add(done);
            let index = maps.partition_point(|map| map.end <= host);
            let (len, mapped) = match maps.get(index) {
                Some(map) if map.contains(host) => {
                    let mapped = shared.mapped(index, map);
                    (
                        map.end - host,
                        mapped.and_then(|it| Some((it, usize::try_from(host - map.start).ok()?))),
                    )
                }
                Some(map) => (map.start - host, None),
                None => (u64::MAX, None),
            };
            let len = len.min(piece.len - done);
            bytes = bytes.saturating_add(if mapped.is_some() { len } else { 0 });
            append(&mut segments, Segment { guest: piece.guest.wrapping_add(done), len, host, mapped });
            done = done.saturating_add(len);
        }
    }
    (segments, bytes)
}

/// Puts a segment behind the others, to the last one where that goes on in it and neither is mapped.
fn append(segments: &mut Vec<Segment>, next: Segment) {
    if let Some(last) = segments.last_mut()
        && last.mapped.is_none()
        && next.mapped.is_none()
        && last.guest.wrapping_add(last.len) == next.guest
        && last.host.wrapping_add(last.len) == next.host
    {
        last.len = last.len.saturating_add(next.len);
        return;
    }
    segments.push(next);
}

/// The shared mappings of a process that were looked at, by their number among its mappings.
struct Shared {
    pid: u32,
    opened: Vec<(usize, Option<Arc<Mapped>>)>,
}

impl Shared {
    fn mapped(&mut self, index: usize, map: &Map) -> Option<Arc<Mapped>> {
        if !map.shared || map.inode == 0 || map.is_device() || is_filled_on_demand(map) {
            return None;
        }
        if let Some((_, mapped)) = self.opened.iter().find(|(number, _)| *number == index) {
            return mapped.clone();
        }
        if self.opened.len() >= MOST_MAPPED {
            return None;
        }
        let mapped = open(self.pid, map).and_then(|file| {
            Mapped::new(file, map.offset, usize::try_from(map.len()).ok()?).ok().map(Arc::new)
        });
        self.opened.push((index, mapped.clone()));
        mapped
    }
}

/// Does the process fill it page by page, as it is asked for (userfaultfd: `um` where pages are missing, `ui` where they are not
/// final)? What has not come yet is no hole in it, though it is one in its file.
fn is_filled_on_demand(map: &Map) -> bool {
    map.has("um") || map.has("ui")
}

/// The file behind a mapping: by the mapping itself, which only some may open, or by a descriptor of the process.
fn open(pid: u32, map: &Map) -> Option<File> {
    let by_mapping = proc::path(pid, &format!("map_files/{:x}-{:x}", map.start, map.end));
    if let Some(file) = open_same(&by_mapping, map) {
        return Some(file);
    }
    let descriptors = fs::read_dir(proc::path(pid, "fd")).ok()?.take(MOST_DESCRIPTORS);
    let paths = descriptors.filter_map(|entry| Some(entry.ok()?.path()));
    paths.filter(is_like(map)).find_map(|path| open_same(&path, map))
}

fn is_like(map: &Map) -> impl Fn(&PathBuf) -> bool {
    |path| fs::metadata(path).is_ok_and(|metadata| is_of(&metadata, map))
}

/// Opens `path` where it leads to the file of the mapping, and that is as long as the mapping says.
fn open_same(path: &Path, map: &Map) -> Option<File> {
    // Without waiting: what was a file when it was looked at may be a pipe by now.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).ok()?;
    let metadata = file.metadata().ok()?;
    (is_of(&metadata, map) && map.offset.checked_add(map.len())? <= metadata.len()).then_some(file)
}

fn is_of(metadata: &fs::Metadata, map: &Map) -> bool {
    let device = (major(metadata.dev()), minor(metadata.dev()));
    metadata.is_file() && metadata.ino() == map.inode && device == (map.device.0.into(), map.device.1.into())
}
