//! What is searched for: text, bytes with wildcards, UTF-16 or a regular expression; all become one matcher of bytes.

use regex::bytes::{Regex, RegexBuilder};

use crate::args::SearchFor;

/// How far a match of a regular expression may reach beyond the piece of memory that it begins in.
const REGEX_REACH: usize = 4096;

/// A pattern, ready to be looked for.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    pub(crate) regex: Regex,
    /// How many bytes behind its first one a match may need.
    pub(crate) reach: usize,
    /// Matches may begin within others: so they may not where their ends are not known before, or each would have as many
    /// as it has bytes.
    pub(crate) overlaps: bool,
}

impl Pattern {
    /// The pattern that the user wrote.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn new(what: &SearchFor) -> Result<Self, String> {
        let text = what.pattern.as_str();
        if text.is_empty() {
            return Err("the pattern is empty".to_owned());
        }
        let (expression, unicode, reach) = if what.hex {
            let bytes = hex(text)?;
            (bytes.concat(), false, bytes.len())
        } else if what.utf16 {
            let bytes: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
            (bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect(), false, bytes.len())
        } else if what.regex {
            (text.to_owned(), false, REGEX_REACH)
        } else {
            // Letters of the other case may have more bytes.
            (regex::escape(text), true, text.len().saturating_mul(4))
        };
        let regex = RegexBuilder::new(&expression)
            .unicode(unicode)
            .case_insensitive(what.ignore_case)
            .multi_line(true)
            .build();
        // Its own messages have several lines; the last tells what is wrong.
        let wrong = |why: regex::Error| why.to_string().lines().last().unwrap_or_default().trim().to_owned();
        Ok(Self { regex: regex.map_err(wrong)?, reach, overlaps: !what.regex })
    }
}

/// An expression for each byte: `de`, `??` for any, `d?` and `?e` for those with that half.
fn hex(text: &str) -> Result<Vec<String>, String> {
    let digits: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
    let wrong = || format!("{text}: bytes are pairs of hexadecimal digits or ?");
    if digits.is_empty() || !digits.len().is_multiple_of(2) {
        return Err(wrong());
    }
    let half = |digit: char| match digit {
        '?' => Ok(None),
        digit => digit.to_digit(16).map(Some).ok_or_else(wrong),
    };
    let pairs = digits.chunks_exact(2).map(|pair| {
        let [high, low] = pair else { return Err(wrong()) };
        Ok(match (half(*high)?, half(*low)?) {
            (Some(high), Some(low)) => format!("\\x{high:x}{low:x}"),
            (Some(high), None) => format!("[\\x{high:x}0-\\x{high:x}f]"),
            (None, Some(low)) => {
                let all: String = (0..16).map(|high| format!("\\x{high:x}{low:x}")).collect();
                format!("[{all}]")
            }
            (None, None) => "[\\x00-\\xff]".to_owned(),
        })
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(what: SearchFor, bytes: &[u8]) -> Vec<(usize, usize)> {
        let pattern = Pattern::new(&what).unwrap();
        pattern.regex.find_iter(bytes).map(|found| (found.start(), found.end())).collect()
    }

    fn text(pattern: &str) -> SearchFor {
        SearchFor { pattern: pattern.to_owned(), ..SearchFor::default() }
    }

    #[test]
    fn text_is_taken_as_it_stands() {
        assert_eq!(found(text("a.b"), b"axb a.b A.B"), [(4, 7)]);
        assert_eq!(found(SearchFor { ignore_case: true, ..text("a.b") }, b"axb a.b A.B"), [(4, 7), (8, 11)]);
        assert_eq!(found(SearchFor { ignore_case: true, ..text("É") }, "\u{ff}é".as_bytes()), [(2, 4)]);
        assert_eq!(found(SearchFor { utf16: true, ..text("ab") }, b"ab a\0b\0"), [(3, 7)]);
    }

    #[test]
    fn bytes_have_wildcards() {
        let hex = |pattern| SearchFor { hex: true, ..text(pattern) };
        let bytes = [0xde, 0xad, 0x0a, 0xef, 0xde, 0xad, 0xff, 0xef];
        assert_eq!(found(hex("de ad ?? ef"), &bytes), [(0, 4), (4, 8)]);
        assert_eq!(found(hex("DEAD0?EF"), &bytes), [(0, 4)]);
        assert_eq!(found(hex("?f ?F"), &bytes), [(6, 8)]);
        for wrong in ["", "d", "de a", "zz", "0x41"] {
            assert!(Pattern::new(&hex(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn expressions_are_of_bytes() {
        let regex = |pattern| SearchFor { regex: true, ..text(pattern) };
        assert_eq!(found(regex(r"\x90\xff+"), b"\x90\xff\xff\x90"), [(0, 3)]);
        let why = Pattern::new(&regex("a(b")).unwrap_err();
        assert!(!why.contains('\n') && why.contains("unclosed"), "{why}");
    }
}
