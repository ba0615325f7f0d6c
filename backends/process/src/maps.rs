//! `/proc/PID/maps` and `smaps`: what a process has mapped.
//!
//! Source: `Documentation/filesystems/proc.rst`, sections 1.1 "maps" and "smaps".

use crate::error::ProcessError;

/// More mappings than the kernel lets a process have by default, many times over.
const MOST_MAPS: usize = 1 << 20;

/// A mapping of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Map {
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// May it be read and written, and is it shared with others?
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    pub(crate) shared: bool,
    /// Where it begins in its file.
    pub(crate) offset: u64,
    pub(crate) device: (u32, u32),
    pub(crate) inode: u64,
    /// The file's path, or a name in brackets; empty for anonymous memory.
    pub(crate) path: String,
    /// `VmFlags` of `smaps`: words of two letters. Empty where only `maps` was read.
    pub(crate) flags: Vec<String>,
}

impl Map {
    pub(crate) fn contains(&self, address: u64) -> bool {
        self.start <= address && address < self.end
    }

    pub(crate) fn len(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// Is it memory of a device, where reads may have effects?
    pub(crate) fn is_device(&self) -> bool {
        let memory = ["/dev/shm/", "/dev/zero", "/dev/hugepages", "/dev/dax"];
        let file = self.path.starts_with("/dev/") && !memory.iter().any(|path| self.path.starts_with(path));
        file || self.path.starts_with("anon_inode:[vfio") || self.has("io") || self.has("pf")
    }

    /// Does it carry the flag, two letters?
    pub(crate) fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|has| has == flag)
    }
}

/// The mappings in the text of `maps` or `smaps` of process `pid`; lines that are none are passed over.
pub(crate) fn parse(pid: u32, text: &str) -> Result<Vec<Map>, ProcessError> {
    let mut maps: Vec<Map> = Vec::new();
    for line in text.lines() {
        if let Some(flags) = line.strip_prefix("VmFlags:") {
            if let Some(map) = maps.last_mut() {
                map.flags = flags.split_ascii_whitespace().map(str::to_owned).collect();
            }
        } else if let Some(map) = map(line) {
            if maps.len() >= MOST_MAPS {
                return Err(ProcessError::TooLong { pid, what: "the list of mappings" });
            }
            maps.push(map);
        }
    }
    Ok(maps)
}

/// `7f0000000000-7f0000001000 rw-s 00002000 00:01 1234   /memfd:ram (deleted)`.
fn map(line: &str) -> Option<Map> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let (permissions, rest) = rest.split_once(' ')?;
    let (offset, rest) = rest.split_once(' ')?;
    let (device, rest) = rest.split_once(' ')?;
    let (inode, path) = rest.split_once(' ').unwrap_or((rest, ""));
    let (major, minor) = device.split_once(':')?;
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    let half = |text: &str| u32::from_str_radix(text, 16).ok();
    let may = |at: usize, what: u8| permissions.as_bytes().get(at) == Some(&what);
    let (start, end) = (hex(start)?, hex(end)?);
    (start < end).then(|| {
        Some(Map {
            start,
            end,
            readable: may(0, b'r'),
            writable: may(1, b'w'),
            shared: may(3, b's'),
            offset: hex(offset)?,
            device: (half(major)?, half(minor)?),
            inode: inode.parse().ok()?,
            path: path.trim_start().to_owned(),
            flags: Vec::new(),
        })
    })?
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &str = "\
55d0c0000000-55d0c0021000 rw-p 00000000 00:00 0                          [heap]
Size:                132 kB
VmFlags: rd wr mr mw me ac sd 
7f0000000000-7f0010000000 rw-s 00002000 00:01 1045                       /memfd:ram with space (deleted)
Rss:                   4 kB
VmFlags: rd wr sh mr mw me ms dc hg mg sd 
7f0010000000-7f0010001000 ---p 00000000 00:00 0 
VmFlags: mr mw me dc sd 
7f0020000000-7f0020001000 rw-s 00000000 00:0f 9   anon_inode:[vfio-device]
";

    #[test]
    fn mappings_and_their_flags_are_read() {
        let maps = parse(1, SMAPS).unwrap();
        assert_eq!(maps.len(), 4);
        let ram = &maps[1];
        assert_eq!(
            (ram.start, ram.len(), ram.offset, ram.inode),
            (0x7f00_0000_0000, 256 << 20, 0x2000, 1045)
        );
        assert!(ram.shared && ram.writable && ram.readable && ram.has("dc") && !ram.is_device());
        assert_eq!((ram.path.as_str(), ram.device), ("/memfd:ram with space (deleted)", (0, 1)));
        assert!(!maps[2].readable && maps[2].path.is_empty() && maps[2].has("dc"));
        assert!(maps[3].is_device() && !maps[0].is_device() && !maps[0].has("dc"));
    }

    #[test]
    fn nonsense_is_passed_over() {
        for line in [
            "",
            "x",
            "1-0 r--p 0 0:0 0",
            "1-2",
            "1-2 r--p zz 0:0 0",
            "-1-2 r--p 0 0:0 0",
            "Size: 4 kB",
            "VmFlags: rd",
        ] {
            assert_eq!(parse(1, line).unwrap(), [], "{line}");
        }
        assert_eq!(parse(1, "1-2 r--p 0 0:0 7").unwrap()[0].inode, 7);
    }
}
