//! [`Process`]: one process of the guest, and the ways by which all are found.

mod find;
mod modules;
mod row;
mod user;

pub(crate) use find::Id;
pub(crate) use user::UserMemory;

use alloc::string::String;
use core::fmt;

use vmc::{PhysAddr, ReadExt, VirtAddr};

use crate::error::WindowsError;
use crate::rows::{ModuleRow, ProcessRow};
use crate::windows::Windows;

/// How a process was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// On the list of active processes.
    List,
    /// In the table of ids only.
    Table,
    /// The processors' idle threads are its.
    Idle,
}

/// A process.
#[derive(Clone)]
pub struct Process<'w> {
    pub(crate) windows: &'w Windows<'w>,
    object: VirtAddr,
    pid: u32,
    found: Found,
}

impl fmt::Debug for Process<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} at {}", self.pid, self.object)
    }
}

impl<'w> Process<'w> {
    /// Its number; 0 is the idle process.
    #[must_use]
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// The kernel's own object for it (`EPROCESS`).
    #[must_use]
    pub const fn object(&self) -> VirtAddr {
        self.object
    }

    /// The guest that it runs in.
    #[must_use]
    pub const fn windows(&self) -> &'w Windows<'w> {
        self.windows
    }

    /// The short name that the kernel keeps (`ImageFileName`): Latin-1; bytes that control terminals as `\\xNN`.
    ///
    /// # Errors
    /// [`WindowsError::Read`] where it cannot be read.
    pub fn name(&self) -> Result<String, WindowsError> {
        let fields = self.windows.process_fields()?;
        let at = self.object.wrapping_add(fields.name.offset);
        let bytes = self.windows.kernel().read_vec(at, fields.name.size, 64);
        let bytes = bytes.map_err(WindowsError::read("ImageFileName"))?;
        let name: String = bytes.iter().take_while(|byte| **byte != 0).map(|byte| shown(*byte)).collect();
        Ok(if name.is_empty() && self.found == Found::Idle { "Idle".into() } else { name })
    }

    /// The root of its page tables.
    ///
    /// # Errors
    /// [`WindowsError::Read`] where it cannot be read.
    pub fn page_table(&self) -> Result<PhysAddr, WindowsError> {
        let fields = self.windows.process_fields()?;
        let value = fields.page_table.read(self.windows.kernel(), self.object);
        value.map(root_of).map_err(WindowsError::read("DirectoryTableBase"))
    }

    /// What is known of it.
    #[must_use]
    pub fn row(&self) -> ProcessRow {
        row::row(self)
    }

    /// Its libraries, by the lists of its loader: the 64-bit ones in the order in which they were loaded, then those of a
    /// 32-bit process' own loader, then images that are mapped and on no list. What no longer can be had of a broken list is a last error.
    pub fn modules(&self) -> impl Iterator<Item = Result<ModuleRow, WindowsError>> + use<'w> {
        modules::modules(self).into_iter()
    }

    pub(crate) const fn found(&self) -> Found {
        self.found
    }
}

/// A byte of a name.
fn shown(byte: u8) -> String {
    if byte < b' ' || byte == 0x7f { alloc::format!("\\x{byte:02x}") } else { char::from(byte).into() }
}

/// The page table root in a CR3 value: without the process-context identifier and the bit that keeps the TLB.
pub(crate) const fn root_of(value: u64) -> PhysAddr {
    PhysAddr::new(value & 0x000f_ffff_ffff_f000)
}
