//! Rows of what else is in a guest: open files, mounts, the kernel's log, sockets, network interfaces.

use alloc::string::String;
use alloc::vec::Vec;

use super::RowErrors;
use crate::addr::VirtAddr;

/// A file that a process has open.
#[derive(Clone, Debug, Default)]
pub struct OpenFile {
    /// The process' number.
    pub pid: u32,
    /// The descriptor.
    pub fd: u32,
    /// The file's path, or the name of what has none (`pipe:[110]`), as `/proc/PID/fd` shows it.
    pub path: Option<String>,
    /// How it was opened: the `O_…` bits, close-on-exec among them.
    pub flags: Option<u32>,
    /// Where the next read or write goes, in bytes.
    pub offset: Option<i64>,
    /// The kernel's own object for the open file: processes that share it have the same.
    pub object: VirtAddr,
    /// What could not be read.
    pub errors: RowErrors,
}

/// An entry of a directory.
#[derive(Clone, Debug, Default)]
pub struct DirectoryEntry {
    /// Its name.
    pub name: String,
    /// The path that leads to it.
    pub path: String,
    /// Of what kind it is, as the first letter of `ls -l` tells.
    pub kind: Option<char>,
    /// Its permissions: the lower twelve bits of its mode.
    pub mode: Option<u16>,
    /// The user that owns it.
    pub uid: Option<u32>,
    /// The group that owns it.
    pub gid: Option<u32>,
    /// Its size in bytes.
    pub size: Option<u64>,
    /// Its inode's number.
    pub inode: Option<u64>,
    /// Of a device: major and minor number.
    pub device: Option<(u32, u32)>,
    /// When its contents were changed last, in nanoseconds since 1970 (UTC).
    pub mtime: Option<i128>,
    /// Where a symbolic link leads, if that is in memory.
    pub target: Option<String>,
    /// Of a regular file: how much of it the page cache has, in bytes, whole pages counted.
    pub cached_bytes: Option<u64>,
    /// The kernel's own object for it: its inode.
    pub object: VirtAddr,
    /// What could not be read.
    pub errors: RowErrors,
}

/// What a part of a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PartKind {
    /// Bytes that are in memory.
    Data,
    /// Never written: it reads as zero.
    Hole,
    /// Swapped out.
    Swapped,
    /// Not in the page cache: what it holds is not known.
    Missing,
}

/// A part of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilePart {
    /// Where it begins, in bytes.
    pub offset: u64,
    /// How many bytes it has.
    pub len: u64,
    /// What it is.
    pub kind: PartKind,
}

/// A mount of a mount namespace; text is written as `/proc/mounts` writes it, blanks as `\040`.
#[derive(Clone, Debug, Default)]
pub struct Mount {
    /// The device, or what stands for one.
    pub source: Option<String>,
    /// Where it is mounted, as seen from the process' root.
    pub target: Option<String>,
    /// The file system's name.
    pub fstype: Option<String>,
    /// Options that every file system knows (`rw,nosuid`), in the kernel's order.
    pub options: Option<String>,
    /// The kernel's own object for it.
    pub object: VirtAddr,
    /// What could not be read.
    pub errors: RowErrors,
}

/// A record of the kernel's log.
#[derive(Clone, Debug, Default)]
pub struct LogRecord {
    /// Its number since the boot.
    pub sequence: u64,
    /// When it was written, in nanoseconds since the boot.
    pub time: u64,
    /// How severe it is: from 0 (emergency) to 7 (debug).
    pub level: u8,
    /// What it says.
    pub message: Option<String>,
    /// What could not be read.
    pub errors: RowErrors,
}

/// A socket.
#[derive(Clone, Debug, Default)]
pub struct Socket {
    /// `tcp`, `tcp6`, `udp`, `udp6` or `unix`.
    pub protocol: &'static str,
    /// Its own end: address and port, or a path; of the abstract names, the first byte is `@`.
    pub local: Option<String>,
    /// The other end.
    pub remote: Option<String>,
    /// Its state, as ss calls it.
    pub state: Option<&'static str>,
    /// The number by which `/proc/PID/fd` knows it.
    pub inode: Option<u64>,
    /// The processes that have it open, ascending as the kernel lists them.
    pub pids: Vec<u32>,
    /// The number of its network namespace.
    pub netns: Option<u32>,
    /// The kernel's own object for it.
    pub object: VirtAddr,
    /// What could not be read.
    pub errors: RowErrors,
}

/// A network interface.
#[derive(Clone, Debug, Default)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its number in its namespace.
    pub index: Option<u32>,
    /// Its hardware address, where it has one.
    pub hardware_address: Option<String>,
    /// Its addresses, with the length of their prefixes.
    pub addresses: Vec<String>,
    /// The largest packet in bytes.
    pub mtu: Option<u32>,
    /// Was it switched on?
    pub up: Option<bool>,
    /// Its flags: the `IFF_…` bits, as `/sys/class/net/NAME/flags` has them.
    pub flags: Option<u32>,
    /// The number of its network namespace.
    pub netns: Option<u32>,
    /// The kernel's own object for it.
    pub object: VirtAddr,
    /// What could not be read.
    pub errors: RowErrors,
}
