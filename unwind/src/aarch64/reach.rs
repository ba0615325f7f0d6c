//! From a function's start to a place in it, by all its branches: is the place reached, and what was stored where by then?

use vmc::{VirtAddr, VirtualMemory};

use super::code::{Access, Effect, decode};
use super::registers::{Registers, SP, X19, X29, X30};
use crate::reach::{Ways, reach};
use crate::row_step::RegisterFile;

/// How many instructions before a place its function's start is looked for.
const REACH: usize = 1024;
/// How many behind it are read: blocks may lie there that lead back.
const SLACK: usize = 256;
/// Words with a bit for each of them.
const SEEN: usize = (REACH + SLACK) / 64;
/// How long the straight code is that a function begins with.
const PROLOGUE: usize = 48;
/// How many places that look like a function's start are tried, the nearest first.
const TRIES: usize = 12;
/// x19 to x30.
const SAVED: usize = 12;

/// The code around a place.
pub(in crate::aarch64) struct Window {
    words: [u32; REACH + SLACK],
    len: usize,
    /// Where the words lie, and the place among them.
    start: VirtAddr,
    place: usize,
}

/// What a function has done where the place is reached. Offsets are from the stack pointer that it began with: its CFA.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::aarch64) struct Taken {
    /// The stack pointer; nothing where that cannot be followed.
    sp: Option<i64>,
    /// The frame pointer, where it is the function's own.
    fp: Option<i64>,
    /// Where x19 to x30 were stored with the values that they began with.
    saved: [Option<i64>; SAVED],
    /// Which of them got other values.
    written: u32,
    /// A register that holds a number: what is taken off the stack, where that is too much for one instruction.
    number: Option<(u16, u64)>,
}

impl Window {
    /// As much of the code around `place` as can be read, from `floor` on.
    pub(in crate::aarch64) fn around<V: VirtualMemory + ?Sized>(
        memory: &V,
        floor: VirtAddr,
        place: VirtAddr,
    ) -> Option<Self> {
        let mut bytes = [0; (REACH + SLACK) * 4];
        for reach in [REACH as u64 * 4, place.get() % 4096] {
            let start = floor.max(VirtAddr::new(place.get().saturating_sub(reach)));
            let before = usize::try_from(place.offset_from(start)?).ok()?;
            if before % 4 == 0 && memory.read(start, bytes.get_mut(..before)?).is_ok() {
                let after = bytes.get_mut(before..before.checked_add(SLACK * 4)?)?;
                let more = match memory.read(place, after) {
                    Ok(()) => SLACK * 4,
                    Err(error) => error.done.min(SLACK * 4),
                };
                let mut words = [0; REACH + SLACK];
                let (chunks, _) = bytes.as_chunks::<4>();
                for (word, chunk) in words.iter_mut().zip(chunks) {
                    *word = u32::from_le_bytes(*chunk);
                }
                return Some(Self { words, len: (before + more) / 4, start, place: before / 4 });
            }
        }
        None
    }

    fn effect(&self, at: usize) -> Option<Effect> {
        let word = self.words.get(..self.len)?.get(at)?;
        Some(decode(*word, self.start.get().wrapping_add(at as u64 * 4)))
    }

    /// What the function has done that begins at `address`, if it reaches the place.
    pub(in crate::aarch64) fn reached_from_address(&self, address: VirtAddr) -> Option<Taken> {
        let offset = usize::try_from(address.offset_from(self.start)?).ok()?;
        if offset % 4 == 0 { self.reached_from(offset / 4) } else { None }
    }

    /// What the nearest function before the place has done that stores its link or makes a frame pointer, and reaches it.
    pub(in crate::aarch64) fn reached(&self) -> Option<Taken> {
        let begins = |at: &usize| match self.effect(*at) {
            Some(Effect::Set { to: X29, from: SP, .. }) => true,
            Some(Effect::Access(access)) => {
                !access.load && access.base == SP && access.words.contains(&Some(X30))
            }
            _ => false,
        };
        let mut tried = self.place;
        let starts = (0..self.place).rev().filter(begins).map(|at| self.straight_before(at));
        let starts = starts.filter(|start| core::mem::replace(&mut tried, *start) != *start);
        let mut found = starts.take(TRIES).filter_map(|start| self.reached_from(start));
        found.next()
    }

