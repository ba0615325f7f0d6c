//! What a kernel is known by once it was found.

use alloc::string::String;
use alloc::vec::Vec;

use vmc::VirtAddr;

use crate::find::VmcoreInfo;

/// What a kernel is known by, before its symbols and types are.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KernelIdentity {
    /// The release, as `uname -r` has it.
    pub release: String,
    /// Its banner (`linux_banner`), where it was looked for: release, who built it, with what, when.
    pub banner: Option<String>,
    /// The build-id of its image.
    pub build_id: Option<Vec<u8>>,
    /// Where `_stext` lies, the start of its code.
    pub stext: VirtAddr,
    /// Where its first `struct new_utsname` lies: sysname, nodename, release, version, machine, domainname, 65 bytes each.
    pub names: VirtAddr,
    /// How far KASLR moved its virtual addresses.
    pub kaslr_offset: Option<u64>,
    /// What it says of itself to crash tools, where it does.
    pub vmcoreinfo: Option<VmcoreInfo>,
}
