//! What has no name in C++ but is a symbol all the same: operators, tables of virtual functions, type descriptors, guards.

use std::rc::Rc;

use super::Parser;
use super::names::{Plain, SymbolName};

/// Symbols whose encoding is their own. Nothing: it is none of them; an inner nothing: it is damaged.
pub(super) fn special(parser: &mut Parser<'_>) -> Option<Option<Rc<str>>> {
    for (mark, name) in [
        ("?_7", "`vftable'"),
        ("?_8", "`vbtable'"),
        ("?_S", "`local vftable'"),
        ("?_R4", "`RTTI Complete Object Locator'"),
    ] {
        if parser.eat(mark) {
            return Some(table(parser, name));
        }
    }
    for (mark, name) in [("?_R2", "`RTTI Base Class Array'"), ("?_R3", "`RTTI Class Hierarchy Descriptor'")] {
        if parser.eat(mark) {
            return Some(untyped(parser, name));
        }
    }
    for (mark, name) in [("?_B", "`local static guard'"), ("?__J", "`local static thread guard'")] {
        if parser.eat(mark) {
            return Some(guard(parser, name));
        }
    }
    for (mark, name) in [("?__E", "`dynamic initializer for "), ("?__F", "`dynamic atexit destructor for ")] {
        if parser.eat(mark) {
            return Some(initializer(parser, name));
        }
    }
    if parser.eat("?_R0") {
        return Some(type_descriptor(parser));
    }
    if parser.eat("?_R1") {
        return Some(base_class(parser));
    }
    if parser.eat("?_9") {
        return Some(virtual_call(parser));
    }
    if parser.eat("?_C@_") {
        // What it says is cut and hashed by the compiler; nobody calls it.
        parser.text = "";
        return Some(Some("`string'".into()));
    }
    None
}

fn table(parser: &mut Parser<'_>, name: &str) -> Option<Rc<str>> {
    let scopes = parser.scopes()?;
    let path = parser.path(&scopes, name)?;
    if !matches!(parser.take()?, b'6' | b'7') {
        return None;
    }
    let qualifiers = match parser.take()? {
        b'A' => "",
        b'B' => "const ",
        b'C' => "volatile ",
        b'D' => "const volatile ",
        _ => return None,
    };
    if parser.text.is_empty() || parser.eat("@") {
        return parser.join(&[qualifiers, &path]);
    }
    let of = parser.type_name()?;
    // Several bases that have one name are told apart by those that they are bases of.
    let of = if parser.text.is_empty() || parser.eat("@") { of } else { return None };
    parser.join(&[qualifiers, &path, "{for `", &of, "'}"])
}

fn untyped(parser: &mut Parser<'_>, name: &str) -> Option<Rc<str>> {
    let scopes = parser.scopes()?;
    let path = parser.path(&scopes, name)?;
    parser.eat("8").then_some(path)
}

fn guard(parser: &mut Parser<'_>, name: &str) -> Option<Rc<str>> {
    let scopes = parser.scopes()?;
    let path = parser.path(&scopes, name)?;
    if !parser.eat("4IA") && !parser.eat("5") {
        return None;
    }
    if parser.text.is_empty() {
        return Some(path);
    }
    let number = parser.number()?.to_string();
    parser.join(&[&path, "{", &number, "}"])
}

fn initializer(parser: &mut Parser<'_>, name: &str) -> Option<Rc<str>> {
    // Is it a variable that is a member of a class?
    let of_class = parser.eat("?");
    let variable = parser.symbol_name()?;
    let shown = if matches!(parser.peek()?, b'0'..=b'4') {
        let variable = parser.encoding(&variable)?;
        if !parser.eat(if of_class { "@@" } else { "@" }) {
            return None;
        }
        parser.join(&[name, "`", &variable, "''"])?
    } else if of_class {
        return None;
    } else {
        parser.join(&[name, "'", &variable.text, "''"])?
    };
    parser.encoding(&SymbolName { text: shown, is_conversion: false })
}

fn type_descriptor(parser: &mut Parser<'_>) -> Option<Rc<str>> {
    let of = parser.marked_type()?;
    let of = parser.shown(&of)?;
    if !parser.eat("@8") {
        return None;
    }
    parser.join(&[&of, " `RTTI Type Descriptor'"])
}

