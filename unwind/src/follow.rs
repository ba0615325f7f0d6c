//! Following code from where a frame stands to its function's return: what is the same on every architecture.
//!
//! Whatever a function does, when it returns the stack pointer stands where its caller's will (or at its return address) and the
//! registers that it had to preserve hold its caller's values. So the way there from where the frame stands tells what unwind
//! information would: what is taken off the stack, and which registers are loaded from it. Nothing is guessed: an instruction
//! that cannot be followed ends the attempt.

use vmc::{VirtAddr, VirtualMemory};

use crate::row_step::RegisterFile;

/// How many places a function's jumps lead to: each is gone to once.
const PLACES: usize = 192;
/// How many of them may wait while one is followed.
const WAITING: usize = 48;

/// A caller, and how it was come by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Returned<R> {
    pub(crate) registers: R,
    /// Did the stack pointer come from the frame pointer?
    pub(crate) by_frame_pointer: bool,
}

/// Where the machine stands on one way through the code.
#[derive(Clone, Copy, Debug)]
pub(crate) struct State<R> {
    pub(crate) ip: u64,
    pub(crate) registers: R,
    pub(crate) by_frame_pointer: bool,
    pub(crate) pushed: Pushed,
}

/// What the code has put onto the stack since the start, by address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pushed {
    /// Nothing: what was put there is not known.
    words: [(u64, Option<u64>); 12],
    next: usize,
    /// The stack pointer at the start: words below it are not what the code will have put there.
    floor: u64,
}

impl Pushed {
    pub(crate) fn put(&mut self, at: u64, value: u64) {
        self.keep(at, Some(value));
    }

    /// What is put there is not known, or nothing that a caller wants back.
    pub(crate) fn lose(&mut self, at: u64) {
        // Below the start nothing is read but what was put there.
        if at >= self.floor || self.get(at).is_some() {
            self.keep(at, None);
        }
    }

    fn keep(&mut self, at: u64, value: Option<u64>) {
        if let Some(word) = self.words.get_mut(self.next) {
            *word = (at, value);
            self.next = (self.next + 1) % self.words.len();
        }
    }

    fn get(&self, at: u64) -> Option<Option<u64>> {
        // The newest first: a slot may have been used twice.
        let (newer, older) = self.words.split_at_checked(self.next)?;
        let found = newer.iter().rev().chain(older.iter().rev()).find(|(place, _)| *place == at && at != 0);
        found.map(|(_, value)| *value)
    }

    /// Did the stack pointer start above?
    pub(crate) const fn is_below_start(&self, sp: u64) -> bool {
        sp < self.floor
    }

    /// A register becomes a word of memory; unknown, where that is not to be had.
    pub(crate) fn load<R: RegisterFile, V: VirtualMemory + ?Sized>(
        &self,
        memory: &V,
        registers: &mut R,
        number: u16,
        at: u64,
    ) {
        let value = match self.get(at) {
            Some(value) => value,
            None if at >= self.floor => memory.read_u64(VirtAddr::new(at)).ok(),
            None => None,
        };
        match value {
            Some(value) => registers.put(number, value),
            None => registers.forget(number),
        }
    }
}

/// What comes after an instruction.
pub(crate) enum Next<R> {
    /// The one at the state's address.
    On,
    /// That, or the one at this address.
    Fork(u64),
    /// The caller.
    Returned(R),
    /// Nothing that could be followed.
    Nowhere,
}

/// Targets of jumps that were gone to.
#[derive(Debug)]
pub(crate) struct Places {
    targets: [u64; PLACES],
    count: usize,
}

impl Places {
    /// Remembers a target; says whether it is one not seen before, and there was room for it.
    pub(crate) fn is_new(&mut self, target: u64) -> bool {
        if self.targets.iter().take(self.count).any(|known| *known == target) {
            return false;
        }
        let Some(place) = self.targets.get_mut(self.count) else { return false };
        *place = target;
        self.count += 1;
        true
    }
}

/// Follows the code from `registers` on to a return, in at most `steps` instructions. `step` does the one at the state's
/// address.
pub(crate) fn to_return<R: RegisterFile>(
    registers: &R,
    steps: u32,
    step: impl Fn(&mut State<R>, &mut Places) -> Next<R>,
) -> Option<Returned<R>> {
    let pushed = Pushed { words: [(0, None); 12], next: 0, floor: registers.sp().get() };
    let start = State { ip: registers.ip().get(), registers: *registers, by_frame_pointer: false, pushed };
    let mut places = Places { targets: [0; PLACES], count: 0 };
    let mut left = steps;
    // The ways that were not taken at branches; one is tried when the way before it leads nowhere.
    let mut open = [start; WAITING];
    let mut count = 1;
    while let Some(next) = usize::checked_sub(count, 1) {
        count = next;
        let mut state = *open.get(count)?;
        loop {
            left = left.checked_sub(1)?;
            match step(&mut state, &mut places) {
                Next::On => {}
                Next::Fork(target) => {
                    if let Some(place) = open.get_mut(count)
                        && places.is_new(target)
                    {
                        *place = State { ip: target, ..state };
                        count += 1;
                    }
                }
                Next::Returned(registers) => {
                    return Some(Returned { registers, by_frame_pointer: state.by_frame_pointer });
                }
                Next::Nowhere => break,
            }
        }
    }
    None
}
