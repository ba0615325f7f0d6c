//! [`WindowsFacts`]: what the guest says of itself.

use alloc::string::String;

use vmc::arch::Architecture;
use vmc::layout::{Field, Types};
use vmc::view::RowErrors;
use vmc::{PhysAddr, ReadError, ReadExt, VirtAddr};

use crate::error::WindowsError;
use crate::find::KERNEL_SHARED_DATA;
use crate::identity::CodeView;
use crate::text::from_file_time;
use crate::windows::Windows;

/// What the guest says of itself; what it does not tell is absent.
#[derive(Clone, Debug)]
pub struct WindowsFacts {
    /// Its version and build number: `10.0.19041`.
    pub version: Option<String>,
    /// The build's name (`NtBuildLab`): `19041.amd64fre.vb_release`.
    pub build_lab: Option<String>,
    /// The build number.
    pub build: Option<u32>,
    /// What it runs on.
    pub architecture: Architecture,
    /// How many processors it uses.
    pub processors: Option<u32>,
    /// Where ntoskrnl begins.
    pub kernel_base: VirtAddr,
    /// Its size in bytes; 0 where nothing tells it.
    pub kernel_size: u64,
    /// Which PDB belongs to it.
    pub pdb: Option<CodeView>,
    /// The page table root of the System process; of a triage dump, what that process says; without types, the root under which the
    /// kernel was found.
    pub page_table_root: Option<PhysAddr>,
    /// Its clock, in nanoseconds since 1970 (UTC).
    pub system_time: Option<i128>,
    /// When it was booted, in nanoseconds since 1970 (UTC).
    pub boot_time: Option<i128>,
    /// The folder that it is installed in: `C:\Windows`.
    pub system_root: Option<String>,
    /// What could not be read.
    pub errors: RowErrors,
}

impl Windows<'_> {
    /// What the guest says of itself: out of `KUSER_SHARED_DATA` and the kernel's variables.
    #[must_use]
    pub fn facts(&self) -> WindowsFacts {
        let (kernel, limits) = (self.kernel(), self.limits());
        let mut errors = RowErrors::default();
        let build = self.build_number();
        let shared = self
            .shared_u32("NtMajorVersion")
            .and_then(|major| Ok((major, self.shared_u32("NtMinorVersion")?)));
        let release = shared.or_else(|why| build.and_then(release_of).ok_or(why));
        let release = errors.keep(limits, "version", release);
        let version =
            release.zip(build).map(|((major, minor), build)| alloc::format!("{major}.{minor}.{build}"));
        let lab = self.symbol("NtBuildLab").and_then(|at| {
            let text = kernel.read_cstr(at, 128).map_err(WindowsError::read("NtBuildLab"))?;
            Ok(String::from_utf8_lossy(&text).into_owned())
        });
        let build_lab = errors.keep(limits, "build name", lab).filter(|lab| !lab.is_empty());
        let processors = errors.keep(limits, "processors", self.processor_count());
        let system_time = match (self.shared_time("SystemTime"), self.hints().system_time) {
            (Err(_), Some(told)) => Some(told),
            (read, _) => errors.keep(limits, "system time", read).and_then(from_file_time),
        };
        // Newer kernels have it in another place, or not at all.
        let boot_time = self.symbol("KeBootTime").ok().and_then(|at| kernel.read_value(at).ok());
        WindowsFacts {
            version,
            build_lab,
            build,
            architecture: Architecture::X86_64,
            processors,
            kernel_base: self.identity().base,
            kernel_size: self.identity().size,
            pdb: self.identity().code_view.clone(),
            page_table_root: kernel
                .tables()
                .map_or_else(|| self.system_page_table_root(), |space| Some(space.tables().root())),
            system_time,
            boot_time: boot_time.and_then(from_file_time),
            system_root: self.system_root_path(),
            errors,
        }
    }

    /// The build number: of the shared data where it has one (8 and later), else `NtBuildNumber` without the marks of the kind of build.
    pub(crate) fn build_number(&self) -> Option<u32> {
        let plausible = |build: &u32| (1000..1 << 20).contains(build);
        let shared = self.shared_u32("NtBuildNumber").ok().map(|build| build & 0x0fff_ffff);
        let variable = || {
            let value: u32 = self.kernel().read_value(self.symbol("NtBuildNumber").ok()?).ok()?;
            Some(value & 0x0fff_ffff)
        };
        shared.filter(plausible).or_else(|| variable().filter(plausible)).or(self.identity().build)
    }

    fn processor_count(&self) -> Result<u32, WindowsError> {
        let plausible = |count: &u32| *count != 0 && *count as usize <= self.limits().cpus;
        if let Some(count) = self.shared_u32("ActiveProcessorCount").ok().filter(plausible) {
            return Ok(count);
        }
        if let Some(count) = self.hints().processors.filter(plausible) {
            return Ok(count);
        }
        let at = self.symbol("KeNumberProcessors").or_else(|_| self.symbol("KeNumberProcessors_0"))?;
        let count: u32 = self.kernel().read_value(at).map_err(WindowsError::read("KeNumberProcessors"))?;
        if plausible(&count) {
            return Ok(count);
        }
        Err(WindowsError::Broken { what: "KeNumberProcessors", at, reason: "it is out of bounds" })
    }

    fn shared_u32(&self, member: &'static str) -> Result<u32, WindowsError> {
        let field = Field::<u32>::new(self.types(), "_KUSER_SHARED_DATA", member)?;
        field.read(self.kernel(), KERNEL_SHARED_DATA).map_err(WindowsError::read(member))
    }

    /// A `KSYSTEM_TIME`: low, high, and high again, which differ while it is being written.
    fn shared_time(&self, member: &'static str) -> Result<u64, WindowsError> {
        let at = self.types().member("_KUSER_SHARED_DATA", member)?.offset;
        let at = KERNEL_SHARED_DATA.wrapping_add(at);
        let read = || -> Result<[u32; 3], ReadError> { self.kernel().read_value(at) };
        let mut time = read().map_err(WindowsError::read(member))?;
        if let [_, high, again] = time
            && high != again
        {
            time = read().map_err(WindowsError::read(member))?;
        }
        let [low, high, _] = time;
        Ok(u64::from(high) << 32 | u64::from(low))
    }

    fn system_root_path(&self) -> Option<String> {
        let member = self.types().member("_KUSER_SHARED_DATA", "NtSystemRoot").ok()?;
        let at = KERNEL_SHARED_DATA.wrapping_add(member.offset);
        let text = crate::text::utf16(self.kernel(), at, member.size.min(520), self.limits()).ok()?;
        let text = text.split('\0').next().unwrap_or_default();
        (!text.is_empty()).then(|| text.into())
    }
}

/// The version that goes with a build number, where the guest's own word is not in memory: those that Microsoft published.
const fn release_of(build: u32) -> Option<(u32, u32)> {
    match build {
        6000..=6003 => Some((6, 0)),
        7600 | 7601 => Some((6, 1)),
        9200 => Some((6, 2)),
        9600 => Some((6, 3)),
        10240.. => Some((10, 0)),
        _ => None,
    }
}