fn base_class(parser: &mut Parser<'_>) -> Option<Rc<str>> {
    let mut numbers = Vec::with_capacity(4);
    for _ in 0..4 {
        numbers.push(parser.number()?.to_string());
    }
    let name = format!("`RTTI Base Class Descriptor at ({})'", numbers.join(", "));
    untyped(parser, &name)
}

fn virtual_call(parser: &mut Parser<'_>) -> Option<Rc<str>> {
    let scopes = parser.scopes()?;
    if !parser.eat("$B") {
        return None;
    }
    let slot = parser.number()?;
    if !parser.eat("A") {
        return None;
    }
    parser.take()?;
    let path = parser.path(&scopes, &format!("`vcall'{{{slot}, {{flat}}}}"))?;
    parser.join(&["[thunk]: ", &path])
}

/// Operators and what the compiler makes; the `?` before them is gone past.
pub(super) fn operator(parser: &mut Parser<'_>) -> Option<Plain> {
    let first = parser.take()?;
    let name = match (first, parser.peek()) {
        (b'0', _) => return Some(Plain::Structor("")),
        (b'1', _) => return Some(Plain::Structor("~")),
        (b'B', _) => return Some(Plain::Conversion("operator".into())),
        (b'_', Some(b'_')) => {
            parser.take()?;
            match parser.take()? {
                b'K' => {
                    let name = parser.simple(false)?;
                    return parser.join(&["operator \"\"", &name]).map(Plain::Text);
                }
                second => double(second)?,
            }
        }
        (b'_', Some(_)) => underscored(parser.take()?)?,
        (letter, _) => basic(letter)?,
    };
    Some(Plain::Text(name.into()))
}

const fn basic(letter: u8) -> Option<&'static str> {
    Some(match letter {
        b'2' => "operator new",
        b'3' => "operator delete",
        b'4' => "operator=",
        b'5' => "operator>>",
        b'6' => "operator<<",
        b'7' => "operator!",
        b'8' => "operator==",
        b'9' => "operator!=",
        b'A' => "operator[]",
        b'C' => "operator->",
        b'D' => "operator*",
        b'E' => "operator++",
        b'F' => "operator--",
        b'G' => "operator-",
        b'H' => "operator+",
        b'I' => "operator&",
        b'J' => "operator->*",
        b'K' => "operator/",
        b'L' => "operator%",
        b'M' => "operator<",
        b'N' => "operator<=",
        b'O' => "operator>",
        b'P' => "operator>=",
        b'Q' => "operator,",
        b'R' => "operator()",
        b'S' => "operator~",
        b'T' => "operator^",
        b'U' => "operator|",
        b'V' => "operator&&",
        b'W' => "operator||",
        b'X' => "operator*=",
        b'Y' => "operator+=",
        b'Z' => "operator-=",
        _ => return None,
    })
}

/// Behind one `_`.
const fn underscored(letter: u8) -> Option<&'static str> {
    Some(match letter {
        b'0' => "operator/=",
        b'1' => "operator%=",
        b'2' => "operator>>=",
        b'3' => "operator<<=",
        b'4' => "operator&=",
        b'5' => "operator|=",
        b'6' => "operator^=",
        b'D' => "`vbase dtor'",
        b'E' => "`vector deleting dtor'",
        b'F' => "`default ctor closure'",
        b'G' => "`scalar deleting dtor'",
        b'H' => "`vector ctor iterator'",
        b'I' => "`vector dtor iterator'",
        b'J' => "`vector vbase ctor iterator'",
        b'K' => "`virtual displacement map'",
        b'L' => "`eh vector ctor iterator'",
        b'M' => "`eh vector dtor iterator'",
        b'N' => "`eh vector vbase ctor iterator'",
        b'O' => "`copy ctor closure'",
        b'T' => "`local vftable ctor closure'",
        b'U' => "operator new[]",
        b'V' => "operator delete[]",
        _ => return None,
    })
}

/// Behind two.
const fn double(letter: u8) -> Option<&'static str> {
    Some(match letter {
        b'A' => "`managed vector ctor iterator'",
        b'B' => "`managed vector dtor iterator'",
        b'C' => "`EH vector copy ctor iterator'",
        b'D' => "`EH vector vbase copy ctor iterator'",
        b'G' => "`vector copy ctor iterator'",
        b'H' => "`vector vbase copy constructor iterator'",
        b'I' => "`managed vector vbase copy constructor iterator'",
        b'L' => "operator co_await",
        b'M' => "operator<=>",
        _ => return None,
    })
}
