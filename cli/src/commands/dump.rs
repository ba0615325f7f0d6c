//! `dump`: a guest, saved as an ELF core that vmc, gdb, crash and drgn open.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::time::Instant;

use rustix::fs::fstatvfs;
use serde_json::json;
use vmc::view::RowErrors;
use vmc::{Architecture, LiveError, Region, VirtAddr};
use vmc_dump::{CoreWriter, NewFile, Unread};
use vmc_linux::Linux;

use crate::args::SaveTo;
use crate::commands::Question;
use crate::failure::Failure;
use crate::guest::Guest;
use crate::live::{Pause, gone};
use crate::notes::Notes;
use crate::output::object;
use crate::target::Target;

/// The name of the note in which a kernel's core says what VMCOREINFO does.
const VMCOREINFO: &[u8] = b"VMCOREINFO";
/// In how many runs of memory a guest is looked for that may have ended.
const LOOKS: usize = 16;

/// What is saved.
struct Saved<'a> {
    name: &'a str,
    notes: &'a Notes,
    target: &'a Target,
    /// The kernel, where there is one that is understood.
    guest: Option<&'a Guest<'a>>,
}

impl Saved<'_> {
    fn said(&self, why: impl std::fmt::Display) -> Failure {
        Failure::Said(format!("{}: {why}", self.name))
    }

    /// The kernel, where it is Linux.
    fn linux(&self) -> Option<&Linux<'_>> {
        match self.guest? {
            Guest::Linux(linux) => Some(linux),
            Guest::Windows(_) => None,
        }
    }

    fn architecture(&self) -> Result<Architecture, Failure> {
        let of_image = || match self.target {
            Target::Image(image) => image.architecture(),
            Target::Live(_) => None,
        };
        let of_vcpus = || self.target.vcpus().registers(0).ok().map(|registers| registers.architecture());
        let of_kernel = self.guest.and_then(Guest::architecture);
        of_kernel.or_else(of_image).or_else(of_vcpus).ok_or_else(|| {
            self.said(
                "it has neither registers nor a kernel that is understood: its architecture is not known",
            )
        })
    }

    /// Adds the registers: another core's as they are, with what we do not know of them, else those that are known. How many vCPUs
    /// there are then.
    fn registers(&self, core: &mut CoreWriter<'_>) -> usize {
        let vcpus = self.target.vcpus();
        if let Target::Image(image) = self.target {
            let others = image.notes();
            if !others.is_empty() {
                let added = others.iter().filter(|(name, kind, bytes)| core.note(name, *kind, bytes)).count();
                if added < others.len() {
                    let left = others.len() - added;
                    self.notes.warning(&format_args!(
                        "{}: {left} notes are left out: there are too many",
                        self.name
                    ));
                }
                return vcpus.count();
            }
        }
        let mut added = 0;
        for index in 0..vcpus.count() {
            match vcpus.registers(index) {
                Ok(registers) => added += usize::from(core.vcpu(index, &registers)),
                Err(why) => {
                    self.notes.warning(&format_args!("{}: vCPU {index} is left out: {why}", self.name))
                }
            }
        }
        added
    }

    /// What the kernel says of itself, if it does and no note of another core has said it. Does the core have it?
    fn vmcoreinfo(&self, core: &mut CoreWriter<'_>) -> bool {
        if let Target::Image(image) = self.target
            && image.notes().iter().any(|(name, ..)| *name == VMCOREINFO)
        {
            return true;
        }
        let info = self.linux().and_then(|linux| linux.identity().vmcoreinfo.as_ref());
        info.is_some_and(|info| core.note(VMCOREINFO, 0, info.text().as_bytes()))
    }

    /// Begins the file. Says where it may not fit onto the disk.
    fn begin(&self, total: u64, out: &SaveTo) -> Result<NewFile, Failure> {
        let new = NewFile::create(&out.out, out.force).map_err(|why| failed(out, &unmade(out, &why)))?;
        if let Ok(disk) = fstatvfs(new.file()) {
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            if free < total {
                self.notes.warning(&format_args!(
                    "{}: its disk has {} MiB free and the guest {} MiB: there is room only if enough of them are zero",
                    out.out.display(),
                    free >> 20,
                    total >> 20
                ));
            }
        }
        Ok(new)
    }

    /// Writes everything. What could not be read.
    fn write(&self, core: &CoreWriter<'_>, new: &NewFile, out: &SaveTo) -> Result<Unread, Failure> {
        let bar = self.notes.long_progress("saving");
        bar.set_length(core.total());
        let written = core.write(new.file(), &mut |len| bar.inc(len));
        bar.finish_and_clear();
        written.map_err(|why| failed(out, &why))
    }

    /// Has the guest lived until it was let go? Nobody knows what was read last of one that has not.
    fn is_not_gone(&self, let_go: Result<(), LiveError>) -> Result<(), Failure> {
        let gone = self.target.live().and_then(gone);
        match (gone, let_go) {
            (Some(why), _) | (None, Err(why @ LiveError::Gone { .. })) => Err(self.said(why)),
            // Whether that failed otherwise is asked when everything is said: the core is whole.
            (None, _) => Ok(()),
        }
    }

    /// Is the guest still there? What could not be read of one that has ended is not saved as zeros.
    fn is_there(&self, unread: &Unread) -> Result<(), Failure> {
        let (Target::Live(guest), Some(why)) = (self.target, unread.first) else { return Ok(()) };
        guest.forget();
        let memory = guest.as_memory();
        let mut regions = memory.regions().iter().filter(|region| region.len > 0).take(LOOKS);
        if regions.any(|region| memory.read(region.start, &mut [0]).is_ok()) {
            return Ok(());
        }
        let bytes = unread.bytes;
        Err(self
            .said(format_args!("it has ended before it was saved: {bytes} bytes could not be read: {why}")))
    }
}

