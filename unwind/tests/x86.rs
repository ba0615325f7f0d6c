//! Walks over 32-bit stacks, on call frame information made by hand.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests and their helpers may panic")]

use std::sync::Arc;

use vmc::view::{FoundBy, Stop};
use vmc::{Fault, Limits, ReadError, VirtAddr, VirtualMemory};
use vmc_unwind::gimli::X86;
use vmc_unwind::x86::Registers;
use vmc_unwind::{
    AddressSize, Cache, Frame, Module, ModuleMap, Section, Sections, UnwindTable, Unwinder, eh_frame_address,
};

const EH_FRAME: u32 = 0x8000;
const EH_FRAME_HDR: u32 = 0x7000;
const BIAS: u64 = 0xf7f0_0000;
const STACK: u64 = 0xffff_f000;

/// `.eh_frame` of 32-bit images: pointers of four bytes.
#[derive(Default)]
struct Cfi {
    bytes: Vec<u8>,
    /// Start and offset of each FDE.
    fdes: Vec<(u32, u32)>,
}

impl Cfi {
    fn entry(&mut self, id: impl FnOnce(usize) -> u32, body: &[&[u8]]) -> usize {
        let at = self.bytes.len();
        let mut rest = id(at + 4).to_le_bytes().to_vec();
        rest.extend(body.concat());
        rest.resize(rest.len().next_multiple_of(4), 0);
        self.bytes.extend((rest.len() as u32).to_le_bytes());
        self.bytes.extend(rest);
        at
    }

    /// By it the CFA is esp + 4, and the return address lies below it. Pointers are absolute, or relative to themselves.
    fn cie(&mut self, augmentation: &str, encoding: u8) -> usize {
        let tail = [0, 1, 0x7c, 8, 1, encoding, 0x0c, 4, 4, 0x88, 1];
        self.entry(|_| 0, &[&[1], augmentation.as_bytes(), &tail])
    }

    fn fde(&mut self, cie: usize, start: u32, instructions: &[u8]) {
        let field = EH_FRAME + self.bytes.len() as u32 + 8;
        let relative = self.bytes[cie..].windows(2).any(|window| window == [1, 0x1b]);
        let pointer = if relative { start.wrapping_sub(field) } else { start };
        let body: [&[u8]; 4] = [&pointer.to_le_bytes(), &0x100u32.to_le_bytes(), &[0], instructions];
        let at = self.entry(|id| (id - cie) as u32, &body);
        self.fdes.push((start, at as u32));
    }

    fn sections(&self) -> Sections {
        let mut header = vec![1, 0x1b, 0x03, 0x3b];
        header.extend((EH_FRAME - EH_FRAME_HDR - 4).to_le_bytes());
        header.extend((self.fdes.len() as u32).to_le_bytes());
        for (start, offset) in &self.fdes {
            header.extend(start.wrapping_sub(EH_FRAME_HDR).to_le_bytes());
            header.extend((EH_FRAME + offset - EH_FRAME_HDR).to_le_bytes());
        }
        let eh_frame = Section::new(EH_FRAME.into(), [&self.bytes[..], &[0; 4]].concat());
        let eh_frame_hdr = Section::new(EH_FRAME_HDR.into(), header);
        Sections { eh_frame_hdr, eh_frame, address_size: AddressSize::Four, ..Sections::default() }
    }

    fn module(&self, sections: Sections) -> ModuleMap {
        let range = VirtAddr::new(BIAS)..VirtAddr::new(BIAS + 0x10_0000);
        let table = Some(Arc::new(UnwindTable::new(sections)));
        ModuleMap::new(vec![Module { range, bias: BIAS, table, index: 0 }])
    }
}

/// Words of four bytes from an address on, up to the end of 32-bit addresses; then code.
struct Memory {
    stack: Vec<u32>,
    code: (u64, Vec<u8>),
}

impl VirtualMemory for Memory {
    fn read(&self, addr: VirtAddr, buf: &mut [u8]) -> Result<(), ReadError> {
        let stack: Vec<u8> = self.stack.iter().flat_map(|word| word.to_le_bytes()).collect();
        for (at, byte) in (addr.get()..).zip(buf) {
            let of = |base: u64, bytes: &[u8]| bytes.get(at.checked_sub(base)? as usize).copied();
            let found = of(STACK, &stack).or_else(|| of(self.code.0, &self.code.1));
            *byte = found.ok_or(ReadError::new(VirtAddr::new(at), Fault::NotMapped))?;
        }
        Ok(())
    }
}

fn walk_in(modules: &ModuleMap, memory: &Memory, ip: u32) -> (Vec<Frame<Registers>>, Stop) {
    let limits = Limits::default();
    let mut cache = Cache::new();
    let mut registers = Registers::with_all(BIAS as u32 + ip, [1; 8]);
    registers.set(X86::ESP, STACK as u32);
    let mut walk = Unwinder::new(modules, memory, &limits).walk_x86(registers, &mut cache);
    let frames = walk.by_ref().collect();
    (frames, walk.stop())
}

