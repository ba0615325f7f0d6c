//! A writer of Windows crash dumps, by the format's description alone.

use vmc_dump::{Image, OpenError};

use super::{Scratch, noise};

/// Puts `bytes` at `at`.
pub(crate) fn put(image: &mut [u8], at: usize, bytes: &[u8]) {
    image[at..at + bytes.len()].copy_from_slice(bytes);
}

/// A header for a dump of the type `kind` on the machine `machine`, without runs or CONTEXT.
pub(crate) fn header(kind: u32, machine: u32) -> Vec<u8> {
    let mut header = b"PAGE".repeat(0x800);
    put(&mut header, 0, b"PAGEDU64\x0f\0\0\0");
    put(&mut header, 0xc, &22000u32.to_le_bytes());
    put(&mut header, 0x10, &0x1a_a002u64.to_le_bytes());
    put(&mut header, 0x30, &machine.to_le_bytes());
    put(&mut header, 0x34, &2u32.to_le_bytes());
    put(&mut header, 0x348, &[0; 3000]);
    put(&mut header, 0xf98, &kind.to_le_bytes());
    header
}

/// Lists `runs` of pages.
pub(crate) fn list(header: &mut [u8], runs: &[(u64, u64)]) {
    put(header, 0x88, &(runs.len() as u32).to_le_bytes());
    let pages = runs.iter().fold(0u64, |sum, (_, count)| sum.wrapping_add(*count));
    put(header, 0x90, &pages.to_le_bytes());
    for (at, (first, count)) in (0x98..).step_by(16).zip(runs) {
        put(header, at, &first.to_le_bytes());
        put(header, at + 8, &count.to_le_bytes());
    }
}

/// Page `page`: its number, then noise.
pub(crate) fn page(page: u64) -> Vec<u8> {
    let mut bytes = noise(0x1000, page);
    put(&mut bytes, 0, &page.to_le_bytes());
    bytes
}

/// A full dump.
pub(crate) fn full(runs: &[(u64, u64)]) -> Vec<u8> {
    let mut dump = header(1, 0x8664);
    list(&mut dump, runs);
    runs.iter().flat_map(|(first, count)| *first..first + count).for_each(|number| dump.extend(page(number)));
    dump
}

/// A dump with a bitmap of `bits` bits, of which those of `pages` are set.
pub(crate) fn bitmap(kind: u32, magic: &[u8], bits: u64, pages: &[u64]) -> Vec<u8> {
    let mut dump = header(kind, 0x8664);
    let first = (0x2038 + bits.div_ceil(8)).next_multiple_of(0x1000) as usize;
    dump.resize(first, 0);
    put(&mut dump, 0x2000, magic);
    for (at, word) in [(0x2020, first as u64), (0x2028, pages.len() as u64), (0x2030, bits)] {
        put(&mut dump, at, &word.to_le_bytes());
    }
    for number in pages {
        dump[0x2038 + (number / 8) as usize] |= 1 << (number % 8);
        dump.extend(page(*number));
    }
    dump
}

/// A triage dump with `blocks` of memory and `drivers`, each an entry of `entry` bytes.
pub(crate) fn triage(machine: u32, blocks: &[(u64, &[u8])], drivers: &[&str], entry: usize) -> Vec<u8> {
    let mut dump = header(4, machine);
    put(&mut dump, 0x80, &0xffff_f800_0000_0b20u64.to_le_bytes());
    put(&mut dump, 0x1038, &0xcff_u32.to_le_bytes());
    dump.resize(0x2080, 0);
    let set =
        |dump: &mut Vec<u8>, at: usize, value: usize| put(dump, 0x2000 + at, &(value as u32).to_le_bytes());
    for (at, size) in [(0x1c, 0x30), (0x20, 0x40), (0x24, 0x50)] {
        let place = dump.len();
        set(&mut dump, at, place);
        dump.extend(vec![at as u8; size]);
    }
    let place = dump.len();
    set(&mut dump, 0x28, place);
    set(&mut dump, 0x2c, 0x100);
    put(&mut dump, 0x2048, &0xffff_a000_0000_1f80_u64.to_le_bytes());
    dump.extend(noise(0x100, 7));
    let list = dump.len();
    set(&mut dump, 0x30, list);
    set(&mut dump, 0x34, drivers.len());
    dump.resize(list + drivers.len() * entry, 0);
    let pool = dump.len();
    set(&mut dump, 0x38, pool);
    for (index, name) in drivers.iter().enumerate() {
        let (at, place) = (list + index * entry, dump.len() as u32);
        put(&mut dump, at, &place.to_le_bytes());
        put(&mut dump, at + 0x38, &(0xffff_f800_0000_0000 + (index as u64 + 1) * 0x10_0000).to_le_bytes());
        put(&mut dump, at + 0x48, &(0x1000 * (index as u32 + 1)).to_le_bytes());
        put(&mut dump, at + 0x80, &(0x11 + index as u32).to_le_bytes());
        put(&mut dump, at + 0x88, &(0x22 + index as u32).to_le_bytes());
        dump.extend((name.encode_utf16().count() as u32).to_le_bytes());
        name.encode_utf16().for_each(|unit| dump.extend(unit.to_le_bytes()));
        dump.resize(dump.len().next_multiple_of(8), 0);
    }
    let size = dump.len() - pool;
    set(&mut dump, 0x3c, size);
    let place = dump.len();
    set(&mut dump, 0x70, place);
    set(&mut dump, 0x74, 0x20);
    dump.extend([0xdb; 0x20]);
    let (table, mut place) = (dump.len(), dump.len() + blocks.len() * 16);
    set(&mut dump, 0x78, table);
    set(&mut dump, 0x7c, blocks.len());
    for (address, bytes) in blocks {
        dump.extend(address.to_le_bytes());
        dump.extend((place as u32).to_le_bytes());
        dump.extend((bytes.len() as u32).to_le_bytes());
        place += bytes.len();
    }
    blocks.iter().for_each(|(_, bytes)| dump.extend(*bytes));
    let end = dump.len();
    set(&mut dump, 0x8, end);
    dump.extend(b"TRGD");
    let len = dump.len();
    set(&mut dump, 0x4, len);
    dump
}

/// Opens a dump.
pub(crate) fn open(dump: &[u8]) -> Result<Image, OpenError> {
    let scratch = Scratch::new();
    Image::open(scratch.file("dump", dump))
}

/// What there is no registers for is said in each of these dumps.
pub(crate) const NO_CONTEXT: &str = "the header's CONTEXT is not filled in: no registers";

/// What is said of a dump, but for that.
pub(crate) fn warned(image: &Image) -> Vec<&str> {
    let lines = image.warnings().iter().map(String::as_str);
    lines.filter(|line| *line != NO_CONTEXT).collect()
}
