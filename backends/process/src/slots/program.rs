//! The two programs that run in the host's kernel, put together by hand.
//!
//! Source: `Documentation/bpf/standardization/instruction-set.rst`. Neither writes anything but the one cell of its map.

use std::os::fd::RawFd;

/// Registers.
const R0: u8 = 0;
const R1: u8 = 1;
const R2: u8 = 2;
const R3: u8 = 3;
const R6: u8 = 6;
const R7: u8 = 7;
const R8: u8 = 8;
const R10: u8 = 10;

/// Helpers (`enum bpf_func_id`).
const MAP_LOOKUP_ELEM: i32 = 1;
const PROBE_READ_KERNEL: i32 = 113;

/// Bits of `BPF_PSEUDO_MAP_FD`, in the place of a source register.
const MAP_FD: u8 = 1;

/// `struct bpf_iter__task_file`: meta, task, fd, file; each at a multiple of eight (`kernel/bpf/task_iter.c`).
const CTX_TASK: i16 = 8;
const CTX_FD: i16 = 16;
const CTX_FILE: i16 = 24;

fn instruction(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> u64 {
    u64::from(code)
        | u64::from(destination | source << 4) << 8
        | u64::from(offset.cast_unsigned()) << 16
        | u64::from(immediate.cast_unsigned()) << 32
}

fn load64(to: u8, base: u8, offset: i16) -> u64 {
    instruction(0x79, to, base, offset, 0)
}

fn load32(to: u8, base: u8, offset: i16) -> u64 {
    instruction(0x61, to, base, offset, 0)
}

fn store64(base: u8, from: u8) -> u64 {
    instruction(0x7b, base, from, 0, 0)
}

fn copy(to: u8, from: u8) -> u64 {
    instruction(0xbf, to, from, 0, 0)
}

fn set(to: u8, value: i32) -> u64 {
    instruction(0xb7, to, 0, 0, value)
}

fn add(to: u8, value: i32) -> u64 {
    instruction(0x07, to, 0, 0, value)
}

fn call(helper: i32) -> u64 {
    instruction(0x85, 0, 0, 0, helper)
}

fn jump_if_zero(register: u8, over: i16) -> u64 {
    instruction(0x15, register, 0, over, 0)
}

/// A jump where the lower half of the register is another value.
fn jump_if_not32(register: u8, value: i32, over: i16) -> u64 {
    instruction(0x56, register, 0, over, value)
}

/// A jump where the register is larger, without a sign.
fn jump_if_above(register: u8, value: i32, over: i16) -> u64 {
    instruction(0x25, register, 0, over, value)
}

fn exit() -> u64 {
    instruction(0x95, 0, 0, 0, 0)
}

/// R0 = the map's cell, or null.
fn cell(map: RawFd) -> [u64; 6] {
    [
        // The key, zero, on the stack.
        instruction(0x62, R10, 0, -4, 0),
        copy(R2, R10),
        add(R2, -4),
        instruction(0x18, R1, MAP_FD, 0, map),
        0,
        call(MAP_LOOKUP_ELEM),
    ]
}

/// Offsets of the kernel's structures that [`find`] needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct FileOffsets {
    /// `file.private_data`.
    pub(super) private_data: i16,
    /// `task_struct.tgid`, where the iterator cannot be told of which process it is.
    pub(super) tgid: Option<i16>,
}

/// For each file of a process: where it is the descriptor `fd` (of process `pid`, where that has to be looked at), its
/// `private_data` goes to the cell.
pub(super) fn find(map: RawFd, fd: i32, pid: i32, offsets: FileOffsets) -> Vec<u64> {
    let tail = {
        let mut tail = vec![load64(R6, R7, offsets.private_data)];
        tail.extend(cell(map));
        tail.extend([jump_if_zero(R0, 1), store64(R0, R6)]);
        tail
    };
    let over = |behind: usize| i16::try_from(tail.len() + behind).unwrap_or(i16::MAX);
    let mut program = Vec::new();
    if let Some(tgid) = offsets.tgid {
        program.extend([load64(R6, R1, CTX_TASK), jump_if_zero(R6, over(6))]);
        program.extend([load32(R8, R6, tgid), jump_if_not32(R8, pid, over(4))]);
    }
    program.extend([load64(R7, R1, CTX_FILE), jump_if_zero(R7, over(2))]);
    program.extend([load32(R8, R1, CTX_FD), jump_if_not32(R8, fd, over(0))]);
    program.extend(tail);
    program.extend([set(R0, 0), exit()]);
    program
}

/// Copies as many bytes as the context's second word says, at most `most`, from the kernel's address in its first to the cell;
/// returns what the copy did: 0, or an error.
pub(super) fn peek(map: RawFd, most: i32) -> Vec<u64> {
    let mut program = vec![load64(R6, R1, 0), load64(R7, R1, 8)];
    program.extend(cell(map));
    // What is returned where nothing is copied.
    program.extend([copy(R1, R0), set(R0, -1), jump_if_zero(R1, 4), jump_if_above(R7, most, 3)]);
    program.extend([copy(R2, R7), copy(R3, R6), call(PROBE_READ_KERNEL), exit()]);
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where each jump leads, by the number of the instruction.
    fn jumps(program: &[u64]) -> Vec<usize> {
        let is_jump = |word: &u64| matches!(*word as u8, 0x15 | 0x25 | 0x56);
        let targets = program.iter().enumerate().filter(|(_, word)| is_jump(word));
        targets.map(|(at, word)| at + 1 + (word >> 16) as u16 as usize).collect()
    }

    #[test]
    fn jumps_lead_to_the_end() {
        for tgid in [None, Some(0x990)] {
            let program = find(3, 9, 77, FileOffsets { private_data: 0x20, tgid });
            let end = program.len() - 2;
            assert_eq!((program[end], program[end + 1]), (set(R0, 0), exit()));
            assert!(jumps(&program).iter().all(|target| *target == end), "{:?}", jumps(&program));
        }
        let program = peek(3, 4096);
        assert_eq!(jumps(&program), [program.len() - 1; 2]);
    }

    #[test]
    fn instructions_are_encoded_as_the_standard_says() {
        // r0 = 0; exit; r2 += -4.
        assert_eq!((set(R0, 0), exit(), add(R2, -4)), (0xb7, 0x95, 0xffff_fffc_0000_0207));
        // *(u32 *)(r10 - 4) = 0, and r6 = *(u64 *)(r1 + 24).
        assert_eq!(cell(5)[0], 0xfffc_0a62);
        assert_eq!(load64(R6, R1, CTX_FILE), 0x0018_1679);
    }
}
