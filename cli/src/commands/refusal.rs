//! Why no kernel is understood, and what would help.

use vmc_linux::LinuxError;
use vmc_windows::{KernelTypes, Windows, WindowsError};

use crate::commands::Question;
use crate::debug::{GuestFiles, KernelFiles, WindowsFiles};
use crate::failure::Failure;
use crate::guest::NotOpened;

/// Why a kernel is not understood, what was wrong with the files that were given for it, and which ones would help.
fn without_help(name: &str, source: LinuxError, files: &KernelFiles<'_>) -> Failure {
    let wanted = match &source {
        LinuxError::NoTypes { .. } => {
            "give --symbols DIR with its vmlinux with DWARF (distributions have it in kernel-debuginfo or \
             linux-image-…-dbg), its BTF, a volatility3 ISF or its modules with DWARF (.ko, .ko.debug)"
        }
        LinuxError::NoSymbols { .. } => {
            "give --symbols DIR with its vmlinux, System.map or a volatility3 ISF"
        }
        _ => return Failure::Guest { target: name.to_owned(), source },
    };
    let remarks: String = files.remarks().map(|remark| format!("; {remark}")).collect();
    Failure::Said(format!("{name}: {source}{remarks}; {wanted}"))
}

impl Question<'_> {
    /// Why there is no kernel that can be read.
    pub(super) fn not_understood(&self, why: &NotOpened, files: &GuestFiles<'_>) -> Failure {
        let name = self.name();
        let why = match why {
            NotOpened::Linux(why) => &**why,
            NotOpened::Windows(why) => return self.windows_without_help(why, &files.windows.borrow()),
            NotOpened::Neither { linux, .. } => {
                let advice = self.advice(linux).unwrap_or_default();
                return Failure::Said(format!("{name}: {why}{advice}"));
            }
        };
        match self.advice(why) {
            Some(advice) => Failure::Said(format!("{name}: {why}{advice}")),
            None => without_help(name, why.clone(), &files.linux),
        }
    }

    /// What a raw image may lack that no kernel is where it should be.
    fn advice(&self, why: &LinuxError) -> Option<&'static str> {
        let moved = matches!(why, LinuxError::NotVerified { .. }) && self.may_move();
        moved.then_some("; where a raw image's memory does not begin at 0, as on Arm, give --ram-base 0xADDR")
    }

    /// Says which file would tell more, where a Windows kernel is known by nothing but what it exports.
    pub(super) fn say_if_derived(&self, windows: &Windows<'_>, files: &WindowsFiles<'_>) {
        if windows.types().source() == KernelTypes::DERIVED {
            let without = WindowsError::NoTypes { identity: Box::new(windows.identity().clone()) };
            self.notes.say(&self.windows_without_help(&without, files));
            self.notes.say(&format_args!(
                "{}: what follows is derived from what the kernel exports and from public headers",
                self.name()
            ));
        }
    }

    /// Why a Windows kernel is not understood, what was wrong with the files that were found, and which ones would help.
    fn windows_without_help(&self, why: &WindowsError, files: &WindowsFiles<'_>) -> Failure {
        let name = self.name();
        let WindowsError::NoTypes { identity } = why else { return Failure::Said(format!("{name}: {why}")) };
        let remarks: String = files
            .remarks()
            .map(String::as_str)
            .chain(files.trouble())
            .map(|remark| format!("; {remark}"))
            .collect();
        let isf = identity.code_view.as_ref().map_or_else(
            || "ntkrnlmp.pdb/GUID-AGE.json.xz".to_owned(),
            |pdb| format!("ntkrnlmp.pdb/{}-{}.json.xz", pdb.guid_text(), pdb.age),
        );
        let download = match (&self.args.common.download, &identity.code_view) {
            (None, Some(_)) => ", or --download",
            _ => "",
        };
        Failure::Said(format!(
            "{name}: {why}{remarks}; give --symbols DIR with its PDB or volatility3 ISF ({isf}){download}"
        ))
    }
}