/// A failure to write the file.
fn failed(out: &SaveTo, why: &dyn std::fmt::Display) -> Failure {
    Failure::Said(format!("{}: {why}", out.out.display()))
}

/// Why a file cannot be made.
fn unmade(out: &SaveTo, why: &std::io::Error) -> String {
    match why.kind() {
        ErrorKind::AlreadyExists if out.force => "it is no regular file: it is not replaced".to_owned(),
        ErrorKind::AlreadyExists => "it is there already; --force replaces it".to_owned(),
        _ => format!("it cannot be made: {why}"),
    }
}

/// Saves the guest. Where it stands, `pause` ends when everything is copied.
pub(crate) fn run(
    question: &Question<'_>,
    guest: Option<&Guest<'_>>,
    pause: Option<&Pause<'_>>,
    out: &SaveTo,
) -> Result<(), Failure> {
    let since = Instant::now();
    let saved = Saved { name: question.name(), notes: question.notes, target: question.target, guest };
    let architecture = saved.architecture()?;
    let mut core = CoreWriter::new(saved.target.memory(), architecture);
    if core.total() == 0 {
        return Err(saved.said(match saved.target.virtual_memory() {
            Some(_) => "a triage dump has no physical memory that could be saved",
            None => "it has no memory",
        }));
    }
    let vcpus = saved.registers(&mut core);
    let vmcoreinfo = saved.vmcoreinfo(&mut core);
    // Before the guest runs again.
    let release = guest.and_then(Guest::release);
    if let Some(linux) = saved.linux() {
        core.place(|region| place(linux, region));
        if let Some((text, run)) = linux.image_run() {
            core.also_at(run, text);
        }
    }
    let new = saved.begin(core.total(), out)?;
    let unread = saved.write(&core, &new, out);
    let let_go = pause.map_or(Ok(()), |pause| pause.end().map(|_| ()));
    saved.is_not_gone(let_go)?;
    let unread = unread?;
    saved.is_there(&unread)?;
    let made = new.file().metadata()?;
    new.keep().map_err(|why| failed(out, &unmade(out, &why)))?;
    if let Some(why) = unread.first {
        saved.notes.warning(&format_args!(
            "{}: {} bytes could not be read, zeros stand for them: {why}",
            saved.name, unread.bytes
        ));
    }
    let fields = [
        ("file", json!(out.out.to_string_lossy())),
        ("format", json!("elf-core")),
        ("arch", json!(architecture.name())),
        ("release", json!(release)),
        ("vcpus", json!(vcpus)),
        ("vmcoreinfo", json!(vmcoreinfo)),
        ("memory_bytes", json!(core.total())),
        ("unreadable_bytes", json!(unread.bytes)),
        ("file_bytes", json!(made.len())),
        ("disk_bytes", json!(made.blocks().saturating_mul(512))),
        ("seconds", json!(since.elapsed().as_millis() as f64 / 1e3)),
    ];
    question.output().object(object(fields, &RowErrors::default()))
}

/// Where the kernel has the start of `region` in its map of all memory, by any of some places in it: single pages may be kept out of
/// that map.
fn place(linux: &Linux<'_>, region: Region) -> Option<VirtAddr> {
    [0, 1 << 20, 2 << 20, region.len / 2].into_iter().filter(|into| *into < region.len).find_map(|into| {
        let at = linux.direct_address(region.start.checked_add(into)?)?;
        at.checked_sub(into)
    })
}
