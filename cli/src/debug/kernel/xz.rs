//! The container of xz, where it is as simple as it mostly is: one stream of one block of LZMA2.
//!
//! `lzma-rust2` reads every kind, but goes through all that is unpacked byte by byte for CRC-64, which takes as long as half of the
//! unpacking. Here that is done eight bytes at a time, and the dictionary is no larger than what is unpacked.
//!
//! Source: "The .xz File Format", version 1.2.1.

use lzma_rust2::{Lzma2Reader, Read};

const HEADER: usize = 12;
const FOOTER: usize = 12;
/// The filter's number.
const LZMA2: u64 = 0x21;
/// A dictionary is not made larger than that: unpacking larger ones is left to who bounds it.
const DICTIONARY: u64 = 256 << 20;
/// Bytes that are made room for at once.
const ROOM: u64 = 64 << 20;

/// What the block is checked by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    Nothing,
    Crc32,
    Crc64,
}

/// Where what is packed lies, and what is known of it.
#[derive(Debug)]
struct Block<'p> {
    data: &'p [u8],
    size: u64,
    dictionary: u32,
    check: Check,
    expected: &'p [u8],
}

/// What is packed, unpacked; nothing where the container is of another shape, is damaged, or holds more than `most` bytes.
pub(super) fn unpack(packed: &[u8], most: u64) -> Option<Vec<u8>> {
    let block = block(packed)?;
    if block.size > most {
        return None;
    }
    let mut reader = Lzma2Reader::new(block.data, block.dictionary, None);
    let mut bytes = Vec::with_capacity(usize::try_from(block.size.min(ROOM)).ok()?);
    let mut buffer = [0; 32 << 10];
    loop {
        let read = reader.read(&mut buffer).ok()?;
        if read == 0 {
            break;
        }
        bytes.extend_from_slice(buffer.get(..read)?);
        if bytes.len() as u64 > block.size {
            return None;
        }
    }
    let is_right = match block.check {
        Check::Nothing => true,
        Check::Crc32 => crc32fast::hash(&bytes).to_le_bytes() == block.expected,
        Check::Crc64 => crc64(&bytes).to_le_bytes() == block.expected,
    };
    (is_right && bytes.len() as u64 == block.size).then_some(bytes)
}

/// A number of seven bits a byte, from the lowest on; goes past it.
fn number(from: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..63).step_by(7) {
        let (byte, rest) = from.split_first()?;
        *from = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn word(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.first_chunk().copied()?))
}

/// The only block.
fn block(packed: &[u8]) -> Option<Block<'_>> {
    let (header, rest) = packed.split_at_checked(HEADER)?;
    let flags = header.get(6..8)?;
    let (rest, footer) = rest.split_at_checked(rest.len().checked_sub(FOOTER)?)?;
    if crc32fast::hash(flags) != word(header.get(8..)?)?
        || crc32fast::hash(footer.get(4..10)?) != word(footer)?
        || footer.get(8..) != Some(&[flags, b"YZ"].concat())
    {
        return None;
    }
    let (check, check_bytes) = match flags {
        [0, 0] => (Check::Nothing, 0),
        [0, 1] => (Check::Crc32, 4),
        [0, 4] => (Check::Crc64, 8),
        _ => return None,
    };
    let index_bytes = (usize::try_from(word(footer.get(4..)?)?).ok()?.checked_add(1)?).checked_mul(4)?;
    let (blocks, index) = rest.split_at_checked(rest.len().checked_sub(index_bytes)?)?;
    let (mut records, sum) = index.split_at_checked(index.len().checked_sub(4)?)?;
    if crc32fast::hash(records) != word(sum)? || number(&mut records)? != 0 || number(&mut records)? != 1 {
        return None;
    }
    let unpadded = usize::try_from(number(&mut records)?).ok()?;
    let size = number(&mut records)?;
    if unpadded.checked_next_multiple_of(4)? != blocks.len() {
        return None;
    }
    // The block: its own header, what is packed, (padding,) the check.
    let header_bytes = (usize::from(*blocks.first()?) + 1) * 4;
    let (header, rest) = blocks.split_at_checked(header_bytes)?;
    let data = rest.get(..unpadded.checked_sub(header_bytes)?.checked_sub(check_bytes)?)?;
    let expected = blocks.get(blocks.len().checked_sub(check_bytes)?..)?;
    let (mut header, sum) = header.split_at_checked(header_bytes - 4)?;
    if crc32fast::hash(header) != word(sum)? {
        return None;
    }
    let block_flags = *header.get(1)?;
    header = header.get(2..)?;
    // One filter; the sizes may be said here, too.
    if block_flags & 0x3f != 0 {
        return None;
    }
    for _ in 0..(block_flags & 0xc0).count_ones() {
        number(&mut header)?;
    }
    if number(&mut header)? != LZMA2 || number(&mut header)? != 1 {
        return None;
    }
    let dictionary = dictionary(*header.first()?)?.min(size.max(4096));
    if dictionary > DICTIONARY {
        return None;
    }
    Some(Block { data, size, dictionary: u32::try_from(dictionary).ok()?, check, expected })
}

