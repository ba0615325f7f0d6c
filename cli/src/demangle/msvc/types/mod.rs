//! Types: what stands before a name that has them, and what stands behind it.

mod functions;
mod pointers;

use std::rc::Rc;

use super::Parser;

/// A type, as it is declared around a name: `int (*` and `)[3]`.
#[derive(Clone)]
pub(super) struct Type {
    left: Rc<str>,
    right: Rc<str>,
    qualifiers: Qualifiers,
    shape: Shape,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Plain,
    /// Qualifiers follow the `*` without a space.
    Pointer,
    Array,
    Function,
}

/// `const` and others.
#[derive(Clone, Copy, Default)]
struct Qualifiers {
    is_const: bool,
    is_volatile: bool,
    is_restrict: bool,
    is_unaligned: bool,
}

impl Qualifiers {
    const fn or(self, other: Self) -> Self {
        Self {
            is_const: self.is_const || other.is_const,
            is_volatile: self.is_volatile || other.is_volatile,
            is_restrict: self.is_restrict || other.is_restrict,
            is_unaligned: self.is_unaligned || other.is_unaligned,
        }
    }

    /// Those that are written behind what they are of.
    fn words(self) -> Vec<&'static str> {
        let all =
            [(self.is_const, "const"), (self.is_volatile, "volatile"), (self.is_restrict, "__restrict")];
        all.into_iter().filter_map(|(is, word)| is.then_some(word)).collect()
    }
}

/// Where qualifiers of a type stand.
#[derive(Clone, Copy)]
enum Before {
    Nothing,
    Qualifiers,
    /// Qualifiers behind a `?`, or nothing.
    Marked,
}

impl Parser<'_> {
    /// A type whose qualifiers nothing says.
    pub(super) fn plain_type(&mut self) -> Option<Type> {
        self.type_with(Before::Nothing)
    }

    /// A type behind its qualifiers.
    pub(super) fn qualified_type(&mut self) -> Option<Type> {
        self.type_with(Before::Qualifiers)
    }

    /// A type that is returned, or that a descriptor is of.
    pub(super) fn marked_type(&mut self) -> Option<Type> {
        self.type_with(Before::Marked)
    }

    /// A type where no name is declared.
    pub(super) fn shown(&mut self, of: &Type) -> Option<Rc<str>> {
        let left = self.left(of)?;
        self.join(&[&left, &of.right])
    }

    /// What stands before the name, qualifiers included.
    fn left(&mut self, of: &Type) -> Option<Rc<str>> {
        let words = of.qualifiers.words();
        if words.is_empty() || of.shape == Shape::Function {
            return Some(Rc::clone(&of.left));
        }
        let space = if of.shape == Shape::Pointer { "" } else { " " };
        self.join(&[&of.left, space, &words.join(" ")])
    }

    fn type_with(&mut self, before: Before) -> Option<Type> {
        self.nest(|parser| {
            let qualifiers = match before {
                Before::Qualifiers => parser.qualifiers()?.0,
                Before::Marked if parser.eat("?") => parser.qualifiers()?.0,
                Before::Nothing | Before::Marked => Qualifiers::default(),
            };
            let mut found = parser.bare_type()?;
            found.qualifiers = found.qualifiers.or(qualifiers);
            Some(found)
        })
    }

    fn bare_type(&mut self) -> Option<Type> {
        if self.text.starts_with("$$Q") || matches!(self.peek()?, b'A' | b'P'..=b'S') {
            return self.pointer();
        }
        if self.eat("$$A8@@") {
            return self.function_of_no_name(true);
        }
        if self.eat("$$A6") {
            return self.function_of_no_name(false);
        }
        match self.peek()? {
            b'T'..=b'W' => {
                // An enumeration has the number of what it is made of, too.
                if self.take()? == b'W' {
                    self.digit()?;
                }
                let name = self.type_name()?;
                Some(Type::plain(name))
            }
            b'Y' => self.array(),
            b'?' => {
                self.take()?;
                let name = self.plain_type_name()?;
                self.eat("@").then_some(Type::plain(name))
            }
            _ => self.primitive(),
        }
    }

    fn primitive(&mut self) -> Option<Type> {
        if self.eat("$$T") {
            return Some(Type::plain("std::nullptr_t".into()));
        }
        let name = match self.take()? {
            b'X' => "void",
            b'D' => "char",
            b'C' => "signed char",
            b'E' => "unsigned char",
            b'F' => "short",
            b'G' => "unsigned short",
            b'H' => "int",
            b'I' => "unsigned int",
            b'J' => "long",
            b'K' => "unsigned long",
            b'M' => "float",
            b'N' => "double",
            b'O' => "long double",
            b'_' => match self.take()? {
                b'N' => "bool",
                b'J' => "__int64",
                b'K' => "unsigned __int64",
                b'L' => "__int128",
                b'M' => "unsigned __int128",
                b'P' => "auto",
                b'Q' => "char8_t",
                b'S' => "char16_t",
                b'T' => "decltype(auto)",
                b'U' => "char32_t",
                b'W' => "wchar_t",
                _ => return None,
            },
            _ => return None,
        };
        Some(Type::plain(name.into()))
    }

    /// Qualifiers of what is pointed to, and whether it is a member of a class.
    fn qualifiers(&mut self) -> Option<(Qualifiers, bool)> {
        let letter = self.take()?;
        let which = match letter {
            b'A'..=b'D' => letter - b'A',
            b'Q'..=b'T' => letter - b'Q',
            _ => return None,
        };
        let found =
            Qualifiers { is_const: which & 1 != 0, is_volatile: which & 2 != 0, ..Qualifiers::default() };
        Some((found, letter >= b'Q'))
    }

    fn array(&mut self) -> Option<Type> {
        self.take()?;
        let count = self.number().filter(|count| *count > 0)?;
        let mut dimensions = String::new();
        for _ in 0..count {
            let elements = self.number()?;
            // What was read is no shorter than what is written, but for zeros.
            if dimensions.len() > self.limit {
                return None;
            }
            dimensions.push_str(&if elements == 0 { "[]".to_owned() } else { format!("[{elements}]") });
        }
        let qualifiers = if self.eat("$$C") { self.qualifiers()?.0 } else { Qualifiers::default() };
        let mut element = self.plain_type()?;
        element.qualifiers = element.qualifiers.or(qualifiers);
        Some(Type {
            left: self.left(&element)?,
            right: self.join(&[&dimensions, &element.right])?,
            qualifiers: Qualifiers::default(),
            shape: Shape::Array,
        })
    }

    /// The type of a variable, which is not shown, and its qualifiers.
    pub(super) fn variable_type(&mut self) -> Option<()> {
        let of = self.plain_type()?;
        if of.shape == Shape::Pointer {
            self.pointer_qualifiers();
        }
        let (_, is_member) = self.qualifiers()?;
        // A pointer to a member says of which class once more.
        if is_member && of.shape == Shape::Pointer {
            self.type_name()?;
        }
        Some(())
    }
}

impl Type {
    fn plain(name: Rc<str>) -> Self {
        Self { left: name, right: "".into(), qualifiers: Qualifiers::default(), shape: Shape::Plain }
    }
}
