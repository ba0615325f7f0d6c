//! JSON gone through where it lies: nothing is copied, and what is passed over is only looked at for where it ends.
//!
//! Source: RFC 8259.

use alloc::format;
use alloc::vec::Vec;

use memchr::{memchr, memchr2};

use crate::error::TypesError;

/// How deep values may nest.
const DEPTH: usize = 128;

/// What is wrong, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Damage {
    pub(super) at: usize,
    pub(super) what: &'static str,
}

impl From<Damage> for TypesError {
    fn from(Damage { at, what }: Damage) -> Self {
        Self::Isf { reason: format!("{what} at byte {at}") }
    }
}

/// A string's place, without its quotation marks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) end: u32,
}

impl Span {
    /// What stands there.
    pub(super) fn of(self, text: &str) -> &str {
        text.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}

/// Somewhere in a text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'j> {
    text: &'j [u8],
    at: usize,
}

impl<'j> Cursor<'j> {
    pub(super) const fn new(text: &'j str, at: u32) -> Self {
        Self { text: text.as_bytes(), at: at as usize }
    }

    pub(super) const fn damage(&self, what: &'static str) -> Damage {
        Damage { at: self.at, what }
    }

    /// The next byte that is no white space; where it stands is where the cursor stands then.
    pub(super) fn peek(&mut self) -> Option<u8> {
        loop {
            match *self.text.get(self.at)? {
                b' ' | b'\n' | b'\r' | b'\t' => self.at += 1,
                byte => return Some(byte),
            }
        }
    }

    /// Where the next value begins.
    pub(super) fn place(&mut self) -> u32 {
        self.peek();
        u32::try_from(self.at).unwrap_or(u32::MAX)
    }

    fn eat(&mut self, wanted: u8, what: &'static str) -> Result<(), Damage> {
        if self.peek() != Some(wanted) {
            return Err(self.damage(what));
        }
        self.at += 1;
        Ok(())
    }

    /// A string. Escapes are left as they are.
    pub(super) fn string(&mut self) -> Result<Span, Damage> {
        self.eat(b'"', "a string is missing")?;
        let start = self.at;
        let open = Damage { at: start, what: "a string without end" };
        loop {
            let rest = self.text.get(self.at..).ok_or(open)?;
            let found = memchr2(b'"', b'\\', rest).ok_or(open)?;
            let end = self.at + found;
            if rest.get(found) == Some(&b'"') {
                self.at = end + 1;
                let place = |at: usize| u32::try_from(at).map_err(|_| open);
                return Ok(Span { start: place(start)?, end: place(end)? });
            }
            self.at = end + 2;
        }
    }

    /// The members of an object: `each` gets their names and has to go past their values.
    pub(super) fn object(
        &mut self,
        mut each: impl FnMut(&mut Self, Span) -> Result<(), Damage>,
    ) -> Result<(), Damage> {
        self.eat(b'{', "an object is missing")?;
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            let name = self.string()?;
            self.eat(b':', "a colon is missing")?;
            each(self, name)?;
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(self.damage("an object without end")),
            }
        }
    }

    /// A whole number.
    pub(super) fn number(&mut self) -> Result<i128, Damage> {
        let negative = self.peek() == Some(b'-');
        self.at += usize::from(negative);
        let digits = self.at;
        let mut value = 0i128;
        while let Some(digit) = self.text.get(self.at).filter(|byte| byte.is_ascii_digit()) {
            value = value.saturating_mul(10).saturating_add(i128::from(digit - b'0'));
            self.at += 1;
        }
        if digits == self.at || matches!(self.text.get(self.at), Some(b'.' | b'e' | b'E')) {
            return Err(self.damage("a whole number is missing"));
        }
        Ok(if negative { -value } else { value })
    }

    /// A size, an offset or an address.
    pub(super) fn unsigned(&mut self) -> Result<u64, Damage> {
        let damage = self.damage("a number from 0 to 2^64 is missing");
        self.number().and_then(|value| u64::try_from(value).map_err(|_| damage))
    }

    /// `true` or `false`.
    pub(super) fn boolean(&mut self) -> Result<bool, Damage> {
        let is = self.peek() == Some(b't');
        let word: &[u8] = if is { b"true" } else { b"false" };
        self.word(word).map(|()| is)
    }

    fn word(&mut self, word: &[u8]) -> Result<(), Damage> {
        if !self.text.get(self.at..).is_some_and(|rest| rest.starts_with(word)) {
            return Err(self.damage("a value is missing"));
        }
        self.at += word.len();
        Ok(())
    }

    /// Goes past a value. Within it only brackets and strings are looked at.
    pub(super) fn skip(&mut self) -> Result<(), Damage> {
        let start = self.damage("a value without end");
        match self.peek() {
            Some(b'"') => return self.string().map(|_| ()),
            Some(b'{' | b'[') => {}
            Some(b't' | b'f') => return self.boolean().map(|_| ()),
            Some(b'n') => return self.word(b"null"),
            Some(b'-' | b'0'..=b'9') => {
                let more = |byte: &&u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
                self.at += self.text.iter().skip(self.at).take_while(more).count();
                return Ok(());
            }
            _ => return Err(self.damage("a value is missing")),
        }
        // One bit for each bracket that is open: is it a curly one?
        let (mut curly, mut depth) = (0u128, 0usize);
        while let Some(byte) = self.text.get(self.at) {
            match byte {
                b'"' => {
                    self.string()?;
                    continue;
                }
                b'{' | b'[' => {
                    depth += 1;
                    if depth > DEPTH {
                        return Err(self.damage("values nest too deep"));
                    }
                    curly = curly << 1 | u128::from(*byte == b'{');
                }
                b'}' | b']' => {
                    if (curly & 1 == 1) != (*byte == b'}') {
                        return Err(self.damage("brackets of two kinds"));
                    }
                    curly >>= 1;
                    depth -= 1;
                    if depth == 0 {
                        self.at += 1;
                        return Ok(());
                    }
                }
                _ => {}
            }
            self.at += 1;
        }
        Err(start)
    }

    /// Nothing may follow.
    pub(super) fn end(&mut self) -> Result<(), Damage> {
        if self.peek().is_some() { Err(self.damage("more than one value")) } else { Ok(()) }
    }
}

