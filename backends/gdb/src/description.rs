//! Target descriptions: which registers a stub has, by name.
//!
//! Source: "Target Descriptions" in GDB's manual. The root is `target.xml`; `xi:include` names other documents. Registers are
//! numbered in the order in which they stand unless `regnum` says otherwise, and lie in that order in the `g` packet.

use std::collections::HashMap;

use roxmltree::{Document, Node, ParsingOptions};

/// Documents that one description may include.
const MAX_DOCUMENTS: usize = 64;
/// How deep they may include one another.
const MAX_DEPTH: usize = 8;
/// Elements of one document: aarch64's system registers are some three hundred.
const MAX_NODES: u32 = 1 << 16;
/// Registers of all documents.
const MAX_REGISTERS: usize = 1 << 14;
/// The widest register in bits: SVE's and SME's are some thousands.
const MAX_BITS: u32 = 1 << 20;

/// Where a register is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Its number, by which `p` asks for it.
    pub(crate) number: u32,
    /// Where it begins in the data of `g`, in bytes.
    pub(crate) offset: usize,
    /// Its width in bytes.
    pub(crate) size: usize,
}

/// A stub's registers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Description {
    /// `i386:x86-64`, `aarch64`.
    pub(crate) architecture: String,
    pub(crate) registers: HashMap<String, Place>,
}

impl Description {
    /// Where the register is that has one of these names, the first that there is.
    pub(crate) fn find(&self, names: &[&str]) -> Option<Place> {
        names.iter().find_map(|name| self.registers.get(*name)).copied()
    }

    /// Has it no register at all?
    pub(crate) fn is_empty(&self) -> bool {
        self.registers.is_empty()
    }

    /// Reads a description, `fetch` gives its documents.
    pub(crate) fn read<E>(
        fetch: &mut dyn FnMut(&str) -> Result<Option<String>, E>,
    ) -> Result<Result<Self, String>, E> {
        let mut reader = Reader::default();
        if let Err(what) = reader.document("target.xml", 0, fetch)? {
            return Ok(Err(what));
        }
        Ok(reader.finish())
    }

    /// A description by names and widths in bits, numbered as they stand.
    pub(crate) fn fixed(architecture: &str, names: &[(&str, u32)]) -> Self {
        let mut reader = Reader { architecture: architecture.into(), ..Reader::default() };
        for (name, bits) in names {
            reader.found.push((reader.next, (*name).into(), *bits));
            reader.next += 1;
        }
        reader.finish().unwrap_or_default()
    }
}

#[derive(Default)]
struct Reader {
    architecture: String,
    found: Vec<(u32, String, u32)>,
    next: u32,
    documents: usize,
}

impl Reader {
    fn document<E>(
        &mut self,
        name: &str,
        depth: usize,
        fetch: &mut dyn FnMut(&str) -> Result<Option<String>, E>,
    ) -> Result<Result<(), String>, E> {
        self.documents += 1;
        if self.documents > MAX_DOCUMENTS || depth > MAX_DEPTH {
            return Ok(Err("documents include one another without end".into()));
        }
        // The name becomes part of a packet.
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        {
            return Ok(Err(format!("it includes {name:?}, which is no document's name")));
        }
        let Some(text) = fetch(name)? else { return Ok(Err(format!("it has no {name}"))) };
        // A document type is usual; entities of its own are nobody's but an attacker's.
        if text.contains("<!ENTITY") {
            return Ok(Err(format!("{name} defines entities")));
        }
        // Stubs leave the declaration of the prefix to the document type, which nobody reads.
        let text = text.replace("xi:include", "include");
        let options = ParsingOptions { allow_dtd: true, nodes_limit: MAX_NODES, ..ParsingOptions::default() };
        let document = match Document::parse_with_options(&text, options) {
            Ok(document) => document,
            Err(error) => return Ok(Err(format!("{name}: {error}"))),
        };
        for node in document.root_element().descendants().filter(Node::is_element) {
            match node.tag_name().name() {
                "architecture" if self.architecture.is_empty() => {
                    self.architecture = node.text().unwrap_or_default().trim().chars().take(64).collect();
                }
                "reg" => {
                    if let Err(what) = self.register(node) {
                        return Ok(Err(format!("{name}: {what}")));
                    }
                }
                "include" => {
                    let included = node.attribute("href").unwrap_or_default();
                    if let Err(what) = self.document(included, depth + 1, fetch)? {
                        return Ok(Err(what));
                    }
                }
                _ => {}
            }
        }
        Ok(Ok(()))
    }

    fn register(&mut self, node: Node<'_, '_>) -> Result<(), String> {
        let name = node.attribute("name").ok_or("a register without a name")?;
        let bits = node.attribute("bitsize").and_then(|bits| bits.parse().ok());
        let bits = bits.filter(|bits| *bits > 0 && *bits <= MAX_BITS);
        let bits = bits.ok_or_else(|| format!("the register {} has no width", name.escape_debug()))?;
        if let Some(number) = node.attribute("regnum") {
            let number = number.parse().ok().filter(|number| *number < u32::MAX / 2);
            self.next =
                number.ok_or_else(|| format!("the register {} has no number", name.escape_debug()))?;
        }
        if self.found.len() == MAX_REGISTERS {
            return Err(format!("more than {MAX_REGISTERS} registers"));
        }
        self.found.push((self.next, name.chars().take(64).collect(), bits));
        self.next += 1;
        Ok(())
    }

