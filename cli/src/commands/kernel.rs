//! Finding the kernel: Linux, or else Windows.

use vmc::Limits;
use vmc_linux::{Linux, LinuxError};
use vmc_windows::{Hints, Windows, WindowsError};

use crate::args::Os;
use crate::commands::Question;
use crate::crash;
use crate::debug::{GuestFiles, KernelFiles, WindowsFiles};
use crate::guest::{Guest, NotOpened};

/// Was there no Linux kernel at all?
pub(crate) const fn is_missing(why: &LinuxError) -> bool {
    matches!(why, LinuxError::NotFound { .. } | LinuxError::NotVerified { .. })
}

impl<'a> Question<'a> {
    /// Finds the kernel: Windows where that costs next to nothing, Linux, or else Windows.
    pub(crate) fn open_kernel(&self, files: &mut GuestFiles<'_>) -> Result<Guest<'a>, NotOpened> {
        if let Some(opened) = self.told_windows(files) {
            return opened;
        }
        let linux = self.look_for_linux(&mut files.linux);
        self.or_windows(linux, files)
    }

    /// Finds a Linux kernel, if it may be one.
    pub(super) fn look_for_linux(
        &self,
        files: &mut KernelFiles<'_>,
    ) -> Option<Result<Linux<'a>, LinuxError>> {
        match self.args.common.os {
            Some(Os::Windows) => None,
            // Windows itself wrote it.
            None if self.target.crash().is_some() => None,
            _ => Some(self.open_linux(files)),
        }
    }

    /// A Windows kernel that the vCPUs, or without any the low stub, lead to: that is known before memory is searched for Linux,
    /// and what an earlier guest left in memory does not stand in its place.
    pub(super) fn told_windows(&self, files: &mut GuestFiles<'_>) -> Option<Result<Guest<'a>, NotOpened>> {
        if self.args.common.os.is_some() || self.target.crash().is_some() {
            return None;
        }
        let (memory, vcpus, limits) = (self.target.memory(), self.target.vcpus(), Limits::default());
        let files: &mut WindowsFiles<'_> = files.windows.get_mut();
        match Windows::open_told(memory, vcpus, &Hints::default(), limits, Some(files)) {
            Ok(windows) => Some(Ok(Guest::Windows(Box::new(windows)))),
            Err(WindowsError::NotFound { .. }) => None,
            Err(why) => Some(Err(NotOpened::Windows(Box::new(why)))),
        }
    }

    /// The Linux kernel that was looked for, or else a Windows one.
    pub(super) fn or_windows(
        &self,
        linux: Option<Result<Linux<'a>, LinuxError>>,
        files: &mut GuestFiles<'_>,
    ) -> Result<Guest<'a>, NotOpened> {
        let linux = match linux {
            Some(Ok(linux)) => return Ok(Guest::Linux(Box::new(linux))),
            Some(Err(why)) => Some(why),
            None => None,
        };
        let mut windows =
            || self.open_windows(files.windows.get_mut()).map(|windows| Guest::Windows(Box::new(windows)));
        match linux {
            None => windows().map_err(|why| NotOpened::Windows(Box::new(why))),
            // A Linux kernel that was found and cannot be read is no Windows.
            Some(why) if self.args.common.os == Some(Os::Linux) || !is_missing(&why) => {
                Err(NotOpened::Linux(Box::new(why)))
            }
            Some(linux) => windows().map_err(|why| match why {
                WindowsError::NotFound { .. } => {
                    NotOpened::Neither { linux: Box::new(linux), windows: Box::new(why) }
                }
                found => NotOpened::Windows(Box::new(found)),
            }),
        }
    }

    fn open_windows(&self, files: &mut WindowsFiles<'_>) -> Result<Windows<'a>, WindowsError> {
        let (memory, vcpus, limits) = (self.target.memory(), self.target.vcpus(), Limits::default());
        let hints = self.target.crash().map_or_else(Hints::default, crash::hints);
        match self.target.virtual_memory() {
            Some(ranges) => Windows::open_virtual(ranges, vcpus, &hints, limits, Some(files)),
            None => Windows::open(memory, vcpus, &hints, limits, Some(files)),
        }
    }

    fn open_linux(&self, files: &mut KernelFiles<'_>) -> Result<Linux<'a>, LinuxError> {
        let given: Option<&mut dyn vmc_linux::KernelFiles> =
            if self.args.common.symbols.is_empty() { None } else { Some(files) };
        let (memory, vcpus) = (self.target.memory(), self.target.vcpus());
        Linux::open_with_files(memory, vcpus, Limits::default(), given)
    }

    /// May the memory begin elsewhere than the target says?
    pub(super) fn may_move(&self) -> bool {
        self.target.flat() && self.args.common.ram_base.is_none()
    }
}