/// The size of a dictionary in bytes: two bits of mantissa, and an exponent.
fn dictionary(code: u8) -> Option<u64> {
    match code {
        0..40 => Some((2 | u64::from(code & 1)) << (code / 2 + 11)),
        40 => Some(u32::MAX.into()),
        _ => None,
    }
}

/// CRC-64 as xz has it (ECMA-182, reflected).
fn crc64(bytes: &[u8]) -> u64 {
    let at = |table: &[u64; 256], byte: u8| table.get(usize::from(byte)).copied().unwrap_or_default();
    let [t0, t1, t2, t3, t4, t5, t6, t7] = &TABLES;
    let mut crc = u64::MAX;
    let (eights, rest) = bytes.as_chunks::<8>();
    for eight in eights {
        let [a, b, c, d, e, f, g, h] = (crc ^ u64::from_le_bytes(*eight)).to_le_bytes();
        crc = at(t7, a) ^ at(t6, b) ^ at(t5, c) ^ at(t4, d) ^ at(t3, e) ^ at(t2, f) ^ at(t1, g) ^ at(t0, h);
    }
    for byte in rest {
        crc = crc >> 8 ^ at(t0, crc as u8 ^ byte);
    }
    !crc
}

/// What a byte adds that is followed by so many others.
static TABLES: [[u64; 256]; 8] = tables();

#[allow(clippy::indexing_slicing, reason = "evaluated when it is compiled")]
const fn tables() -> [[u64; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u64;
        let mut followed = 0;
        while followed < 8 {
            let mut bit = 0;
            while bit < 8 {
                crc = crc >> 1 ^ if crc & 1 == 1 { 0xc96c_5795_d787_0f42 } else { 0 };
                bit += 1;
            }
            tables[followed][byte] = crc;
            followed += 1;
        }
        byte += 1;
    }
    tables
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    /// What the tool `xz` makes of `bytes`; nothing where it is not installed.
    fn packed(bytes: &[u8], options: &[&str]) -> Option<Vec<u8>> {
        let started = Command::new("xz")
            .arg("--compress")
            .arg("--stdout")
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut tool) = started else {
            crate::skipped::skip("xz is not installed");
            return None;
        };
        let mut to = tool.stdin.take().unwrap();
        let bytes = bytes.to_vec();
        let writer = std::thread::spawn(move || to.write_all(&bytes).unwrap());
        let said = tool.wait_with_output().unwrap();
        writer.join().unwrap();
        assert!(said.status.success());
        Some(said.stdout)
    }

    /// Text that packs well and is no multiple of anything.
    fn text() -> Vec<u8> {
        (0..40_000u32)
            .flat_map(|number| format!("{{\"{}\": {number}}}, ", number % 97).into_bytes())
            .collect()
    }

    #[test]
    fn check_values_are_those_of_the_specification() {
        assert_eq!(crc64(b"123456789"), 0x995d_c9bb_df19_39fa);
        assert_eq!(crc64(b""), 0);
    }

    #[test]
    fn what_xz_packs_is_unpacked() {
        let text = text();
        for options in [
            &["--check=crc64"][..],
            &["--check=crc32"],
            &["--check=none"],
            &["-9e"],
            &["-0"],
            &["--lzma2=dict=4KiB"],
        ] {
            let Some(packed) = packed(&text, options) else { return };
            assert!(unpack(&packed, 1 << 30).as_deref() == Some(&text), "{options:?}");
            assert_eq!(unpack(&packed, text.len() as u64 - 1), None);
        }
        assert_eq!(packed(b"x", &[]).and_then(|packed| unpack(&packed, 10)), Some(b"x".to_vec()));
    }

    #[test]
    fn other_shapes_are_left_to_others() {
        let text = text();
        for options in
            [&["--check=sha256"][..], &["--block-size=100KiB"], &["--x86", "--lzma2"], &["--format=lzma"]]
        {
            let Some(packed) = packed(&text, options) else { return };
            assert_eq!(unpack(&packed, 1 << 30), None, "{options:?}");
        }
        let Some(mut two) = packed(&text, &[]) else { return };
        two.extend_from_within(..);
        assert_eq!(unpack(&two, 1 << 30), None);
    }

    #[test]
    fn damage_is_never_taken_for_what_was_packed() {
        let text = b"some text, some text, some other text".repeat(40);
        let Some(whole) = packed(&text, &[]) else { return };
        for cut in 0..whole.len() {
            assert_eq!(unpack(whole.get(..cut).unwrap(), 1 << 30), None);
        }
        for at in 6..whole.len() {
            for bit in 0..8 {
                let mut bytes = whole.clone();
                *bytes.get_mut(at).unwrap() ^= 1 << bit;
                let found = unpack(&bytes, 1 << 30);
                assert!(found.is_none_or(|found| found == text), "bit {bit} of byte {at}");
            }
        }
    }
}