fn walk(cfi: &Cfi, stack: &[u32], ip: u32) -> (Vec<Frame<Registers>>, Stop) {
    let memory = Memory { stack: stack.to_vec(), code: (0, vec![]) };
    walk_in(&cfi.module(cfi.sections()), &memory, ip)
}

const BIAS_32: u32 = BIAS as u32;
/// `DW_CFA_undefined eip`.
const NO_CALLER: [u8; 2] = [0x07, 8];

#[test]
fn words_and_pointers_have_four_bytes() {
    for encoding in [0x00, 0x1b] {
        let mut cfi = Cfi::default();
        let cie = cfi.cie("zR", encoding);
        // CFA = esp + 16; edi, esi, ebx stored below the return address.
        cfi.fde(cie, 0x1000, &[0x0e, 16, 0x87, 4, 0x86, 3, 0x83, 2]);
        // CFA = ebp + 8, ebp below it: behind what the function before has pushed.
        cfi.fde(cie, 0x2000, &[0x0c, 5, 8, 0x85, 2]);
        cfi.fde(cie, 0x3000, &NO_CALLER);
        let stack = [7, 6, 3, BIAS_32 + 0x2010, 0xaa, 0xbb, 0x55, BIAS_32 + 0x3010];
        let mut sections = cfi.sections();
        assert_eq!(eh_frame_address(&sections.eh_frame_hdr, AddressSize::Four), Some(EH_FRAME.into()));
        for round in 0..2 {
            if round == 1 {
                sections.eh_frame_hdr = Section::default();
            }
            let memory = Memory { stack: stack.to_vec(), code: (0, vec![]) };
            let limits = Limits::default();
            let mut cache = Cache::new();
            let mut registers = Registers::new(BIAS_32 + 0x1020, STACK as u32);
            registers.set(X86::EBP, STACK as u32 + 24);
            let modules = cfi.module(sections.clone());
            let mut walk = Unwinder::new(&modules, &memory, &limits).walk_x86(registers, &mut cache);
            let frames: Vec<_> = walk.by_ref().collect();
            assert_eq!((frames.len(), walk.stop()), (3, Stop::End));
            let caller = frames[1].registers;
            let saved = [X86::EDI, X86::ESI, X86::EBX, X86::EAX].map(|register| caller.get(register));
            assert_eq!(saved, [Some(7), Some(6), Some(3), None]);
            assert_eq!((frames[0].cfa, frames[1].sp), (Some(frames[1].sp), VirtAddr::new(STACK + 16)));
            assert_eq!(frames[1].address.address(), VirtAddr::new(BIAS + 0x2010));
            assert_eq!(frames[2].registers.get(X86::EBP), Some(0x55));
            assert_eq!(frames[2].sp, VirtAddr::new(STACK + 32));
            assert!(frames[1..].iter().all(|frame| frame.found_by == FoundBy::Cfi));
        }
    }
}

/// As the vDSO's `__kernel_sigreturn` says it: every register by an expression, out of the frame that the kernel made.
#[test]
fn a_signal_frame_is_left_at_what_it_interrupted() {
    let mut cfi = Cfi::default();
    let cie = cfi.cie("zRS", 0);
    let breg = |offset: u8| [0x74, offset];
    // CFA = *(esp + 32); eip at esp + 60, ebp at esp + 28.
    let [[op, sp], [_, ip], [_, bp]] = [breg(32), breg(60), breg(28)];
    let rules = [0x0f, 3, op, sp, 0x06, 0x10, 8, 2, op, ip, 0x10, 5, 2, op, bp];
    cfi.fde(cie, 0x1000, &rules);
    let plain = cfi.cie("zR", 0);
    // What was interrupted stands on its first byte.
    cfi.fde(plain, 0x2000, &[]);
    cfi.fde(plain, 0x3000, &NO_CALLER);
    let mut stack: Vec<u32> = (0..32).collect();
    stack[8] = STACK as u32 + 24 * 4;
    stack[15] = BIAS_32 + 0x2000;
    stack[24] = BIAS_32 + 0x3001;
    let (frames, stop) = walk(&cfi, &stack, 0x1010);
    assert_eq!((frames.len(), stop), (3, Stop::End));
    assert!(frames[1].interrupted_by_signal && !frames[1].address.is_return_address());
    assert_eq!((frames[1].found_by, frames[1].sp), (FoundBy::SignalFrame, VirtAddr::new(STACK + 96)));
    assert_eq!(frames[1].registers.get(X86::EBP), Some(7));
    assert_eq!((frames[2].found_by, frames[2].interrupted_by_signal), (FoundBy::Cfi, false));
    // In circles: what was interrupted is the signal frame.
    stack[8] = STACK as u32;
    stack[15] = BIAS_32 + 0x1010;
    let (frames, stop) = walk(&cfi, &stack, 0x1010);
    assert_eq!((frames.len(), stop), (2, Stop::BadFrame(VirtAddr::new(BIAS + 0x1010))));
}

