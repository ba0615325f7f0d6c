//! A vCPU's registers out of a stub's: by name, from `g` where it holds them, else one by one by `p`.
//!
//! Names: `gdb-xml/i386-64bit.xml` of QEMU; `aarch64-core.xml` and the system registers that QEMU describes as it runs
//! (SCTLR_EL1 and VBAR_EL1 stand there without their level). A stub may know fewer.

use vmc::arch::{aarch64, x86_64};
use vmc::{Architecture, Registers};

use crate::description::{Description, Place};
use crate::error::LinkError;
use crate::link::Link;
use crate::packet::unhex;

/// In the order of DWARF's numbers.
const X86_GENERAL: [&str; 16] = [
    "rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
    "r15",
];

/// GDB's registers of x86_64 in the order in which it numbers them, for stubs that name the architecture alone.
const X86_STANDARD: [(&str, u32); 24] = [
    ("rax", 64),
    ("rbx", 64),
    ("rcx", 64),
    ("rdx", 64),
    ("rsi", 64),
    ("rdi", 64),
    ("rbp", 64),
    ("rsp", 64),
    ("r8", 64),
    ("r9", 64),
    ("r10", 64),
    ("r11", 64),
    ("r12", 64),
    ("r13", 64),
    ("r14", 64),
    ("r15", 64),
    ("rip", 64),
    ("eflags", 32),
    ("cs", 32),
    ("ss", 32),
    ("ds", 32),
    ("es", 32),
    ("fs", 32),
    ("gs", 32),
];

/// x0 to x30.
const A64_GENERAL: [&str; 31] = [
    "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15",
    "x16", "x17", "x18", "x19", "x20", "x21", "x22", "x23", "x24", "x25", "x26", "x27", "x28", "x29", "x30",
];

/// Registers of an architecture, and where a stub has them.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    architecture: Architecture,
    /// Each register that is wanted, in the order in which it is put together; `None` where the stub has none such.
    places: Vec<Option<Place>>,
}

/// What vmc's registers are made of beyond the general ones, each with the names that stubs have for it.
const X86_MORE: [&[&str]; 11] = [
    &["rip"],
    &["eflags", "rflags"],
    &["cs"],
    &["ss"],
    &["fs_base"],
    &["gs_base"],
    &["k_gs_base", "kernel_gs_base"],
    &["cr0"],
    &["cr2"],
    &["cr3"],
    &["cr4"],
];
const A64_MORE: [&[&str]; 12] = [
    &["sp"],
    &["pc"],
    &["cpsr", "pstate"],
    &["TTBR0_EL1"],
    &["TTBR1_EL1"],
    &["TCR_EL1"],
    &["SP_EL0"],
    &["SP_EL1"],
    &["TPIDR_EL0"],
    &["TPIDR_EL1"],
    &["VBAR", "VBAR_EL1"],
    &["MAIR_EL1"],
];

impl Plan {
    /// Looks up what is wanted. What is wrong is told in a word: the architecture, or the register that has to be there.
    pub(crate) fn new(description: &Description) -> Result<Self, String> {
        let standard;
        let (architecture, description) = match description.architecture.as_str() {
            "i386:x86-64" if description.is_empty() => {
                standard = Description::fixed("i386:x86-64", &X86_STANDARD);
                (Architecture::X86_64, &standard)
            }
            "i386:x86-64" => (Architecture::X86_64, description),
            "aarch64" => (Architecture::Aarch64, description),
            other => return Err(other.into()),
        };
        let (general, more): (&[&str], &[&[&str]]) = match architecture {
            Architecture::X86_64 => (&X86_GENERAL, &X86_MORE),
            Architecture::Aarch64 => (&A64_GENERAL, &A64_MORE),
        };
        let mut places: Vec<Option<Place>> = general.iter().map(|name| description.find(&[name])).collect();
        places.extend(more.iter().map(|names| description.find(names)));
        Ok(Self { architecture, places })
    }

