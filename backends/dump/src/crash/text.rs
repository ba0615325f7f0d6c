//! Text in crash dumps.

use vmc::bytes::{u16_at, u32_at};

/// Names are cut at so many UTF-16 units: paths of drivers are shorter.
const LONGEST: usize = 1024;

/// `bytes` as UTF-16, up to a NUL; what is none is replaced.
pub(crate) fn utf16(bytes: &[u8]) -> String {
    let units = bytes.chunks_exact(2).filter_map(|pair| u16_at(pair, 0)).take(LONGEST);
    char::decode_utf16(units.take_while(|unit| *unit != 0))
        .map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect()
}

/// The `DUMP_STRING` at `at`: a count of UTF-16 units, then those.
pub(crate) fn dump_string(file: &[u8], at: usize) -> Option<String> {
    let units = usize::try_from(u32_at(file, at)?).ok()?.min(LONGEST);
    let start = at.checked_add(4)?;
    Some(utf16(file.get(start..start.checked_add(units.checked_mul(2)?)?)?))
}

/// The header's comment, if it has one.
pub(crate) fn comment(bytes: &[u8]) -> Option<String> {
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    // What was not filled in may end with a NUL.
    let nothing = text.chunks(4).all(|part| b"PAGE".starts_with(part));
    (!text.is_empty() && !nothing).then(|| text.escape_ascii().to_string())
}
