//! Protections by their names in the Windows API (`winnt.h`), out of the kernel's own table.

use alloc::string::String;

use vmc::{ReadExt, VirtAddr};

use crate::error::WindowsError;
use crate::windows::Windows;

const NAMES: [(u32, &str); 12] = [
    (0x1, "PAGE_NOACCESS"),
    (0x2, "PAGE_READONLY"),
    (0x4, "PAGE_READWRITE"),
    (0x8, "PAGE_WRITECOPY"),
    (0x10, "PAGE_EXECUTE"),
    (0x20, "PAGE_EXECUTE_READ"),
    (0x40, "PAGE_EXECUTE_READWRITE"),
    (0x80, "PAGE_EXECUTE_WRITECOPY"),
    (0x100, "PAGE_GUARD"),
    (0x200, "PAGE_NOCACHE"),
    (0x400, "PAGE_WRITECOMBINE"),
    (0x4000_0000, "PAGE_TARGETS_INVALID"),
];

/// Entries of the table: the memory manager's protections have five bits.
const ENTRIES: usize = 32;

/// The kernel's table of what its own protections are called outside (`MmProtectToValue`).
#[derive(Clone, Debug)]
pub(super) struct Protections([u32; ENTRIES]);

impl Protections {
    pub(super) fn read(windows: &Windows<'_>) -> Result<Self, WindowsError> {
        let at: VirtAddr = windows.symbol("MmProtectToValue")?;
        let table = windows.kernel().read_value(at);
        table.map(Self).map_err(WindowsError::read("the table of protections"))
    }

    /// The names of the memory manager's protection `number`: several are joined by `|`.
    pub(super) fn name(&self, number: u64) -> Option<String> {
        let value = *self.0.get(usize::try_from(number).ok()?)?;
        let mut names = String::new();
        for (_, name) in NAMES.iter().filter(|(bit, _)| value & bit != 0) {
            if !names.is_empty() {
                names.push('|');
            }
            names.push_str(name);
        }
        Some(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_joined() {
        let mut table = [0; ENTRIES];
        (table[3], table[4]) = (0x104, 0x640);
        let protections = Protections(table);
        assert_eq!(protections.name(3).as_deref(), Some("PAGE_READWRITE|PAGE_GUARD"));
        let all = "PAGE_EXECUTE_READWRITE|PAGE_NOCACHE|PAGE_WRITECOMBINE";
        assert_eq!(protections.name(4).as_deref(), Some(all));
        assert_eq!(protections.name(32), None);
    }
}
