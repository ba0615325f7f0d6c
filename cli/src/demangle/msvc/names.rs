//! Names: of symbols and of types, with the scopes that they are in and the parameters of templates.

use std::rc::Rc;

use super::{Parser, REMEMBERED};

/// The name of a symbol, its scopes included.
pub(super) struct SymbolName {
    pub(super) text: Rc<str>,
    /// Does it convert to what it returns?
    pub(super) is_conversion: bool,
}

/// A name without its scopes.
pub(super) enum Plain {
    Text(Rc<str>),
    /// What is called as its class is, with something before that.
    Structor(&'static str),
    /// What is called as the type that it returns is, behind this.
    Conversion(Rc<str>),
}

impl Parser<'_> {
    fn remember(&mut self, key: &Rc<str>, shown: &Rc<str>) {
        if self.names.len() < REMEMBERED && !self.names.iter().any(|(known, _)| known == key) {
            self.names.push((Rc::clone(key), Rc::clone(shown)));
        }
    }

    /// A name that came before.
    fn named_before(&mut self, number: usize) -> Option<Rc<str>> {
        self.names.get(number).map(|(_, shown)| Rc::clone(shown))
    }

    /// A name that stands there as it is, up to an `@`.
    pub(super) fn simple(&mut self, remember: bool) -> Option<Rc<str>> {
        let part = self.up_to('@')?;
        let name = self.join(&[part])?;
        if remember {
            self.remember(&name, &name);
        }
        Some(name)
    }

    /// The name of a symbol, and its scopes.
    pub(super) fn symbol_name(&mut self) -> Option<SymbolName> {
        let plain = self.plain_symbol_name()?;
        self.scoped(plain)
    }

    /// The scopes of a name that was read.
    pub(super) fn scoped(&mut self, plain: Plain) -> Option<SymbolName> {
        let scopes = self.scopes()?;
        let is_conversion = matches!(plain, Plain::Conversion(_));
        let name = match plain {
            Plain::Text(text) | Plain::Conversion(text) => text,
            Plain::Structor(before) => self.join(&[before, scopes.first()?])?,
        };
        Some(SymbolName { text: self.path(&scopes, &name)?, is_conversion })
    }

    /// A name behind the scopes that it is in, the innermost of which is the first.
    pub(super) fn path(&mut self, scopes: &[Rc<str>], name: &str) -> Option<Rc<str>> {
        let mut parts: Vec<&str> = Vec::with_capacity(scopes.len() * 2 + 1);
        for scope in scopes.iter().rev() {
            parts.extend([scope, "::"]);
        }
        parts.push(name);
        self.join(&parts)
    }

    fn plain_symbol_name(&mut self) -> Option<Plain> {
        if let Some(number) = self.digit() {
            return self.named_before(number).map(Plain::Text);
        }
        if self.eat("?$") {
            return self.template(true);
        }
        if self.eat("?") {
            return super::special::operator(self);
        }
        self.simple(true).map(Plain::Text)
    }

    /// The name of a type, and its scopes.
    pub(super) fn type_name(&mut self) -> Option<Rc<str>> {
        let name = self.plain_type_name()?;
        let scopes = self.scopes()?;
        self.path(&scopes, &name)
    }

    pub(super) fn plain_type_name(&mut self) -> Option<Rc<str>> {
        if let Some(number) = self.digit() {
            return self.named_before(number);
        }
        if self.eat("?$") {
            let Plain::Text(name) = self.template(false)? else { return None };
            self.remember(&name, &name);
            return Some(name);
        }
        self.simple(true)
    }

    /// The scopes of a name, from the innermost on.
    pub(super) fn scopes(&mut self) -> Option<Vec<Rc<str>>> {
        let mut scopes = Vec::new();
        while !self.eat("@") {
            let scope = self.scope()?;
            scopes.push(scope);
        }
        Some(scopes)
    }

    fn scope(&mut self) -> Option<Rc<str>> {
        if let Some(number) = self.digit() {
            return self.named_before(number);
        }
        if self.eat("?$") {
            let Plain::Text(name) = self.template(false)? else { return None };
            self.remember(&name, &name);
            return Some(name);
        }
        if self.eat("?A") {
            // Each file has one of its own; what tells them apart is not shown.
            let (key, rest) = self.text.split_once('@')?;
            self.text = rest;
            let (key, shown) = (self.join(&[key])?, Rc::from("`anonymous namespace'"));
            self.remember(&key, &shown);
            return Some(shown);
        }
        if self.eat("?Q") {
            // The interface that a member is of.
            let name = self.simple(true)?;
            return if self.eat("@") { self.join(&["[", &name, "]"]) } else { None };
        }
        if self.eat("?") {
            // The how manieth scope of a function.
            let number = self.number()?.to_string();
            if !self.eat("?") {
                return None;
            }
            let function = self.symbol()?;
            return self.join(&["`", &function, "'::`", &number, "'"]);
        }
        self.simple(true)
    }

