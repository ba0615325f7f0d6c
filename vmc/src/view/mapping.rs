//! Mappings of a process.

use alloc::string::String;
use core::fmt;

use super::RowErrors;
use crate::addr::VirtAddr;

/// What may be done with a mapping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Permissions {
    /// Reading.
    pub read: bool,
    /// Writing.
    pub write: bool,
    /// Fetching code.
    pub execute: bool,
    /// Do writes reach the file and other processes?
    pub shared: bool,
}

impl fmt::Display for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = |set, letter| if set { letter } else { '-' };
        write!(
            f,
            "{}{}{}{}",
            letter(self.read, 'r'),
            letter(self.write, 'w'),
            letter(self.execute, 'x'),
            if self.shared { 's' } else { 'p' }
        )
    }
}

/// A mapping of a process.
#[derive(Clone, Debug, Default)]
pub struct Mapping {
    /// Its first byte.
    pub start: VirtAddr,
    /// The first byte behind it.
    pub end: VirtAddr,
    /// What may be done with it.
    pub permissions: Permissions,
    /// Where in the file it begins, in bytes.
    pub offset: u64,
    /// The file's device: major and minor number.
    pub device: (u32, u32),
    /// The file's inode number.
    pub inode: u64,
    /// The file's path, or the name of a special mapping (`[heap]`).
    pub path: Option<String>,
    /// The kernel's own object for it.
    pub object: VirtAddr,
    /// What could not be read.
    pub errors: RowErrors,
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn permissions_print_as_promised() {
        let permissions = Permissions { read: true, execute: true, ..Permissions::default() };
        assert_eq!(permissions.to_string(), "r-xp");
    }
}
