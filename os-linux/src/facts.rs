//! Facts about the guest as a whole.

use alloc::string::String;

use vmc::text::lossless;
use vmc::view::RowErrors;
use vmc::{Architecture, PhysAddr, ReadExt, VirtAddr};

use crate::kernel::Linux;

/// What `uname`, `/proc` and the boot say of a guest.
#[derive(Clone, Debug)]
pub struct KernelFacts {
    /// The release, as `uname -r` has it.
    pub release: String,
    /// The version, as `uname -v` has it.
    pub version: Option<String>,
    /// The architecture.
    pub architecture: Architecture,
    /// The host name of the first UTS namespace.
    pub hostname: Option<String>,
    /// CPUs that are online.
    pub cpus: Option<u32>,
    /// Where the kernel's image begins (`_text`).
    pub kernel_base: VirtAddr,
    /// How far KASLR moved it.
    pub kaslr_offset: Option<u64>,
    /// The physical address of the kernel's page table root.
    pub page_table_root: PhysAddr,
    /// How many levels its page tables have.
    pub page_table_levels: u8,
    /// When the guest booted, in nanoseconds since 1970 (UTC).
    pub boot_time: Option<i128>,
    /// What could not be read.
    pub errors: RowErrors,
}

/// arm64's images are aligned so (`MIN_KIMG_ALIGN` in `arch/arm64/include/asm/boot.h`); `_text` is their first byte.
const AARCH64_ALIGNMENT: u64 = 2 << 20;

impl Linux<'_> {
    /// Where the kernel's image begins (`_text`).
    pub(crate) fn kernel_base(&self) -> VirtAddr {
        let identity = self.identity();
        match (self.known.text, self.tables().architecture()) {
            (Some(text), _) => text,
            (None, Architecture::X86_64) => identity.stext,
            // Only a header lies before `_stext`, which is no function.
            (None, Architecture::Aarch64) => match identity.stext.checked_sub(1) {
                Some(before) => before.align_down(AARCH64_ALIGNMENT),
                None => identity.stext,
            },
        }
    }

    /// Facts about the guest as a whole.
    #[must_use]
    pub fn facts(&self) -> KernelFacts {
        let mut errors = RowErrors::default();
        let limits = self.limits();
        let identity = self.identity();
        let name = |index: u64| {
            self.space().read_cstr(identity.names.wrapping_add(index * 65), 65).map(|text| lossless(&text))
        };
        let hostname = errors.keep(limits, "hostname", name(1));
        let version = errors.keep(limits, "version", name(3));
        let boot_time = errors.keep(limits, "boot_time", self.boot_time());
        KernelFacts {
            release: identity.release.clone(),
            version,
            architecture: self.tables().architecture(),
            hostname,
            cpus: self.cpus().online,
            kernel_base: self.kernel_base(),
            kaslr_offset: identity.kaslr_offset,
            page_table_root: self.tables().root(),
            page_table_levels: self.tables().levels(),
            boot_time,
            errors,
        }
    }
}