    /// A template's name with its parameters. References within lead to what is within.
    fn template(&mut self, of_symbol: bool) -> Option<Plain> {
        self.nest(|parser| {
            let names = std::mem::take(&mut parser.names);
            let types = std::mem::take(&mut parser.types);
            let plain = parser.plain_symbol_name();
            let parameters = plain.is_some().then(|| parser.template_parameters()).flatten();
            parser.names = names;
            parser.types = types;
            match (plain?, parameters?) {
                (Plain::Text(name), parameters) => parser.join(&[&name, &parameters]).map(Plain::Text),
                // Its class comes behind it.
                (Plain::Structor(before), parameters) if of_symbol => {
                    let class = parser.ahead()?;
                    parser.join(&[before, &class, &parameters]).map(Plain::Text)
                }
                (Plain::Conversion(name), parameters) if of_symbol => {
                    parser.join(&[&name, &parameters]).map(Plain::Conversion)
                }
                _ => None,
            }
        })
    }

    /// The scope that comes next, which is not gone past.
    fn ahead(&mut self) -> Option<Rc<str>> {
        let (text, names) = (self.text, self.names.clone());
        let scope = self.scope();
        self.text = text;
        self.names = names;
        scope
    }

    fn template_parameters(&mut self) -> Option<Rc<str>> {
        let mut shown: Vec<Rc<str>> = Vec::new();
        while !self.eat("@") {
            // Where a list of any length begins, ends or is empty.
            if ["$S", "$$V", "$$$V", "$$Z"].iter().any(|mark| self.eat(mark)) {
                continue;
            }
            let parameter = self.template_parameter()?;
            shown.push(parameter);
        }
        let list = shown.join(", ");
        self.join(&["<", &list, ">"])
    }

    fn template_parameter(&mut self) -> Option<Rc<str>> {
        if self.eat("$$Y") {
            return self.type_name();
        }
        if self.eat("$$B") {
            let array = self.plain_type()?;
            return self.shown(&array);
        }
        if self.eat("$$C") {
            let constant = self.qualified_type()?;
            return self.shown(&constant);
        }
        // Where the type of a value is open, it comes first.
        let dollar = if self.eat("$M") {
            self.plain_type()?;
            ""
        } else {
            "$"
        };
        if self.eat(&format!("{dollar}0")) {
            let number = self.number()?.to_string();
            return self.join(&[&number]);
        }
        if self.text.starts_with(&format!("{dollar}E?")) {
            self.eat(&format!("{dollar}E"));
            let symbol = self.symbol()?;
            return self.join(&[&symbol]);
        }
        for (mark, offsets) in [("1", 0), ("H", 1), ("I", 2), ("J", 3)] {
            if self.eat(&format!("{dollar}{mark}")) {
                let symbol = if self.text.starts_with('?') { Some(self.member_symbol()?) } else { None };
                return self.member_pointer("&", symbol, offsets);
            }
        }
        for (mark, offsets) in [("F", 2), ("G", 3)] {
            if self.eat(&format!("{dollar}{mark}")) {
                return self.member_pointer("", None, offsets);
            }
        }
        if dollar.is_empty() {
            return None;
        }
        let plain = self.plain_type()?;
        self.shown(&plain)
    }

    /// A symbol that is a parameter; its name may be referred to.
    fn member_symbol(&mut self) -> Option<String> {
        let key = {
            let (text, names) = (self.text, self.names.clone());
            self.eat("?");
            let plain = self.nest(Self::plain_symbol_name);
            self.text = text;
            self.names = names;
            plain
        };
        let symbol = self.symbol()?;
        if let Some(Plain::Text(name)) = key {
            self.remember(&name, &name);
        }
        Some(symbol)
    }

    /// A symbol and how far `this` is moved for it.
    fn member_pointer(&mut self, before: &str, symbol: Option<String>, offsets: usize) -> Option<Rc<str>> {
        let mut parts: Vec<String> = symbol.into_iter().collect();
        for _ in 0..offsets {
            parts.push(self.number()?.to_string());
        }
        let list = parts.join(", ");
        if offsets > 0 { self.join(&["{", &list, "}"]) } else { self.join(&[before, &list]) }
    }
}
