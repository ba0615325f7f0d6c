//! Kernels without VMCOREINFO (built without CONFIG_CRASH_DUMP and CONFIG_VMCORE_INFO): found by their image alone.
//!
//! Page tables lead to the image; in it the banner (`linux_banner`, `init/version.c`) tells the release, and the first
//! `struct new_utsname` (`include/uapi/linux/utsname.h`) repeats it: both together are a kernel, neither alone. The text of
//! the banner also stands in the kernel's log; but there its line end and NUL do not follow.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use memchr::memmem;
use vmc::{AddressSpace, ReadExt, VirtAddr};

use crate::find::BANNER;
use crate::identity::KernelIdentity;
use crate::image::Image;

/// Bytes of a banner that are looked at: distributions' have some 250.
const BANNER_BYTES: usize = 1024;
/// Banners and sets of names that are looked at in one stretch of memory.
const BANNERS: usize = 16;
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

/// The banners in the image, and where they stand: some kernels have a second one, without the number of the build.
pub(crate) fn banners(space: &AddressSpace<'_>, image: &Image) -> Vec<(VirtAddr, Banner)> {
    let mut found = Vec::new();
    for (start, len) in image.stretches() {
        let bytes = Image::bytes(space, start, len);
        let all = memmem::find_iter(&bytes, BANNER)
            .filter_map(|at| Some((start.wrapping_add(at as u64), banner_at(bytes.get(at..)?)?)));
        found.extend(all.take(BANNERS));
    }
    found
}

/// The `struct new_utsname`s in the image with this release: where they stand, and their version.
fn names(space: &AddressSpace<'_>, image: &Image, release: &str) -> Vec<(VirtAddr, Vec<u8>)> {
    let mut system = [0; NAME];
    for (byte, letter) in system.iter_mut().zip(b"Linux") {
        *byte = *letter;
    }
    let version = |bytes: &[u8], at: usize| {
        let names = bytes.get(at..at.checked_add(NAME * NAMES)?)?;
        let name = |index: usize| {
            let name = names.get(index * NAME..(index + 1) * NAME)?;
            name.get(..memchr::memchr(0, name)?)
        };
        let version = name(VERSION).filter(|version| version.starts_with(b"#"))?;
        (name(RELEASE)? == release.as_bytes()).then(|| version.to_vec())
    };
    let mut found = Vec::new();
    for part in image.parts.iter().filter(|part| part.writable) {
        let bytes = Image::bytes(space, part.start, part.len);
        let all = memmem::find_iter(&bytes, &system)
            .filter_map(|at| Some((part.start.wrapping_add(at as u64), version(&bytes, at)?)));
        found.extend(all.take(BANNERS));
    }
    found
}

/// The banner that says what the kernel's names say, or else the first one.
pub(crate) fn banner_of(space: &AddressSpace<'_>, image: &Image, names: VirtAddr) -> Option<String> {
    let version = space.read_cstr(names.wrapping_add((VERSION * NAME) as u64), NAME).unwrap_or_default();
    let banners = banners(space, image);
    let fits = |banner: &&(VirtAddr, Banner)| banner.1.text.as_bytes().ends_with(&version);
    banners.iter().find(fits).or(banners.first()).map(|(_, banner)| banner.text.clone())
}

/// The kernel that `space` maps, if there is one.
pub(crate) fn identity(space: &AddressSpace<'_>) -> Option<KernelIdentity> {
    let image = Image::of(space, None);
    let (_, Banner { release, .. }) = banners(space, &image).into_iter().next()?;
    let names = names(space, &image, &release);
    // Images have a second set of names, as they were made; the one that is used has the version of the build.
    let (at, _) = names.iter().max_by_key(|(_, version)| version.len())?;
    // Where code begins: the symbols tell it better, once they are found.
    let code = image.parts.iter().find(|part| part.executable)?;
    Some(KernelIdentity {
        banner: banner_of(space, &image, *at),
        release,
        build_id: None,
        stext: code.start,
        names: *at,
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
