//! Strings as Windows keeps them: `UNICODE_STRING`, UTF-16.

use alloc::string::String;

use vmc::{Limits, ReadError, ReadExt, VirtAddr, VirtualMemory};

/// The text of a `UNICODE_STRING` (x64: length and capacity in bytes, 16 bits each; a pointer at 8). Lone surrogates become U+FFFD.
///
/// # Errors
/// [`ReadError`] where it, or what it points at, is not to be had.
pub(crate) fn unicode_string<V: VirtualMemory + ?Sized>(
    memory: &V,
    at: VirtAddr,
    limits: &Limits,
) -> Result<String, ReadError> {
    let length: u16 = memory.read_value(at)?;
    let buffer = memory.read_pointer(at.wrapping_add(8))?;
    utf16(memory, buffer, u64::from(length), limits)
}

/// `bytes` bytes of UTF-16 at `at`. A length is at most 65 534 bytes by its type.
///
/// # Errors
/// [`ReadError`] where they are not to be had.
pub(crate) fn utf16<V: VirtualMemory + ?Sized>(
    memory: &V,
    at: VirtAddr,
    bytes: u64,
    limits: &Limits,
) -> Result<String, ReadError> {
    let raw = memory.read_vec(at, bytes & !1, limits.command_line_bytes)?;
    let units = raw.chunks_exact(2).map(|pair| match pair {
        [low, high] => u16::from_le_bytes([*low, *high]),
        _ => 0,
    });
    Ok(char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect())
}

/// 100 ns since 1601 (FILETIME), in nanoseconds since 1970 (UTC). Nothing for 0, which is no time.
#[must_use]
pub(crate) const fn from_file_time(time: u64) -> Option<i128> {
    const TO_1970: i128 = 11_644_473_600 * 10_000_000;
    if time == 0 { None } else { Some((time as i128 - TO_1970) * 100) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use vmc::arch::x86_64::{Levels, X86PageTables};
    use vmc::{AddressSpace, FlatMemory, PageTables, PhysAddr};

    #[test]
    fn lengths_are_bytes_and_lone_surrogates_are_replaced() {
        let mut ram = vec![0u8; 0x6000];
        for (at, entry) in [(0x1000, 0x2003u64), (0x2000, 0x3003), (0x3000, 0x4003), (0x4000, 0x5003)] {
            ram[at..at + 8].copy_from_slice(&entry.to_le_bytes());
        }
        ram[0x5000..0x5002].copy_from_slice(&6u16.to_le_bytes());
        ram[0x5008..0x5010].copy_from_slice(&0x20u64.to_le_bytes());
        ram[0x5020..0x5028].copy_from_slice(&[b'a', 0, 0x00, 0xd8, b'b', 0, b'c', 0]);
        let memory = FlatMemory::new(PhysAddr::new(0), &ram);
        let tables = X86PageTables::new(PhysAddr::new(0x1000), Levels::Four);
        let space = AddressSpace::new(&memory, PageTables::X86_64(tables));
        assert_eq!(unicode_string(&space, VirtAddr::new(0), &Limits::default()).unwrap(), "a\u{fffd}b");
    }

    #[test]
    fn file_times_count_from_1601() {
        // 2021-02-21 01:38:22 UTC.
        assert_eq!(from_file_time(132_583_451_020_000_000), Some(1_613_871_502 * 1_000_000_000));
        assert_eq!(from_file_time(0), None);
    }
}
