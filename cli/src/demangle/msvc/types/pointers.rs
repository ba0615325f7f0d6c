//! Pointers and references.

use super::{Qualifiers, Shape, Type};
use crate::demangle::msvc::Parser;

impl Parser<'_> {
    /// Qualifiers of a pointer itself: that it has 64 bits is not shown. Handles of C++/CX are marked, too.
    pub(super) fn pointer_qualifiers(&mut self) -> (Qualifiers, bool) {
        self.eat("E");
        let is_handle = self.eat("$A");
        let is_restrict = self.eat("I");
        let is_unaligned = self.eat("F");
        (Qualifiers { is_restrict, is_unaligned, ..Qualifiers::default() }, is_handle)
    }

    pub(super) fn pointer(&mut self) -> Option<Type> {
        let mut qualifiers = Qualifiers::default();
        let sign = if self.eat("$$Q") {
            "&&"
        } else {
            match self.take()? {
                b'A' => "&",
                letter @ b'P'..=b'S' => {
                    qualifiers.is_const = matches!(letter, b'Q' | b'S');
                    qualifiers.is_volatile = matches!(letter, b'R' | b'S');
                    "*"
                }
                _ => return None,
            }
        };
        if self.eat("6") {
            let to = self.function_of_no_name(false)?;
            return self.pointer_to(&to, "", sign, qualifiers);
        }
        let (of_pointer, is_handle) = self.pointer_qualifiers();
        qualifiers = qualifiers.or(of_pointer);
        let sign = match sign {
            "*" if is_handle => "^",
            "&" if is_handle => "%",
            sign => sign,
        };
        if sign == "*" && self.eat("8") {
            let class = self.type_name()?;
            let to = self.function_of_no_name(true)?;
            return self.pointer_to(&to, &class, sign, qualifiers);
        }
        // Qualifiers of members have other letters.
        if sign == "*" && matches!(self.peek()?, b'Q'..=b'T') {
            let (of_member, _) = self.qualifiers()?;
            let class = self.type_name()?;
            let mut to = self.plain_type()?;
            to.qualifiers = of_member;
            return self.pointer_to(&to, &class, sign, qualifiers);
        }
        let to = self.qualified_type()?;
        self.pointer_to(&to, "", sign, qualifiers)
    }

    /// A pointer or reference to a type; to a member where there is a class.
    pub(super) fn pointer_to(
        &mut self,
        to: &Type,
        class: &str,
        sign: &str,
        qualifiers: Qualifiers,
    ) -> Option<Type> {
        let left = self.left(to)?;
        let spaced = left.ends_with(|last: char| last.is_ascii_alphanumeric() || last == '>');
        let space = if spaced { " " } else { "" };
        let unaligned = if qualifiers.is_unaligned { "__unaligned " } else { "" };
        let inner = matches!(to.shape, Shape::Array | Shape::Function);
        let (open, close) = if inner { ("(", ")") } else { ("", "") };
        let colons = if class.is_empty() { "" } else { "::" };
        Some(Type {
            left: self.join(&[&left, space, unaligned, open, class, colons, sign])?,
            right: self.join(&[close, &to.right])?,
            qualifiers,
            shape: Shape::Pointer,
        })
    }
}
