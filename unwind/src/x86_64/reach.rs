//! From a function's start to a place in it, by all its branches: is the place reached, and what was done to the stack by then?

use vmc::{VirtAddr, VirtualMemory};

use super::code::{Effect, decode};
use super::registers::{CALLEE_SAVED, RSP, Registers};
use crate::reach::{Ways, reach};

/// How far before a place its function's start is looked for.
pub(super) const REACH: usize = 4096;
/// How far behind it code is read: blocks may lie there that lead back.
const SLACK: usize = 1024;
/// Words with a bit for each byte of both.
const SEEN: usize = (REACH + SLACK) / 64 + 1;

/// The code around a place.
pub(super) struct Window {
    bytes: [u8; REACH + SLACK],
    len: usize,
    /// Where the bytes lie, and the place among them.
    pub(super) start: VirtAddr,
    place: usize,
}

/// What a function has done where the place is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    /// Bytes between the stack pointer and the return address; nothing where that cannot be followed.
    pub(super) depth: Option<u64>,
    /// How deep each register that has to be preserved was pushed; zero: it was not.
    pushed: [u64; CALLEE_SAVED.len()],
    /// Which of them got other values.
    written: [bool; CALLEE_SAVED.len()],
}

impl Window {
    /// As much of the code around `place` as can be read, from `floor` on.
    pub(super) fn around<V: VirtualMemory + ?Sized>(
        memory: &V,
        floor: VirtAddr,
        place: VirtAddr,
    ) -> Option<Self> {
        let mut window = Self { bytes: [0; REACH + SLACK], len: 0, start: place, place: 0 };
        for reach in [REACH as u64, place.get() % 4096] {
            let start = floor.max(VirtAddr::new(place.get().saturating_sub(reach)));
            let before = usize::try_from(place.offset_from(start)?).ok()?;
            if memory.read(start, window.bytes.get_mut(..before)?).is_ok() {
                let after = window.bytes.get_mut(before..before.checked_add(SLACK)?)?;
                let more = match memory.read(place, after) {
                    Ok(()) => SLACK,
                    Err(error) => error.done.min(SLACK),
                };
                window.len = before + more;
                (window.start, window.place) = (start, before);
                return Some(window);
            }
        }
        None
    }

    /// The code before the place.
    pub(super) fn before(&self) -> &[u8] {
        self.bytes.get(..self.place).unwrap_or_default()
    }

    /// What the function that begins at `offset` has done where it reaches the place; nothing where it does not.
    pub(super) fn reached_from(&self, offset: usize) -> Option<Taken> {
        let code = self.bytes.get(..self.len)?;
        let inside = |target: u64| {
            let at = usize::try_from(target.wrapping_sub(self.start.get())).ok()?;
            (at < self.len).then_some(at)
        };
        let first = Taken { depth: Some(0), ..Taken::default() };
        reach::<_, SEEN>(offset, self.place, first, |at, taken| {
            let ip = self.start.get().wrapping_add(at as u64);
            let found = code.get(at..).and_then(|code| decode(code, ip))?;
            taken.follow(found.effect);
            let on = Some(at + usize::from(found.len));
            Some(match found.effect {
                Effect::Branch(target) => Ways { on, branch: inside(target) },
                Effect::Jump(target) => Ways { on: inside(target), branch: None },
                Effect::Return(_) | Effect::JumpAway | Effect::Halt => Ways::default(),
                Effect::Entry if at != offset => Ways::default(),
                _ => Ways { on, branch: None },
            })
        })
    }
}

impl Taken {
    fn follow(&mut self, effect: Effect) {
        match effect {
            Effect::Push(register) => {
                self.depth = self.depth.and_then(|depth| depth.checked_add(8));
                let place = CALLEE_SAVED.iter().position(|number| Some(*number) == register);
                if let (Some(place), Some(depth)) = (place, self.depth)
                    && let Some(pushed) = self.pushed.get_mut(place)
                    && self.written.get(place) == Some(&false)
                    && *pushed == 0
                {
                    *pushed = depth;
                }
            }
            Effect::Pop(register) => {
                self.depth = self.depth.and_then(|depth| depth.checked_sub(8));
                self.write(register);
            }
            Effect::Drop => self.depth = self.depth.and_then(|depth| depth.checked_sub(8)),
            Effect::Set { to: RSP, from: RSP, plus } => {
                self.depth = self.depth.and_then(|depth| depth.checked_add_signed(plus.checked_neg()?));
            }
            Effect::Set { to: RSP, .. } | Effect::Load { to: RSP, .. } | Effect::Leave => self.depth = None,
            Effect::Write(one, other) if one == RSP || other == RSP => self.depth = None,
            Effect::Set { to, .. } | Effect::Load { to, .. } => self.write(to),
            Effect::Write(one, other) => {
                self.write(one);
                self.write(other);
            }
            _ => {}
        }
    }

    fn write(&mut self, register: u16) {
        let place = CALLEE_SAVED.iter().position(|number| *number == register);
        if let Some(written) = place.and_then(|place| self.written.get_mut(place)) {
            *written = true;
        }
    }

    /// Makes a frame's registers those of its caller, as far as they can be known; the return address lies at `slot`.
    pub(super) fn restore<V: VirtualMemory + ?Sized>(
        &self,
        memory: &V,
        registers: &mut Registers,
        slot: VirtAddr,
    ) {
        registers.keep_callee_saved();
        for ((number, depth), written) in CALLEE_SAVED.into_iter().zip(self.pushed).zip(self.written) {
            if depth == 0 && !written {
                continue;
            }
            let word = memory.read_u64(slot.wrapping_add(depth.wrapping_neg()));
            match word {
                Ok(word) if depth != 0 => registers.put(number, word),
                _ => registers.forget(gimli::Register(number)),
            }
        }
    }
}
