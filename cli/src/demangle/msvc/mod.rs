//! Names of Microsoft's C++ compiler (they begin with `?`), as they were written: the name and its parameters, without return types,
//! access and calling conventions.
//!
//! Microsoft documents no grammar; what LLVM's `llvm-undname` says of a name is what the tests go by.
//!
//! A name may be hostile: references to earlier parts make texts that grow without end of few letters, and types nest. How deep they
//! may, how long a text may get and how many letters may be written in all is bounded; past that the name counts as none.

mod names;
mod special;
mod types;

use std::rc::Rc;

/// How deep names, types and lists of parameters may nest: in headers of the standard library some twenty.
const DEPTH: usize = 64;
/// References lead back to at most so many names, and so many types.
const REMEMBERED: usize = 10;
/// All texts together may have so many times the letters that the longest may have: inner ones are copied into outer ones.
const COPIES: usize = 256;

/// The name that is mangled as `name`, in at most `limit` bytes; nothing where it is not, or not in a known way.
pub(super) fn demangle(name: &str, limit: usize) -> Option<String> {
    let mut parser = Parser {
        text: name,
        names: Vec::new(),
        types: Vec::new(),
        depth: 0,
        limit,
        left: limit.saturating_mul(COPIES),
    };
    let text = parser.symbol()?;
    // What is left over was not understood.
    parser.text.is_empty().then_some(text)
}

/// A name that may be referred to: what has to differ for it to be another, and what is shown of it.
type Remembered = (Rc<str>, Rc<str>);

struct Parser<'n> {
    /// What is left of the name.
    text: &'n str,
    names: Vec<Remembered>,
    types: Vec<types::Type>,
    depth: usize,
    limit: usize,
    /// Bytes that may still be written.
    left: usize,
}

impl<'n> Parser<'n> {
    fn peek(&self) -> Option<u8> {
        self.text.bytes().next()
    }

    /// Goes past `wanted`, if that comes next.
    fn eat(&mut self, wanted: &str) -> bool {
        let rest = self.text.strip_prefix(wanted);
        self.text = rest.unwrap_or(self.text);
        rest.is_some()
    }

    /// The next byte, which is ASCII.
    fn take(&mut self) -> Option<u8> {
        let mut letters = self.text.chars();
        let letter = letters.next().filter(char::is_ascii)?;
        self.text = letters.as_str();
        u8::try_from(letter).ok()
    }

    /// All up to `end`, which is gone past, too.
    fn up_to(&mut self, end: char) -> Option<&'n str> {
        let (part, rest) = self.text.split_once(end)?;
        self.text = rest;
        (!part.is_empty()).then_some(part)
    }

    fn digit(&mut self) -> Option<usize> {
        let digit = self.peek().filter(u8::is_ascii_digit)?;
        self.take()?;
        Some(usize::from(digit - b'0'))
    }

    /// A number: one digit from 1 to 10, or hex digits from A to P.
    fn number(&mut self) -> Option<i128> {
        let negative = self.eat("?");
        let value = if let Some(digit) = self.digit() {
            digit as i128 + 1
        } else {
            let mut value = 0i128;
            loop {
                match self.take()? {
                    b'@' => break value,
                    digit @ b'A'..=b'P' => value = value << 4 | i128::from(digit - b'A'),
                    _ => return None,
                }
                if value > u64::MAX.into() {
                    return None;
                }
            }
        };
        Some(if negative { -value } else { value })
    }

    /// One text of several parts, as long as the limits allow.
    fn join(&mut self, parts: &[&str]) -> Option<Rc<str>> {
        let length = parts.iter().map(|part| part.len()).sum::<usize>();
        if length > self.limit {
            return None;
        }
        self.left = self.left.checked_sub(length)?;
        Some(parts.concat().into())
    }

    /// Does `inner` one level deeper.
    fn nest<T>(&mut self, inner: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        if self.depth >= DEPTH {
            return None;
        }
        self.depth += 1;
        let found = inner(self);
        self.depth -= 1;
        found
    }

    /// A whole symbol: its name, and what it is.
    fn symbol(&mut self) -> Option<String> {
        let text = self.nest(Self::symbol_text)?;
        Some(text.to_string())
    }

    fn symbol_text(&mut self) -> Option<Rc<str>> {
        if !self.eat("?") {
            return None;
        }
        if let Some(special) = special::special(self) {
            return special;
        }
        let name = self.symbol_name()?;
        self.encoding(&name)
    }

    /// What follows a symbol's name: whether it is a variable or a function, and of which type.
    fn encoding(&mut self, name: &names::SymbolName) -> Option<Rc<str>> {
        match self.peek()? {
            b'0'..=b'4' => {
                self.take()?;
                self.variable_type()?;
                Some(Rc::clone(&name.text))
            }
            // extern "C": nothing is said of its type.
            b'9' => {
                self.take()?;
                Some(Rc::clone(&name.text))
            }
            _ => self.function(name),
        }
    }

    fn function(&mut self, name: &names::SymbolName) -> Option<Rc<str>> {
        self.eat("$$J0");
        let (is_member, thunk) = self.function_class()?;
        let function = self.function_type(is_member)?;
        let text = if name.is_conversion {
            let to = self.shown(function.returned.as_ref()?)?;
            self.join(&[&name.text, " ", &to])?
        } else {
            Rc::clone(&name.text)
        };
        match thunk {
            None => self.join(&[&text, &function.right]),
            Some(thunk) => self.join(&["[thunk]: ", &text, &thunk, &function.right]),
        }
    }

    /// Is it a member that has a `this`? And what it does before it goes on to the function, if it is one that does so.
    fn function_class(&mut self) -> Option<(bool, Option<String>)> {
        let class = self.take()?;
        Some(match class {
            b'C' | b'D' | b'K' | b'L' | b'S' | b'T' | b'Y' | b'Z' => (false, None),
            b'G' | b'H' | b'O' | b'P' | b'W' | b'X' => {
                let by = self.number()?;
                (true, Some(format!("`adjustor{{{by}}}'")))
            }
            b'A'..=b'X' => (true, None),
            b'$' => {
                let extended = self.eat("R");
                if !matches!(self.take()?, b'0'..=b'5') {
                    return None;
                }
                let count = if extended { 4 } else { 2 };
                let mut offsets = Vec::with_capacity(count);
                for _ in 0..count {
                    // The first ones have 32 bits and a sign.
                    let offset = self.number()?;
                    let last = offsets.len() + 1 == count;
                    offsets.push(if last { offset } else { i128::from(offset as i32) }.to_string());
                }
                let kind = if extended { "vtordispex" } else { "vtordisp" };
                (true, Some(format!("`{kind}{{{}}}'", offsets.join(", "))))
            }
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests;
