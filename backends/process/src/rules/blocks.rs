//! Mappings that belong together: one block of a monitor's memory may be several mappings side by side.

use crate::maps::Map;

/// Mappings side by side, of the same file or of none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Block<'m> {
    pub(super) start: u64,
    pub(super) end: u64,
    /// Where it begins in its file.
    pub(super) offset: u64,
    /// The file; empty for anonymous memory.
    pub(super) path: &'m str,
    /// Are there pages without any access before and behind it?
    pub(super) guarded: (bool, bool),
}

impl Block<'_> {
    pub(super) const fn len(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }
}

/// The blocks of the mappings that `wanted` takes.
pub(super) fn blocks<'m>(maps: &'m [Map], wanted: impl Fn(&Map) -> bool) -> Vec<Block<'m>> {
    let is_guard = |map: &Map| !map.readable && !map.writable;
    let mut blocks: Vec<Block<'m>> = Vec::new();
    let mut before: Option<&Map> = None;
    for map in maps {
        let beside = before.filter(|before| before.end == map.start);
        if is_guard(map) {
            if let Some(last) = blocks.last_mut().filter(|last| last.end == map.start) {
                last.guarded.1 = true;
            }
        } else if wanted(map) {
            let goes_on = |last: &&mut Block<'_>| {
                let file = last.path.is_empty() || last.offset.saturating_add(last.len()) == map.offset;
                last.end == map.start && last.path == map.path && file
            };
            match blocks.last_mut().filter(goes_on) {
                Some(last) => last.end = map.end,
                None => blocks.push(Block {
                    start: map.start,
                    end: map.end,
                    offset: map.offset,
                    path: &map.path,
                    guarded: (beside.is_some_and(is_guard), false),
                }),
            }
        }
        before = Some(map);
    }
    blocks
}
