//! The registers of an aarch64 vCPU.
//!
//! Source: `aarch64_cpu_dump_state` and `arm_cpu_dump_state` in `target/arm/cpu.c` of QEMU. System registers (page table roots,
//! SP_EL0) are not in it. In 32-bit code (a program of 32 bits) r0 to r15 and PSR are told; r13 is the stack pointer, r15 the
//! program counter.

use vmc::Registers;
use vmc::arch::aarch64;

use super::{Found, MonitorVcpu};

pub(super) fn vcpu(number: u32, found: &Found<'_>) -> Result<MonitorVcpu, String> {
    let mut registers = aarch64::Registers::default();
    if found.has("PSTATE") {
        for (index, slot) in registers.x.iter_mut().enumerate() {
            *slot = found.number(&format!("X{index:02}"))?;
        }
        registers.sp = found.number("SP")?;
        registers.pc = found.number("PC")?;
        registers.pstate = found.number("PSTATE")?;
    } else {
        for (index, slot) in registers.x.iter_mut().enumerate().take(15) {
            *slot = found.number(&format!("R{index:02}"))?;
        }
        registers.sp = found.number("R13")?;
        registers.pc = found.number("R15")?;
        registers.pstate = found.number("PSR")?;
    }
    Ok(MonitorVcpu { number, registers: Registers::Aarch64(registers), efer: None, idt: None })
}

#[cfg(test)]
mod tests {
    use super::super::parse_registers;
    use super::*;

    /// x0 to x30 hold 0x100 and their number.
    fn text() -> String {
        let mut text = "\nCPU#0\n PC=ffff800008123456 ".to_owned();
        for index in 0..31 {
            text += &format!("X{index:02}={:016x}{}", 0x100 + index, if index % 3 == 1 { '\n' } else { ' ' });
        }
        text + " SP=ffff80000a5bbd50\nPSTATE=600003c5 -ZC- EL1h    FPU disabled\n"
    }

    #[test]
    fn every_register_has_its_value() {
        let vcpus = parse_registers(&text()).unwrap();
        let Registers::Aarch64(registers) = &vcpus[0].registers else { panic!() };
        let expected: Vec<u64> = (0x100..0x11f).collect();
        assert_eq!(registers.x[..], expected[..]);
        assert_eq!((registers.pc, registers.sp), (0xffff_8000_0812_3456, 0xffff_8000_0a5b_bd50));
        assert_eq!((registers.pstate, registers.in_user_mode()), (0x6000_03c5, false));
        assert_eq!((registers.ttbr1, registers.sp_el0), (None, None));
        let error = parse_registers(&text().replace("X17=", "Y17=")).unwrap_err().to_string();
        assert!(error.contains("there is no X17"), "{error}");
    }

    #[test]
    fn programs_of_32_bits_have_their_own_form() {
        let lines: String = (0..16).map(|n| format!("R{n:02}={:08x} ", 0x20 + n)).collect();
        let text = format!("\nCPU#0\n{lines}\nPSR=60000010 -ZC- A NS usr32\nFPSCR: 00000000\n");
        let vcpus = parse_registers(&text).unwrap();
        let Registers::Aarch64(registers) = &vcpus[0].registers else { panic!() };
        assert_eq!((registers.x[0], registers.x[14], registers.sp, registers.pc), (0x20, 0x2e, 0x2d, 0x2f));
        assert!(registers.in_user_mode() && registers.in_32_bit_mode());
    }
}
