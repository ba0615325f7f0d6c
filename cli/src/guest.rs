//! A guest that was opened: one of the operating systems that are known.

use vmc::Architecture;
use vmc_linux::{Linux, LinuxError};
use vmc_windows::{Windows, WindowsError};

/// A guest's kernel, found.
pub(crate) enum Guest<'m> {
    /// Linux.
    Linux(Box<Linux<'m>>),
    /// Windows.
    Windows(Box<Windows<'m>>),
}

impl Guest<'_> {
    /// The machine's architecture, where the kernel's page tables tell it.
    pub(crate) fn architecture(&self) -> Option<Architecture> {
        match self {
            Self::Linux(linux) => Some(linux.tables().architecture()),
            Self::Windows(windows) => windows.kernel().tables().map(|space| space.tables().architecture()),
        }
    }

    /// Which version of the kernel it is.
    pub(crate) fn release(&self) -> Option<String> {
        match self {
            Self::Linux(linux) => Some(linux.identity().release.clone()),
            Self::Windows(windows) => windows.facts().version,
        }
    }

    /// Forgets what may have changed: for a live guest that ran on in between.
    pub(crate) fn forget(&mut self) {
        match self {
            Self::Linux(linux) => linux.forget(),
            Self::Windows(windows) => windows.forget(),
        }
    }
}

/// Why no guest is understood.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum NotOpened {
    /// It is none, or a Linux guest that cannot be read.
    #[error("{0}")]
    Linux(Box<LinuxError>),
    /// It is a Windows guest that cannot be read, or was said to be one.
    #[error("{0}")]
    Windows(Box<WindowsError>),
    /// Neither was found.
    #[error("{linux}; {windows}")]
    Neither {
        /// Why it is not Linux.
        linux: Box<LinuxError>,
        /// Why it is not Windows.
        windows: Box<WindowsError>,
    },
}
