//! What a recording has found: stacks with how often they were met, their frames by number, threads, images.

use std::collections::HashMap;

use vmc::view::{BuildId, Frame, Space};
use vmc_unwind::CodeAddress;

use crate::demangle::demangle;

/// Frames, and stacks, that one recording tells apart at the most; what comes then is one frame without a name.
const MOST: usize = 1 << 22;
/// Samples that are kept one by one.
const MOST_TIMED: usize = 1 << 25;

/// An image that code lies in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Module {
    pub(crate) path: String,
    pub(crate) base: u64,
    pub(crate) build_id: Option<BuildId>,
    pub(crate) kernel: bool,
}

impl Module {
    /// The last part of its path.
    pub(crate) fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }
}

/// A place in code.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    /// The address by which it is looked up: the byte before a return address.
    pub(crate) address: u64,
    pub(crate) kernel: bool,
    /// Its function, readable.
    pub(crate) function: Option<String>,
    /// The function's name as it stands in the symbol table.
    pub(crate) raw: Option<String>,
    /// Where its function begins.
    pub(crate) start: Option<u64>,
    pub(crate) module: Option<u32>,
}

/// A thread, or a vCPU of a target without threads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Thread {
    pub(crate) pid: u32,
    pub(crate) tid: u32,
    pub(crate) name: String,
    /// The name of its process.
    pub(crate) process: String,
    /// When it was started: numbers are given again.
    pub(crate) started: u64,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) thread: u32,
    pub(crate) cpu: u32,
    pub(crate) stack: u32,
}

/// A sample by itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timed {
    pub(crate) nanoseconds: u64,
    pub(crate) key: Key,
}

/// A recording.
#[derive(Debug, Default)]
pub(crate) struct Profile {
    pub(crate) modules: Numbered<Module>,
    pub(crate) places: Numbered<Place>,
    pub(crate) threads: Numbered<Thread>,
    /// Stacks as places, innermost first.
    pub(crate) stacks: Numbered<Vec<u32>>,
    pub(crate) counts: HashMap<Key, u64>,
    /// Every sample, where somebody wants them.
    pub(crate) timed: Option<Vec<Timed>>,
    /// Samples beyond what is kept one by one.
    pub(crate) untimed: u64,
}

/// Things that are equal have one number.
#[derive(Debug)]
pub(crate) struct Numbered<T> {
    all: Vec<T>,
    numbers: HashMap<T, u32>,
}

impl<T> Default for Numbered<T> {
    fn default() -> Self {
        Self { all: Vec::new(), numbers: HashMap::new() }
    }
}

impl<T: Clone + Eq + std::hash::Hash> Numbered<T> {
    /// The number of `one`; nothing where there are too many already.
    pub(crate) fn number(&mut self, one: T) -> Option<u32> {
        if let Some(known) = self.numbers.get(&one) {
            return Some(*known);
        }
        let number = u32::try_from(self.all.len()).ok().filter(|number| (*number as usize) < MOST)?;
        self.all.push(one.clone());
        self.numbers.insert(one, number);
        Some(number)
    }

    pub(crate) fn get(&self, number: u32) -> Option<&T> {
        self.all.get(number as usize)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.all.iter()
    }
}

impl Profile {
    /// The number of a frame's place.
    pub(crate) fn place(&mut self, address: CodeAddress, frame: &Frame, limit: usize) -> Option<u32> {
        let kernel = frame.space == Space::Kernel;
        let module = frame.module.as_ref().and_then(|module| {
            self.modules.number(Module {
                path: module.path.clone(),
                base: module.base.get(),
                build_id: module.build_id.clone(),
                kernel,
            })
        });
        let raw = frame.symbol.as_ref().map(|symbol| symbol.name.clone());
        self.places.number(Place {
            address: address.address_for_lookup().get(),
            kernel,
            function: raw.as_ref().map(|raw| demangle(raw, limit)),
            raw,
            start: frame.function_start.map(vmc::VirtAddr::get),
            module,
        })
    }

    /// Counts a sample.
    pub(crate) fn count(&mut self, nanoseconds: u64, key: Key) {
        *self.counts.entry(key).or_default() += 1;
        match &mut self.timed {
            Some(timed) if timed.len() < MOST_TIMED => timed.push(Timed { nanoseconds, key }),
            Some(_) => self.untimed += 1,
            None => {}
        }
    }

    /// The samples of all stacks together.
    pub(crate) fn samples(&self) -> u64 {
        self.counts.values().sum()
    }

    /// What was counted, in an order that does not change from run to run.
    pub(crate) fn sorted(&self) -> Vec<(Key, u64)> {
        let mut counts: Vec<(Key, u64)> = self.counts.iter().map(|(key, count)| (*key, *count)).collect();
        counts.sort_unstable();
        counts
    }

    /// The image of a place.
    pub(crate) fn module_of(&self, place: &Place) -> Option<&Module> {
        self.modules.get(place.module?)
    }

    /// What a place is called where there is one line for it.
    pub(crate) fn label(&self, place: &Place) -> String {
        let module = self.module_of(place);
        match (&place.function, module) {
            (Some(function), _) => function.clone(),
            (None, Some(module)) => match place.start.and_then(|start| start.checked_sub(module.base)) {
                Some(offset) => format!("[{}+{offset:#x}]", module.name()),
                None => format!("[{}]", module.name()),
            },
            (None, None) => match place.kernel {
                true => String::from("[kernel]"),
                false => format!("[{:#x}]", place.start.unwrap_or(place.address)),
            },
        }
    }
}
