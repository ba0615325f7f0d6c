//! Types that were copied out of a file, as a graph of numbers.

use alloc::string::String;
use alloc::vec::Vec;

use hashbrown::HashMap;
use vmc::Limits;
use vmc::layout::LayoutError;

use crate::graph::{Graph, Kind, Part, is_anonymous};

/// All types of a file that are described or referred to.
#[derive(Debug)]
pub(crate) struct Owned {
    pub(crate) nodes: Vec<Node>,
    pub(crate) named: HashMap<String, u32>,
    depth: usize,
    most_members: usize,
}

#[derive(Debug)]
pub(crate) enum Node {
    /// A number, an enumeration.
    Plain {
        keyword: &'static str,
        name: String,
        size: u64,
    },
    Pointer(Option<u32>),
    Array(u32, u64),
    Aggregate {
        keyword: &'static str,
        name: String,
        size: u64,
        members: Vec<(String, u64, Option<u64>, u32)>,
    },
    Function,
    Void,
    /// Another type, with a word before it: `const`, `volatile`. No word: what a declaration turned out to mean.
    Same {
        word: &'static str,
        of: u32,
    },
    Declared {
        keyword: &'static str,
        name: String,
    },
}

impl Owned {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            nodes: Vec::new(),
            named: HashMap::new(),
            depth: limits.type_depth,
            most_members: limits.type_members,
        }
    }

    /// Adds a type; its number.
    pub(crate) fn push(&mut self, node: Node) -> u32 {
        self.nodes.push(node);
        u32::try_from(self.nodes.len() - 1).unwrap_or(u32::MAX)
    }
}

impl Graph for Owned {
    type Id = u32;

    fn named(&self, name: &str) -> Option<u32> {
        self.named.get(name).copied()
    }

    fn kind(&self, id: u32) -> Result<Kind<'_, u32>, LayoutError> {
        let node = self.nodes.get(id as usize);
        let node = node.ok_or(LayoutError::Damaged { id, reason: "there is no type of this number" })?;
        Ok(match node {
            Node::Plain { keyword, name, size } => {
                Kind::Plain { keyword, name: name.as_bytes(), size: *size }
            }
            Node::Pointer(to) => Kind::Pointer(*to),
            Node::Array(of, count) => Kind::Array(*of, *count),
            Node::Same { word, of } => Kind::Qualified { word, of: Some(*of) },
            Node::Function => Kind::Function,
            Node::Void => Kind::Alias { name: b"void", of: None },
            Node::Declared { keyword, name } => Kind::Declared { keyword, name: name.as_bytes() },
            Node::Aggregate { keyword, name, size, members } => Kind::Aggregate {
                keyword,
                name: if is_anonymous(name.as_bytes()) { &[] } else { name.as_bytes() },
                size: *size,
                members: members
                    .iter()
                    .map(|(name, bits, width, of)| Part {
                        name: name.as_bytes(),
                        bit_offset: *bits,
                        bit_size: *width,
                        of: *of,
                    })
                    .collect(),
            },
        })
    }

    fn number(&self, id: u32) -> u32 {
        id
    }

    fn depth(&self) -> usize {
        self.depth
    }

    fn most_members(&self) -> usize {
        self.most_members
    }
}
