//! The kernel's BTF (`__start_BTF`, `__stop_BTF`) by its header.
//!
//! Source: `struct btf_header` in `include/uapi/linux/btf.h`: magic, version, flags, header length, then offset and length of the types
//! and of the strings, counted from the header's end. The section lies in the image's read-only data. Modules' BTF lies elsewhere, as do copies that
//! a program read or a decompressor left.

use vmc::{AddressSpace, ReadExt, VirtAddr};

use crate::data::KernelImage;

/// Magic number, version 1, no flags.
const START: &[u8; 4] = b"\x9f\xeb\x01\x00";
/// Headers have grown; no one is larger than that.
const HEADER_BYTES: core::ops::RangeInclusive<u32> = 24..=256;
/// BTF of a whole kernel has some MiB; what is smaller is none.
const SMALLEST: u64 = 64 << 10;

/// Where the kernel's types begin and end.
pub(crate) fn find_types(space: &AddressSpace<'_>, image: &KernelImage) -> Option<(VirtAddr, VirtAddr)> {
    image.find_bytes(space, START, |at| {
        let [header, types, types_len, strings, strings_len] =
            space.read_value::<[u32; 5]>(at.wrapping_add(4)).ok()?;
        let whole = HEADER_BYTES.contains(&header) && types == 0 && strings >= types_len;
        let len = u64::from(header) + u64::from(strings) + u64::from(strings_len);
        let stop = at.checked_add(len)?;
        // Strings begin with the empty one.
        let first = at.wrapping_add(u64::from(header) + u64::from(strings));
        let empty = space.read_value::<u8>(first).is_ok_and(|byte| byte == 0);
        let last = space.read_value::<u8>(stop.checked_sub(1)?).is_ok_and(|byte| byte == 0);
        (whole && len >= SMALLEST && empty && last && image.contains(stop)).then_some((at, stop))
    })
}
