//! Epilogs: the few instructions at which a function's unwind information does not hold any more.
//!
//! Source: "x64 prolog and epilog": `add rsp, N` or `lea rsp, [frame + N]`, then pops, then `ret` or a jump out of the
//! function; nothing else may be in one. Windows reads them from the code, and so do we.

use vmc::{VirtAddr, VirtualMemory};

use super::dwarf;
use crate::x86_64::{RSP, Registers};

/// How long an epilog may be: an `add` of 7 bytes, 15 pops of 2, a jump of 7.
const LONGEST: usize = 48;

/// What is left of an epilog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Epilog {
    /// What the stack pointer becomes first.
    sp: u64,
    /// The registers that are popped then, in order (the processor's numbers).
    pops: [u8; 16],
    count: usize,
    /// Where it goes, if by a jump to a place that the code names.
    pub(super) jump: Option<VirtAddr>,
}

/// The code from an instruction on.
struct Code<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Code<'_> {
    fn peek<const N: usize>(&self) -> Option<[u8; N]> {
        self.bytes.get(self.at..self.at.checked_add(N)?)?.try_into().ok()
    }

    fn signed(&mut self, long: bool) -> Option<i64> {
        if long {
            let value = i32::from_le_bytes(self.peek()?);
            self.at += 4;
            return Some(value.into());
        }
        let [value] = self.peek()?;
        self.at += 1;
        Some(value.cast_signed().into())
    }

    /// `add rsp, N` or `lea rsp, [frame + N]`: what the stack pointer becomes.
    fn release(&mut self, registers: &Registers, frame: Option<u8>) -> Option<u64> {
        match self.peek()? {
            [0x48, long @ (0x83 | 0x81), 0xc4] => {
                self.at += 3;
                let size = self.signed(long == 0x81)?;
                Some(registers.sp().get().wrapping_add_signed(size))
            }
            [rex @ (0x48 | 0x49), 0x8d, modrm] if modrm & 0x38 == 0x20 && matches!(modrm >> 6, 1 | 2) => {
                let register = modrm & 7 | (rex & 1) << 3;
                self.at += 3;
                if modrm & 7 == 4 {
                    // A SIB byte without an index.
                    let [sib] = self.peek()?;
                    if sib != 0x24 {
                        return None;
                    }
                    self.at += 1;
                }
                if frame != Some(register) {
                    return None;
                }
                let offset = self.signed(modrm >> 6 == 2)?;
                Some(registers.value(dwarf(register))?.wrapping_add_signed(offset))
            }
            _ => None,
        }
    }

    /// `pop register`.
    fn pop(&mut self) -> Option<u8> {
        let [first, second] = self.peek().or_else(|| self.peek().map(|[first]| [first, 0]))?;
        let (register, len) = match (first, second) {
            (0x58..=0x5f, _) => (first & 7, 1),
            (0x40..=0x4f, 0x58..=0x5f) => (second & 7 | (first & 1) << 3, 2),
            _ => return None,
        };
        self.at += len;
        (register != 4).then_some(register)
    }

    /// `ret`, or a jump; `here` is the address of the first byte. What the jump names, if it names it.
    fn leave(&mut self, here: VirtAddr) -> Option<Option<VirtAddr>> {
        let [first] = self.peek()?;
        match first {
            0xc3 | 0xc2 => Some(None),
            0xf2 | 0xf3 => matches!(self.peek()?, [_, 0xc3]).then_some(None),
            0xe9 | 0xeb => {
                self.at += 1;
                let distance = self.signed(first == 0xe9)?;
                let behind = here.wrapping_add(self.at as u64);
                Some(Some(VirtAddr::new(behind.get().wrapping_add_signed(distance))))
            }
            // jmp [rip + N]: what an import is called by.
            0xff => matches!(self.peek()?, [_, 0x25]).then_some(None),
            // jmp register or jmp [register], with a prefix that marks the end of an epilog.
            0x48..=0x4f => matches!(self.peek()?, [_, 0xff, modrm] if modrm & 0x38 == 0x20).then_some(None),
            _ => None,
        }
    }
}

impl Epilog {
    /// The rest of an epilog that begins at the registers' instruction pointer, if that is one. `frame` is the function's frame
    /// register, `end` where its code ends.
    pub(super) fn read<V: VirtualMemory + ?Sized>(
        memory: &V,
        registers: &Registers,
        frame: Option<u8>,
        end: VirtAddr,
    ) -> Option<Self> {
        let here = registers.ip();
        let left = usize::try_from(end.offset_from(here)?).ok()?.min(LONGEST);
        let mut buffer = [0; LONGEST];
        let bytes = buffer.get_mut(..left)?;
        let readable = match memory.read(here, bytes) {
            Ok(()) => left,
            Err(error) => error.done,
        };
        let mut code = Code { bytes: bytes.get(..readable)?, at: 0 };
        let start = code.at;
        let released = code.release(registers, frame);
        if released.is_none() {
            code.at = start;
        }
        let mut epilog =
            Self { sp: released.unwrap_or(registers.sp().get()), pops: [0; 16], count: 0, jump: None };
        loop {
            let before = code.at;
            let Some(register) = code.pop() else {
                code.at = before;
                break;
            };
            *epilog.pops.get_mut(epilog.count)? = register;
            epilog.count += 1;
        }
        epilog.jump = code.leave(here)?;
        Some(epilog)
    }

    /// Does what is left of it: the registers when it leaves, with the return address still on the stack. Where a word could not
    /// be read, its address.
    pub(super) fn finish<V: VirtualMemory + ?Sized>(
        &self,
        memory: &V,
        registers: &mut Registers,
    ) -> Result<(), VirtAddr> {
        let mut sp = self.sp;
        for register in self.pops.iter().take(self.count) {
            let at = VirtAddr::new(sp);
            registers.put(dwarf(*register), memory.read_u64(at).map_err(|error| error.addr)?);
            sp = sp.wrapping_add(8);
        }
        registers.put(RSP, sp);
        Ok(())
    }
}