    /// Where the straight code begins that leads to `at`.
    fn straight_before(&self, at: usize) -> usize {
        let goes_on = |at: &usize| {
            !matches!(
                self.effect(*at),
                None | Some(
                    Effect::Return(_)
                        | Effect::Jump(_)
                        | Effect::JumpAway(_)
                        | Effect::Branch(_)
                        | Effect::Call
                        | Effect::SystemCall
                        | Effect::Halt
                )
            )
        };
        (at.saturating_sub(PROLOGUE)..at).rev().take_while(goes_on).last().unwrap_or(at)
    }

    fn reached_from(&self, offset: usize) -> Option<Taken> {
        let inside = |target: u64| {
            let at = usize::try_from(target.wrapping_sub(self.start.get()) / 4).ok()?;
            (at < self.len).then_some(at)
        };
        reach::<_, SEEN>(offset, self.place, Taken::START, |at, taken| {
            let effect = self.effect(at)?;
            taken.follow(effect);
            let on = Some(at + 1);
            Some(match effect {
                Effect::Branch(target) => Ways { on, branch: inside(target) },
                Effect::Jump(target) => Ways { on: inside(target), branch: None },
                Effect::Return(_) | Effect::JumpAway(_) | Effect::Halt => Ways::default(),
                Effect::Entry if at != offset => Ways::default(),
                _ => Ways { on, branch: None },
            })
        })
    }
}

impl Taken {
    /// Where the function begins.
    const START: Self = Self { sp: Some(0), fp: None, saved: [None; SAVED], written: 0, number: None };

    /// What the function that begins at `start` has done where it has made its record: for those that always make one, near
    /// their start.
    pub(in crate::aarch64) fn with_record<V: VirtualMemory + ?Sized>(
        memory: &V,
        start: VirtAddr,
    ) -> Option<Self> {
        let mut bytes = [0; PROLOGUE * 4];
        let len = match memory.read(start, &mut bytes) {
            Ok(()) => bytes.len(),
            Err(error) => error.done,
        };
        let (words, _) = bytes.get(..len)?.as_chunks::<4>();
        let mut taken = Self::START;
        for word in words {
            match decode(u32::from_le_bytes(*word), 0) {
                Effect::Return(_) | Effect::Jump(_) | Effect::JumpAway(_) | Effect::Halt => return None,
                // What traces functions is called before there is a record, and keeps all.
                Effect::Call => {}
                effect => taken.follow(effect),
            }
            if taken.has_record() {
                return Some(taken);
            }
        }
        None
    }

    /// The CFA, where x29 points to the record.
    pub(in crate::aarch64) fn cfa_by_record(&self, fp: u64) -> Option<u64> {
        Some(fp.wrapping_add_signed(self.fp?.checked_neg()?))
    }

    fn follow(&mut self, effect: Effect) {
        match effect {
            Effect::Set { to: SP, from: SP, plus } => self.sp = self.sp.and_then(|sp| sp.checked_add(plus)),
            Effect::Set { to: SP, from: X29, plus } => self.sp = self.fp.and_then(|fp| fp.checked_add(plus)),
            Effect::Set { to: X29, from: SP, plus } => {
                self.write(1 << X29);
                self.fp = self.sp.and_then(|sp| sp.checked_add(plus));
            }
            Effect::Sum { to: SP, from: SP, other, minus } => {
                let number = self.number.filter(|(holder, _)| *holder == other);
                let plus = number.and_then(|(_, number)| {
                    let number = i64::try_from(number).ok()?;
                    if minus { number.checked_neg() } else { Some(number) }
                });
                self.sp = self.sp.zip(plus).and_then(|(sp, plus)| sp.checked_add(plus));
            }
            Effect::Set { to, .. } | Effect::Sum { to, .. } => self.write(1 << to),
            Effect::Number { to, value } => {
                self.write(1 << to);
                self.number = Some((to, value));
            }
            Effect::Part { to, value, shift } => {
                let before = self.number.filter(|(holder, _)| *holder == to);
                self.write(1 << to);
                self.number = before.map(|(_, before)| (to, before & !(0xffff << shift) | value << shift));
            }
            Effect::Write(lost) => self.write(lost),
            Effect::Access(access) => self.access(&access),
            Effect::Call => self.write(1 << X30),
            _ => {}
        }
    }

