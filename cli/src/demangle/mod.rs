//! Names as they were written: Rust (legacy and v0) and C++ (Itanium's ABI and Microsoft's), of bounded length.

mod msvc;

use cpp_demangle::{DemangleOptions, Symbol};
use std::fmt::Write;
use vmc::text::lossless;

/// Text that takes no more than its limit.
struct Capped {
    text: String,
    limit: usize,
}

impl Write for Capped {
    fn write_str(&mut self, part: &str) -> std::fmt::Result {
        if self.text.len() + part.len() > self.limit {
            return Err(std::fmt::Error);
        }
        self.text.push_str(part);
        Ok(())
    }
}

/// A symbol's name, demangled where it is mangled; as it is where that would take more than `limit` bytes.
pub(crate) fn demangle(name: &str, limit: usize) -> String {
    let mut capped = Capped { text: String::new(), limit };
    if let Ok(rust) = rustc_demangle::try_demangle(name)
        && write!(capped, "{rust:#}").is_ok()
    {
        return capped.text;
    }
    if name.starts_with('?')
        && let Some(text) = msvc::demangle(name, limit)
    {
        return text;
    }
    // A mangled name of this length is an attack or of no use to a reader.
    if name.starts_with("_Z")
        && name.len() <= limit
        && let Ok(symbol) = Symbol::new(name.as_bytes())
        && let Ok(text) = symbol.demangle_with_options(&DemangleOptions::default())
        && text.len() <= limit
    {
        return text;
    }
    cut(name, limit)
}

/// `name`, cut at `limit` bytes.
pub(crate) fn cut(name: &str, limit: usize) -> String {
    lossless(name.as_bytes().get(..limit).unwrap_or(name.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::demangle;

    #[test]
    fn rust_and_cpp_are_told_apart() {
        assert_eq!(
            demangle("_ZN4core3fmt5Write9write_str17h0123456789abcdefE", 200),
            "core::fmt::Write::write_str"
        );
        assert_eq!(demangle("_RNvCs1234_7mycrate3foo", 200), "mycrate::foo");
        assert_eq!(demangle("_ZN3lab7catcherEi", 200), "lab::catcher(int)");
        assert_eq!(demangle("?catcher@lab@@YAXH@Z", 200), "lab::catcher(int)");
        assert_eq!(demangle("?catcher@lab@@", 200), "?catcher@lab@@");
        assert_eq!(demangle("main", 200), "main");
    }

    #[test]
    fn names_of_microsofts_compiler_are_bounded() {
        assert!(demangle("??_Gtype_info@@UEAAPEAXI@Z", 200).starts_with("type_info::"));
        for hostile in [
            format!("?{}", "?$a@".repeat(2000)),
            format!("?f@@YAX{}@Z", "PEAP".repeat(2000)),
            format!("?f@@YAX{}H@Z", "PEA".repeat(330)),
            "?".repeat(900),
        ] {
            assert!(demangle(&hostile, 4000).len() <= 4000);
        }
    }

    #[test]
    fn names_that_grow_without_end_are_left_as_they_are() {
        // Each T0_ doubles what comes before it.
        let bomb = format!("_Z1fI{}E", "SaIcE".repeat(400));
        assert!(demangle(&bomb, 100).len() <= 100);
        assert_eq!(demangle("aaaaaaaaaa", 4), "aaaa");
    }
}
