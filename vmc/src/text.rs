//! Text out of a guest: shown without loss, and without power over a terminal.

use alloc::string::String;
use core::fmt::Write;

/// What the guest's own tools show: UTF-8 as it is, every other byte as `\xNN`.
///
/// ```
/// assert_eq!(vmc::text::lossless(b"caf\xc3\xa9 \xff"), "café \\xff");
/// ```
#[must_use]
pub fn lossless(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            // Writing to a String cannot fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// `text` with everything escaped that a terminal would act on: control characters, C1, bidirectional overrides and
/// isolates, line and paragraph separators, and invisible marks that make two names look the same.
///
/// ```
/// assert_eq!(vmc::text::printable("a\u{1b}[2Jb\u{202e}c\n"), "a\\x1b[2Jb\\u{202e}c\\n");
/// ```
#[must_use]
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => shown.push_str("\\n"),
            '\t' => shown.push_str("\\t"),
            '\r' => shown.push_str("\\r"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => {
                let _ = write!(shown, "\\x{:02x}", c as u32);
            }
            c if acts_on_display(c) => {
                let _ = write!(shown, "\\u{{{:x}}}", c as u32);
            }
            c => shown.push(c),
        }
    }
    shown
}

/// Characters beyond ASCII that change how others are shown, or are not shown themselves.
fn acts_on_display(c: char) -> bool {
    matches!(c,
        '\u{80}'..='\u{9f}'
        | '\u{ad}'
        | '\u{61c}'
        | '\u{180e}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_text_stay_visible() {
        assert_eq!(lossless(b"\xe2\x82"), "\\xe2\\x82");
        assert_eq!(lossless(b"a\xffb"), "a\\xffb");
    }

    #[test]
    fn nothing_reaches_a_terminal_that_it_would_act_on() {
        for c in (0..0x20u32).chain(0x7f..0xa0).chain(0x202a..=0x202e).chain(0x2066..=0x2069) {
            let text = String::from(char::from_u32(c).unwrap());
            assert!(printable(&text).chars().all(|c| c.is_ascii_graphic()), "{c:#x}");
        }
        assert_eq!(printable("é漢字"), "é漢字");
    }
}
