//! Independent ways to the same thing: what one of them misses although it should lead there was hidden from it.

use alloc::vec::Vec;

/// What one way says of a thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// Its name, as it is printed.
    pub name: &'static str,
    /// Does it lead to the thing?
    pub found: bool,
    /// Would it have to, by what the kernel keeps there? A list of processes has no threads, a run queue no sleepers.
    pub promised: bool,
}

/// What all ways say of a thing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ways(pub Vec<Way>);

impl Ways {
    /// The names of those that should lead to it and do not.
    pub fn hidden_from(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().filter(|way| way.promised && !way.found).map(|way| way.name)
    }

    /// Is there one that should lead to it and does not?
    #[must_use]
    pub fn is_hidden(&self) -> bool {
        self.hidden_from().next().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_promised_can_be_missing() {
        let way = |name, found, promised| Way { name, found, promised };
        let ways = Ways(Vec::from([way("list", false, true), way("queue", false, false)]));
        assert_eq!(ways.hidden_from().collect::<Vec<_>>(), ["list"]);
        assert!(ways.is_hidden());
        assert!(!Ways(Vec::from([way("list", true, true), way("queue", true, false)])).is_hidden());
    }
}