    /// The names of those that the stub does not have.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        let (general, more): (&[&'static str], &[&[&'static str]]) = match self.architecture {
            Architecture::X86_64 => (&X86_GENERAL, &X86_MORE),
            Architecture::Aarch64 => (&A64_GENERAL, &A64_MORE),
        };
        let names = general.iter().copied().chain(more.iter().filter_map(|names| names.first().copied()));
        names.zip(&self.places).filter(|(_, place)| place.is_none()).map(|(name, _)| name).collect()
    }

    /// The registers out of an answer to `g`, where that holds all of them.
    pub(crate) fn in_general(&self, answer: &[u8]) -> Option<Registers> {
        let all = general(answer)?;
        if self.places.iter().flatten().any(|place| place.offset >= all.len()) {
            return None;
        }
        let values: Vec<Option<u64>> =
            self.places.iter().map(|place| place.and_then(|place| in_data(&all, place))).collect();
        self.assemble(&values)
    }

    /// Reads the registers of the vCPU that the stub has selected.
    pub(crate) fn read(&self, link: &mut Link) -> Result<Registers, LinkError> {
        let answer = link.ask(b"g")?;
        let all = general(&answer).ok_or_else(|| link.answer_error(b"g", &answer))?;
        let mut values: Vec<Option<u64>> =
            self.places.iter().map(|place| place.and_then(|place| in_data(&all, place))).collect();
        // What `g` does not reach is asked for one by one.
        let rest: Vec<(usize, Place)> = (self.places.iter().enumerate())
            .filter_map(|(index, place)| {
                place.filter(|place| place.offset >= all.len()).map(|place| (index, place))
            })
            .collect();
        link.ask_all(
            rest.len(),
            &mut |at, out| {
                let number = rest.get(at).map_or(0, |(_, place)| place.number);
                out.extend_from_slice(format!("p{number:x}").as_bytes());
            },
            &mut |at, answer| {
                // Refused (an error, or nothing): this one is not to be had.
                if let Some(((index, place), data)) = rest.get(at).zip(general(&answer))
                    && let Some(slot) = values.get_mut(*index)
                {
                    *slot = in_data(&data, Place { offset: 0, ..*place });
                }
                Ok(())
            },
        )?;
        self.assemble(&values).ok_or_else(|| link.answer_error(b"g", b"registers without a program counter"))
    }

    /// Puts them together; those that are not known are zero, or absent where that can be said.
    fn assemble(&self, values: &[Option<u64>]) -> Option<Registers> {
        match self.architecture {
            Architecture::X86_64 => {
                let (general, more) = values.split_at_checked(X86_GENERAL.len())?;
                let [rip, rflags, cs, ss, fs_base, gs_base, kernel_gs_base, cr0, cr2, cr3, cr4] = *more
                else {
                    return None;
                };
                let mut registers = x86_64::Registers {
                    rip: rip?,
                    rflags: rflags.unwrap_or(0),
                    cs: (cs.unwrap_or(0) & 0xffff) as u16,
                    ss: (ss.unwrap_or(0) & 0xffff) as u16,
                    fs_base: fs_base.unwrap_or(0),
                    gs_base: gs_base.unwrap_or(0),
                    kernel_gs_base,
                    cr0: cr0.unwrap_or(0),
                    cr2: cr2.unwrap_or(0),
                    cr3: cr3.unwrap_or(0),
                    cr4: cr4.unwrap_or(0),
                    ..x86_64::Registers::default()
                };
                fill(&mut registers.general, general);
                Some(Registers::X86_64(registers))
            }
            Architecture::Aarch64 => {
                let (general, more) = values.split_at_checked(A64_GENERAL.len())?;
                let [sp, pc, pstate, ttbr0, ttbr1, tcr, sp_el0, sp_el1, tpidr_el0, tpidr_el1, vbar, mair] =
                    *more
                else {
                    return None;
                };
                let mut registers = aarch64::Registers {
                    sp: sp.unwrap_or(0),
                    pc: pc?,
                    pstate: pstate.unwrap_or(0),
                    ttbr0,
                    ttbr1,
                    tcr,
                    sp_el0,
                    sp_el1,
                    tpidr_el0,
                    tpidr_el1,
                    vbar,
                    mair,
                    ..aarch64::Registers::default()
                };
                fill(&mut registers.x, general);
                // The stack pointer in use is in `sp`; QEMU has its own level's register as of the last change of levels.
                match registers.pstate & 0x1f {
                    // EL0t and EL1t use SP_EL0, EL1h uses SP_EL1.
                    0 | 4 => registers.sp_el0 = sp.or(sp_el0),
                    5 => registers.sp_el1 = sp.or(sp_el1),
                    _ => {}
                }
                Some(Registers::Aarch64(registers))
            }
        }
    }
}