    fn write(&mut self, lost: u32) {
        self.written |= lost;
        self.number = self.number.filter(|(holder, _)| lost >> holder & 1 == 0);
        if lost >> X29 & 1 == 1 {
            self.fp = None;
        }
        if lost >> SP & 1 == 1 {
            self.sp = None;
        }
    }

    fn access(&mut self, access: &Access) {
        let base = match access.base {
            SP => self.sp,
            X29 => self.fp,
            _ => None,
        };
        let place = base.and_then(|base| base.checked_add(access.plus));
        for (number, offset) in access.words.into_iter().zip([0, 8]) {
            let Some(number) = number else { continue };
            let place = place.and_then(|place| place.checked_add(offset));
            let before = self.saved(number);
            let restores = before.is_some() && before == place;
            if access.load && restores {
                // What it began with is there again.
                self.written &= !(1 << number);
                self.save(number, None);
                self.fp = self.fp.filter(|_| number != X29);
            } else if access.load {
                self.write(1 << number);
            } else if before.is_none() && self.written >> number & 1 == 0 {
                self.save(number, place);
            }
        }
        self.write(access.lost);
        if access.moved != 0 {
            match access.base {
                SP => self.sp = self.sp.and_then(|sp| sp.checked_add(access.moved)),
                base => self.write(1 << base),
            }
        }
    }

    fn saved(&self, number: u16) -> Option<i64> {
        *self.saved.get(usize::from(number.checked_sub(X19)?))?
    }

    fn save(&mut self, number: u16, place: Option<i64>) {
        let slot = number.checked_sub(X19).and_then(|index| self.saved.get_mut(usize::from(index)));
        if let Some(slot) = slot {
            *slot = place;
        }
    }

    /// Is the return address still in x30, and the caller's frame pointer in x29?
    pub(in crate::aarch64) const fn keeps_link(&self) -> bool {
        self.written >> X30 & 1 == 0 && self.written >> X29 & 1 == 0
    }

    /// Does x29 point to where the caller's and the return address were stored?
    pub(in crate::aarch64) fn has_record(&self) -> bool {
        let [.., x29, x30] = self.saved;
        self.fp.is_some() && x29 == self.fp && x30 == self.fp.and_then(|fp| fp.checked_add(8))
    }

    /// A frame's registers as its caller's, as far as they can be known. Nothing where the return address cannot.
    pub(in crate::aarch64) fn caller<V: VirtualMemory + ?Sized>(
        &self,
        memory: &V,
        registers: &Registers,
    ) -> Option<Registers> {
        let by_sp = self.sp.map(|sp| (registers.sp().get(), sp));
        let by_fp = || Some((registers.value(X29)?, self.fp?));
        let (base, offset) = by_sp.or_else(by_fp)?;
        let cfa = base.wrapping_add_signed(offset.checked_neg()?);
        let mut caller = *registers;
        caller.keep_callee_saved();
        let mut link = if self.written >> X30 & 1 == 0 { registers.link() } else { None };
        for (number, place) in (X19..).zip(self.saved) {
            let word =
                place.and_then(|place| memory.read_u64(VirtAddr::new(cfa.wrapping_add_signed(place))).ok());
            match word {
                Some(word) if number == X30 => link = Some(word),
                Some(word) => caller.put(number, word),
                None if self.written >> number & 1 == 1 || place.is_some() => {
                    caller.forget(gimli::Register(number));
                }
                None => {}
            }
        }
        caller.put(SP, cfa);
        caller.return_to(link?);
        Some(caller)
    }
}
