//! Options on a monitor's command line, as QEMU and those after its manner take them.

use crate::parse;

/// The values of the option `name` (without dashes), in their order. Options take one dash or two, `--name=value` too.
pub(super) fn values<'c>(command: &'c [String], names: &[&str]) -> Vec<&'c str> {
    let mut found = Vec::new();
    let mut words = command.iter().skip(1);
    while let Some(word) = words.next() {
        let Some(option) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else { continue };
        match option.split_once('=') {
            Some((name, value)) if names.contains(&name) => found.push(value),
            None if names.contains(&option) => found.extend(words.next().map(String::as_str)),
            _ => {}
        }
    }
    found
}

/// A value of properties: `first,name=value,…`. The first may stand without a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Properties<'v> {
    pub(super) first: Option<&'v str>,
    named: Vec<(&'v str, &'v str)>,
}

impl<'v> Properties<'v> {
    /// A comma in a value is doubled: such a value is cut, which none that matters here has.
    pub(super) fn parse(value: &'v str) -> Self {
        let mut properties = Self::default();
        for (index, part) in value.split(',').enumerate() {
            match part.split_once('=') {
                Some(named) => properties.named.push(named),
                None if index == 0 => properties.first = Some(part),
                None => {}
            }
        }
        properties
    }

    /// The last of that name counts.
    pub(super) fn get(&self, name: &str) -> Option<&'v str> {
        self.named.iter().rev().find(|(has, _)| *has == name).map(|(_, value)| *value)
    }

    /// A size in bytes.
    pub(super) fn size(&self, name: &str) -> Option<u64> {
        parse::size(self.get(name)?)
    }
}

/// A size that is counted in MiB where it has no unit.
pub(super) fn mebibytes(text: &str) -> Option<u64> {
    match parse::number(text) {
        Some(count) => count.checked_mul(1 << 20),
        None => parse::size(text),
    }
}