/// Letters that were escaped without need (`\u003c` in names) as they are; escapes that have to be stay.
pub(super) fn plain(json: Vec<u8>) -> Vec<u8> {
    let mut plain = Vec::new();
    // What is copied, and what was looked at.
    let (mut copied, mut at) = (0, 0);
    while let Some(found) = json.get(at..).and_then(|rest| memchr(b'\\', rest)) {
        at += found;
        let (letter, length) = match json.get(at..) {
            Some([_, b'u', a, b, c, d, ..]) => (letter([*a, *b, *c, *d]), 6),
            Some([_, b'/', ..]) => (Some('/'), 2),
            _ => (None, 2),
        };
        let Some(letter) = letter else {
            at += 2;
            continue;
        };
        plain.extend_from_slice(json.get(copied..at).unwrap_or_default());
        plain.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
        at += length;
        copied = at;
    }
    if copied == 0 {
        return json;
    }
    plain.extend_from_slice(json.get(copied..).unwrap_or_default());
    plain
}

/// The letter of four hex digits, if it need not be escaped and is no half of one.
fn letter(digits: [u8; 4]) -> Option<char> {
    let code = digits.iter().try_fold(0, |code, digit| Some(code << 4 | char::from(*digit).to_digit(16)?))?;
    char::from_u32(code).filter(|letter| !letter.is_control() && !matches!(letter, '"' | '\\'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;

    fn skipped(text: &str) -> Result<u32, &'static str> {
        let mut cursor = Cursor::new(text, 0);
        cursor.skip().map(|()| cursor.place()).map_err(|damage| damage.what)
    }

    #[test]
    fn values_end_where_they_end() {
        for text in ["{}", "[]", r#""a\"]b""#, "12.5e-3", "null", "true", r#"{"a\\": [1, "}{"], "b": {}}"#] {
            assert_eq!(skipped(text), Ok(u32::try_from(text.len()).unwrap()), "{text}");
            for cut in 0..text.len() {
                // A part of a number is one.
                assert!(
                    skipped(text.get(..cut).unwrap()).is_err() || text.starts_with('1'),
                    "{text} up to {cut}"
                );
            }
        }
        assert_eq!(skipped("[}"), Err("brackets of two kinds"));
        assert_eq!(skipped("]"), Err("a value is missing"));
        assert!(skipped(&("[".repeat(128) + &"]".repeat(128))).is_ok());
        assert_eq!(skipped(&"[".repeat(129)), Err("values nest too deep"));
    }

    #[test]
    fn numbers_are_whole() {
        let number = |text| Cursor::new(text, 0).number().ok();
        assert_eq!(number(" -12,"), Some(-12));
        assert_eq!(number("18446744073709551615"), Some(u64::MAX.into()));
        assert_eq!([number("1.5"), number("-"), number("x"), number("1e3")], [None; 4]);
        assert!(Cursor::new("-1", 0).unsigned().is_err());
        assert!(Cursor::new("18446744073709551616", 0).unsigned().is_err());
        assert!(Cursor::new(&"9".repeat(60), 0).unsigned().is_err());
    }

    #[test]
    fn escapes_without_need_are_undone() {
        let undone = |text: &str| String::from_utf8(plain(text.into())).unwrap();
        assert_eq!(undone(r#""Option\u003cT\u003E\/\u00e9""#), r#""Option<T>/é""#);
        for kept in [r#""\u0022\u005c\u000a\ud83d\n\"""#, r#""\u12"#, "\"\\", r#""\\u0041""#, r#""\u+041""#] {
            assert_eq!(undone(kept), kept);
        }
    }
}