fn fill(slots: &mut [u64], values: &[Option<u64>]) {
    for (slot, value) in slots.iter_mut().zip(values) {
        *slot = value.unwrap_or(0);
    }
}

/// The bytes of a packet of registers; `None` for those that are unavailable (`xx`). `None` for the whole where it is none.
fn general(answer: &[u8]) -> Option<Vec<Option<u8>>> {
    if answer.is_empty() {
        return None;
    }
    let (pairs, rest) = answer.as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    let byte = |pair: &[u8; 2]| match pair {
        b"xx" => Some(None),
        pair => unhex(pair).and_then(|bytes| bytes.first().copied()).map(Some),
    };
    pairs.iter().map(byte).collect()
}

/// A register's value; the low 64 bits of a wider one.
fn in_data(data: &[Option<u8>], place: Place) -> Option<u64> {
    let bytes = data.get(place.offset..place.offset.checked_add(place.size)?)?;
    let low = bytes.get(..place.size.min(8))?;
    low.iter().rev().try_fold(0u64, |value, byte| Some(value << 8 | u64::from((*byte)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_are_little_endian_and_may_be_unavailable() {
        let data = general(b"0102030405060708ffxx").unwrap();
        let place = |offset, size| Place { number: 0, offset, size };
        assert_eq!(in_data(&data, place(0, 8)), Some(0x0807_0605_0403_0201));
        assert_eq!(
            (in_data(&data, place(2, 2)), in_data(&data, place(0, 10))),
            (Some(0x0403), Some(0x0807_0605_0403_0201))
        );
        assert_eq!((in_data(&data, place(8, 2)), in_data(&data, place(9, 2))), (None, None));
        assert_eq!((general(b""), general(b"E01"), general(b"0g")), (None, None, None));
    }

    #[test]
    fn stubs_that_name_the_architecture_alone_have_gdbs_registers() {
        let bare = Description { architecture: "i386:x86-64".into(), ..Description::default() };
        let plan = Plan::new(&bare).unwrap();
        assert_eq!(plan.missing(), ["fs_base", "gs_base", "k_gs_base", "cr0", "cr2", "cr3", "cr4"]);
        // rip is GDB's 17th register, behind sixteen of eight bytes.
        assert_eq!(plan.places[X86_GENERAL.len()], Some(Place { number: 16, offset: 128, size: 8 }));
        let other = Description { architecture: "mips".into(), ..Description::default() };
        assert_eq!(Plan::new(&other).unwrap_err(), "mips");
    }

    #[test]
    fn each_value_comes_to_its_register() {
        let bare = Description { architecture: "aarch64".into(), ..Description::default() };
        let plan = Plan::new(&bare).unwrap();
        let values: Vec<Option<u64>> = (0..43).map(Some).collect();
        let Some(Registers::Aarch64(registers)) = plan.assemble(&values) else { panic!("no registers") };
        assert_eq!((registers.x[0], registers.x[30], registers.sp, registers.pc), (0, 30, 31, 32));
        assert_eq!((registers.pstate, registers.ttbr0, registers.mair), (33, Some(34), Some(42)));
        assert_eq!(plan.assemble(&[None; 43]), None, "no program counter");
        // The stack pointer in use is the one of its level: pstate EL0t, EL1t, EL1h, EL2h.
        for (pstate, sp_el0, sp_el1) in [(0, 31, 38), (4, 31, 38), (5, 37, 31), (9, 37, 38)] {
            let mut values = values.clone();
            values[33] = Some(0x6000_03c0 | pstate);
            let Some(Registers::Aarch64(registers)) = plan.assemble(&values) else { panic!("no registers") };
            assert_eq!((registers.sp_el0, registers.sp_el1), (Some(sp_el0), Some(sp_el1)), "{pstate}");
        }
    }
}
