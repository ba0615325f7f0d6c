//! Types of functions.

use std::rc::Rc;

use super::{Qualifiers, Shape, Type};
use crate::demangle::msvc::{Parser, REMEMBERED};

/// A function's type.
pub(in crate::demangle::msvc) struct Function {
    /// Nothing for what has no type that it returns: constructors.
    pub(in crate::demangle::msvc) returned: Option<Type>,
    /// Its parameters in parentheses, and what follows them.
    pub(in crate::demangle::msvc) right: Rc<str>,
}

impl Parser<'_> {
    pub(super) fn function_of_no_name(&mut self, has_this: bool) -> Option<Type> {
        let function = self.function_type(has_this)?;
        let (left, right) = match &function.returned {
            None => ("".into(), Rc::clone(&function.right)),
            Some(returned) => {
                let left = self.left(returned)?;
                (self.join(&[&left, " "])?, self.join(&[&function.right, &returned.right])?)
            }
        };
        Some(Type { left, right, qualifiers: Qualifiers::default(), shape: Shape::Function })
    }

    /// A function's type; of a member that has a `this`, its qualifiers come first.
    pub(in crate::demangle::msvc) fn function_type(&mut self, has_this: bool) -> Option<Function> {
        let (mut of_this, mut reference) = (Qualifiers::default(), "");
        if has_this {
            of_this = self.pointer_qualifiers().0;
            reference = if self.eat("G") {
                " &"
            } else if self.eat("H") {
                " &&"
            } else {
                ""
            };
            of_this = of_this.or(self.qualifiers()?.0);
        }
        // How it is called is not shown.
        self.take().filter(|how| matches!(how, b'A'..=b'Q' | b'S' | b'W' | b'w'))?;
        let returned = if self.eat("@") { None } else { Some(self.marked_type()?) };
        let parameters = self.parameters()?;
        let noexcept = if self.eat("_E") {
            " noexcept"
        } else if self.eat("Z") {
            ""
        } else {
            return None;
        };
        let mut words: String = of_this.words().into_iter().map(|word| format!(" {word}")).collect();
        if of_this.is_unaligned {
            words.push_str(" __unaligned");
        }
        let right = self.join(&["(", &parameters, ")", &words, noexcept, reference])?;
        Some(Function { returned, right })
    }

    fn parameters(&mut self) -> Option<Rc<str>> {
        if self.eat("X") {
            return Some("void".into());
        }
        let mut shown: Vec<Rc<str>> = Vec::new();
        loop {
            if self.eat("@") {
                break;
            }
            if self.eat("Z") {
                shown.push("...".into());
                break;
            }
            let parameter = if let Some(number) = self.digit() {
                self.types.get(number)?.clone()
            } else {
                let before = self.text.len();
                let parameter = self.plain_type()?;
                // A single letter is no longer than what would refer to it.
                if before - self.text.len() > 1 && self.types.len() < REMEMBERED {
                    self.types.push(parameter.clone());
                }
                parameter
            };
            let parameter = self.shown(&parameter)?;
            shown.push(parameter);
        }
        let list = shown.join(", ");
        self.join(&[&list])
    }
}