/// musl's restorers have no table: `rt_sigreturn` by its bytes.
#[test]
fn a_signal_return_without_a_table_is_known_by_its_code() {
    let mut cfi = Cfi::default();
    let cie = cfi.cie("zR", 0);
    cfi.fde(cie, 0x1000, &NO_CALLER);
    let mut stack = vec![0; 80];
    // siginfo and the head of ucontext; then gs, fs, es, ds, edi, esi, ebp, esp, ebx, edx, ecx, eax, trap, error, eip.
    stack[40 + 7] = STACK as u32 + 300;
    stack[40 + 14] = BIAS_32 + 0x1000;
    let code = vec![0xb8, 0xad, 0, 0, 0, 0xcd, 0x80];
    let memory = Memory { stack, code: (BIAS + 0x9000, code) };
    let (frames, stop) = walk_in(&cfi.module(cfi.sections()), &memory, 0x9000);
    assert_eq!((frames.len(), stop), (2, Stop::End));
    assert_eq!((frames[1].found_by, frames[1].sp), (FoundBy::SignalFrame, VirtAddr::new(STACK + 300)));
    let (frames, stop) = walk_in(&cfi.module(cfi.sections()), &memory, 0x9001);
    assert_eq!((frames.len(), stop), (1, Stop::NoUnwindInfo(VirtAddr::new(BIAS + 0x9001))));
}

#[test]
fn addresses_wrap_and_walks_go_up() {
    let mut cfi = Cfi::default();
    let cie = cfi.cie("zR", 0);
    // CFA = esp + 0x2000: beyond the end of the addresses, and so below.
    cfi.fde(cie, 0x1000, &[0x0e, 0x80, 0x40]);
    // CFA = esp.
    cfi.fde(cie, 0x2000, &[0x0e, 0]);
    let (frames, stop) = walk(&cfi, &[0; 8], 0x1010);
    assert_eq!(frames[0].cfa, Some(VirtAddr::new(0x1000)));
    assert_eq!((frames.len(), stop), (1, Stop::NotResident(VirtAddr::new(0xffc))));
    let (frames, stop) = walk(&cfi, &[0; 8], 0x2010);
    assert_eq!(frames.len(), 1);
    assert!(matches!(stop, Stop::NotResident(_) | Stop::BadFrame(_)), "{stop:?}");
}

/// A 64-bit image in a 32-bit walk, and the other way round, describes nothing.
#[test]
fn tables_of_the_other_kind_are_not_believed() {
    let mut cfi = Cfi::default();
    let cie = cfi.cie("zR", 0);
    cfi.fde(cie, 0x1000, &NO_CALLER);
    let wide = Sections { address_size: AddressSize::Eight, ..cfi.sections() };
    let memory = Memory { stack: vec![0; 8], code: (0, vec![]) };
    let (_, stop) = walk_in(&cfi.module(wide), &memory, 0x1010);
    let nothing = Stop::NoUnwindInfo(VirtAddr::new(BIAS + 0x1010));
    assert_eq!(stop, nothing);
    let (limits, mut cache, modules) = (Limits::default(), Cache::new(), cfi.module(cfi.sections()));
    let registers = vmc_unwind::x86_64::Registers::new(VirtAddr::new(BIAS + 0x1010), VirtAddr::new(STACK));
    let mut walk = Unwinder::new(&modules, &memory, &limits).walk(registers, &mut cache);
    assert_eq!((walk.by_ref().count(), walk.stop()), (1, nothing));
}

#[test]
fn damaged_tables_end_walks() {
    let mut cfi = Cfi::default();
    let cie = cfi.cie("zRS", 0x1b);
    cfi.fde(cie, 0x1000, &[0x0f, 3, 0x74, 32, 0x06, 0x10, 8, 2, 0x74, 60]);
    let plain = cfi.cie("zR", 0x1b);
    cfi.fde(plain, 0x2000, &[0x0e, 16, 0x87, 4]);
    let stack: Vec<u32> = (0..64).map(|index| BIAS_32 + 0x1000 * (index % 3)).collect();
    let memory = Memory { stack, code: (0, vec![]) };
    let whole = cfi.sections();
    for bit in 0..whole.eh_frame.bytes.len() * 8 {
        let mut sections = whole.clone();
        sections.eh_frame.bytes[bit / 8] ^= 1 << (bit % 8);
        for ip in [0x1010, 0x2010] {
            let (frames, _) = walk_in(&cfi.module(sections.clone()), &memory, ip);
            assert!(!frames.is_empty() && frames.len() <= Limits::default().frames);
        }
    }
}