    fn finish(mut self) -> Result<Description, String> {
        self.found.sort_by_key(|(number, ..)| *number);
        let mut registers = HashMap::with_capacity(self.found.len());
        let (mut offset, mut last) = (0, None);
        for (number, name, bits) in self.found {
            let size = bits.div_ceil(8) as usize;
            // Names of the same number are names of the same register.
            let place = last.filter(|last: &Place| last.number == number).unwrap_or_else(|| {
                let place = Place { number, offset, size };
                offset += size;
                place
            });
            last = Some(place);
            // Of two with the same name the first counts.
            registers.entry(name).or_insert(place);
        }
        Ok(Description { architecture: self.architecture, registers })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(documents: &[(&str, &str)]) -> Result<Description, String> {
        let mut fetch = |name: &str| {
            let found = documents.iter().find(|(known, _)| *known == name);
            Ok::<_, ()>(found.map(|(_, text)| (*text).to_owned()))
        };
        Description::read(&mut fetch).unwrap()
    }

    #[test]
    fn registers_are_found_by_name_through_includes() {
        let root = r#"<?xml version="1.0"?><!DOCTYPE target SYSTEM "gdb-target.dtd">
            <target><architecture>i386:x86-64</architecture><xi:include href="core.xml"/>
            <feature name="more"><reg name="late" bitsize="16" regnum="40"/><reg name="after" bitsize="64"/></feature></target>"#;
        let core = r#"<?xml version="1.0"?><!DOCTYPE feature SYSTEM "gdb-target.dtd"><feature name="core">
            <flags id="f" size="4"><field name="x" start="0" end="0"/></flags>
            <reg name="rax" bitsize="64"/><reg name="eflags" bitsize="32" type="f"/><reg name="st0" bitsize="80"/></feature>"#;
        let description = read(&[("target.xml", root), ("core.xml", core)]).unwrap();
        assert_eq!(description.architecture, "i386:x86-64");
        let place = |number, offset, size| Some(Place { number, offset, size });
        assert_eq!(description.find(&["rax"]), place(0, 0, 8));
        assert_eq!(description.find(&["no", "eflags"]), place(1, 8, 4));
        assert_eq!(description.find(&["st0"]), place(2, 12, 10));
        assert_eq!(description.find(&["late"]), place(40, 22, 2));
        assert_eq!(description.find(&["after"]), place(41, 24, 8));
        assert_eq!(description.find(&["x"]), None);
        let alias = r#"<t><reg name="b" bitsize="64" regnum="7"/><reg name="a" bitsize="32"/><reg name="c" bitsize="64" regnum="7"/></t>"#;
        let alias = read(&[("target.xml", alias)]).unwrap();
        assert_eq!((alias.find(&["b"]), alias.find(&["c"])), (place(7, 0, 8), place(7, 0, 8)));
        assert_eq!(alias.find(&["a"]), place(8, 8, 4));
    }

    #[test]
    fn hostile_descriptions_are_refused_in_a_line() {
        let of = |text: &str| read(&[("target.xml", text)]).unwrap_err();
        assert!(of("<target>").contains("target.xml"));
        assert!(of(r#"<target><xi:include href="target.xml"/></target>"#).contains("without end"));
        assert!(
            of(r#"<target><xi:include href="../../etc/passwd:0,1#"/></target>"#)
                .contains("no document's name")
        );
        assert!(of(r#"<target><xi:include href="gone.xml"/></target>"#).contains("no gone.xml"));
        assert!(of(r#"<!DOCTYPE t [<!ENTITY a "b">]><t>&a;</t>"#).contains("entities"));
        for wrong in [
            r#"<t><reg bitsize="64"/></t>"#,
            r#"<t><reg name="a"/></t>"#,
            r#"<t><reg name="a" bitsize="0"/></t>"#,
            r#"<t><reg name="a" bitsize="99999999"/></t>"#,
            r#"<t><reg name="a" bitsize="8" regnum="-1"/></t>"#,
            r#"<t><reg name="a" bitsize="8" regnum="4294967295"/></t>"#,
        ] {
            assert!(!of(wrong).is_empty(), "{wrong}");
        }
        let many = format!("<t>{}</t>", r#"<reg name="a" bitsize="8"/>"#.repeat(MAX_REGISTERS + 1));
        assert!(of(&many).contains("more than"));
        let nodes = format!("<t>{}</t>", "<a/>".repeat(1 << 17));
        assert!(of(&nodes).contains("limit"), "{}", of(&nodes));
        assert_eq!(read(&[]).unwrap_err(), "it has no target.xml");
    }
}
