//! Kernels without VMCOREINFO (built without CONFIG_CRASH_DUMP and CONFIG_VMCORE_INFO): found by their image alone.
//!
//! Page tables lead to the image; in it the banner (`linux_banner`, `init/version.c`) tells the release, and the first
//! `struct new_utsname` (`include/uapi/linux/utsname.h`) repeats it: both together are a kernel, neither alone. The text of
//! the banner also stands in the kernel's log; but there its line end and NUL do not follow.

use alloc::string::{String, ToString};

use memchr::memmem;
use vmc::{AddressSpace, VirtAddr};

use crate::find::BANNER;
use crate::identity::KernelIdentity;
use crate::image::Image;

/// Bytes of a banner that are looked at: distributions' have some 250.
const BANNER_BYTES: usize = 1024;
/// Bytes of each name of `struct new_utsname`, and which of them is what.
const NAME: usize = 65;
const NAMES: usize = 6;
const RELEASE: usize = 2;
const VERSION: usize = 3;

/// A kernel's banner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Banner {
    pub(crate) text: String,
    pub(crate) release: String,
}

/// The banner that `bytes` begin with.
fn banner_at(bytes: &[u8]) -> Option<Banner> {
    let bytes = bytes.get(..bytes.len().min(BANNER_BYTES))?;
    let text = bytes.get(..memmem::find(bytes, b"\n\0")?)?;
    let text = core::str::from_utf8(text).ok().filter(|text| !text.contains(['\0', '\n']))?;
    let release = text.strip_prefix(core::str::from_utf8(BANNER).ok()?)?.split(' ').next()?;
    let plausible = release.starts_with(|c: char| c.is_ascii_digit()) && release.len() < NAME;
    plausible.then(|| Banner { text: text.to_string(), release: release.to_string() })
}

/// The kernel's banner, and where it stands.
pub(crate) fn banner(space: &AddressSpace<'_>, image: &Image) -> Option<(VirtAddr, Banner)> {
    image.stretches().into_iter().find_map(|(start, len)| {
        let bytes = Image::bytes(space, start, len);
        memmem::find_iter(&bytes, BANNER)
            .find_map(|at| Some((start.wrapping_add(at as u64), banner_at(bytes.get(at..)?)?)))
    })
}

/// The kernel's names: `sysname` is Linux, `release` is the banner's.
fn names(space: &AddressSpace<'_>, image: &Image, release: &str) -> Option<VirtAddr> {
    let mut system = [0; NAME];
    for (byte, letter) in system.iter_mut().zip(b"Linux") {
        *byte = *letter;
    }
    let fits = |bytes: &[u8], at: usize| {
        let names = bytes.get(at..at.checked_add(NAME * NAMES)?)?;
        let name = |index: usize| {
            let name = names.get(index * NAME..(index + 1) * NAME)?;
            name.get(..memchr::memchr(0, name)?)
        };
        (name(RELEASE)? == release.as_bytes() && name(VERSION)?.starts_with(b"#")).then_some(())
    };
    image.parts.iter().filter(|part| part.writable).find_map(|part| {
        let bytes = Image::bytes(space, part.start, part.len);
        let at = memmem::find_iter(&bytes, &system).find(|at| fits(&bytes, *at).is_some())?;
        Some(part.start.wrapping_add(at as u64))
    })
}

/// The kernel that `space` maps, if there is one.
pub(crate) fn identity(space: &AddressSpace<'_>) -> Option<KernelIdentity> {
    let image = Image::of(space, None);
    let (_, banner) = banner(space, &image)?;
    let names = names(space, &image, &banner.release)?;
    // Where code begins: the symbols tell it better, once they are found.
    let code = image.parts.iter().find(|part| part.executable)?;
    Some(KernelIdentity {
        release: banner.release,
        banner: Some(banner.text),
        build_id: None,
        stext: code.start,
        names,
        kaslr_offset: None,
        vmcoreinfo: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_banner_ends_with_a_line() {
        let text = b"Linux version 5.10.0-32-cloud-amd64 (someone@there) (gcc) #1 SMP (2024-08-10)\n\0more";
        let found = banner_at(text).unwrap();
        assert_eq!(found.release, "5.10.0-32-cloud-amd64");
        assert!(found.text.ends_with("(2024-08-10)"));
        // The kernel's log has it without; the format string has no release.
        assert_eq!(banner_at(b"Linux version 5.10.0 (someone@there)\0\n\0"), None);
        assert_eq!(banner_at(b"Linux version %s (%s)\n\0"), None);
        assert_eq!(banner_at(b"Linux version 5.10"), None);
        assert_eq!(banner_at(b""), None);
    }
}
