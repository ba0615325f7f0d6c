//! The registers of an x86_64 vCPU.
//!
//! Source: `x86_cpu_dump_state` and `cpu_x86_dump_seg_cache` in `target/i386/cpu-dump.c` of QEMU. A segment's value is selector,
//! base, limit, flags. In 32-bit code (a program of 32 bits, firmware) the general registers are the lower halves under their
//! old names, r8 to r15 are missing, and bases of segments are cut to 32 bits.

use vmc::Registers;
use vmc::arch::x86_64;

use super::{Found, MonitorVcpu};

/// In the order of DWARF's numbers.
const NAMES: [&str; 16] = [
    "RAX", "RDX", "RCX", "RBX", "RSI", "RDI", "RBP", "RSP", "R8", "R9", "R10", "R11", "R12", "R13", "R14",
    "R15",
];
const OLD_NAMES: [&str; 8] = ["EAX", "EDX", "ECX", "EBX", "ESI", "EDI", "EBP", "ESP"];

pub(super) fn vcpu(number: u32, found: &Found<'_>) -> Result<MonitorVcpu, String> {
    let (names, rip, flags): (&[&str], _, _) =
        if found.has("RIP") { (&NAMES, "RIP", "RFL") } else { (&OLD_NAMES, "EIP", "EFL") };
    let mut general = [0; 16];
    for (slot, name) in general.iter_mut().zip(names) {
        *slot = found.number(name)?;
    }
    let selector = |name: &str| {
        let word = found.number(name)?;
        u16::try_from(word).map_err(|_| format!("{name} has selector {word:#x}"))
    };
    let registers = x86_64::Registers {
        general,
        rip: found.number(rip)?,
        rflags: found.number(flags)?,
        cs: selector("CS")?,
        ss: selector("SS")?,
        fs_base: found.word("FS", 1)?,
        gs_base: found.word("GS", 1)?,
        kernel_gs_base: None,
        cr0: found.number("CR0")?,
        cr2: found.number("CR2")?,
        cr3: found.number("CR3")?,
        cr4: found.number("CR4")?,
    };
    Ok(MonitorVcpu {
        number,
        registers: Registers::X86_64(registers),
        efer: found.number("EFER").ok(),
        idt: found.number("IDT").ok(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::parse_registers;
    use super::*;

    /// Two vCPUs, one in the kernel and one in a program of 32 bits; values chosen by hand, to differ from one another.
    const TEXT: &str = "\r\nCPU#0\r\n\
        RAX=0000000000000001 RBX=0000000000000002 RCX=0000000000000003 RDX=0000000000000004\r\n\
        RSI=0000000000000005 RDI=0000000000000006 RBP=0000000000000007 RSP=ffffffff82e03e98\r\n\
        R8 =0000000000000009 R9 =000000000000000a R10=000000000000000b R11=000000000000000c\r\n\
        R12=000000000000000d R13=000000000000000e R14=000000000000000f R15=0000000000000010\r\n\
        RIP=ffffffff81e17a0b RFL=00000202 [-------] CPL=0 II=0 A20=1 SMM=0 HLT=1\r\n\
        ES =0000 0000000000000000 00000000 00000000\r\n\
        CS =0010 0000000000000000 ffffffff 00af9b00 DPL=0 CS64 [-RA]\r\n\
        SS =0018 0000000000000000 ffffffff 00cf9300 DPL=0 DS   [-WA]\r\n\
        DS =0000 0000000000000000 00000000 00000000\r\n\
        FS =0000 00007f0000001000 00000000 00000000\r\n\
        GS =0000 ffff8932c6800000 00000000 00000000\r\n\
        GDT=     fffffe0000001000 0000007f\r\n\
        IDT=     fffffe0000000000 00000fff\r\n\
        CR0=80050033 CR2=00000000004d7000 CR3=0000000005750000 CR4=001506b0\r\n\
        DR0=0000000000000000 DR1=0000000000000000 DR2=0000000000000000 DR3=0000000000000000 \r\n\
        DR6=00000000ffff0ff0 DR7=0000000000000400\r\n\
        EFER=0000000000000d01\r\n\
        FCW=037f FSW=0000 [ST=0] FTW=00 MXCSR=00001f80\r\n\
        FPR0=0000000000000000 0000 FPR1=0000000000000000 0000\r\n\
        XMM00=0000000000000000 000000000000ff00 XMM01=0000000000000000 0000000000000000\r\n\r\n\
        CPU#3\r\n\
        EAX=00000011 EBX=00000012 ECX=00000013 EDX=00000014\r\n\
        ESI=00000015 EDI=00000016 EBP=00000017 ESP=fffa0018\r\n\
        EIP=08049000 EFL=00000246 [---Z-P-] CPL=3 II=0 A20=1 SMM=0 HLT=0\r\n\
        CS =0023 00000000 ffffffff 00cffb00 DPL=3 CS32 [-RA]\r\n\
        SS =002b 00000000 ffffffff 00cff300 DPL=3 DS   [-WA]\r\n\
        FS =0000 00000000 00000000 00000000\r\n\
        GS =0063 f7d00500 ffffffff 00d0f300 DPL=3 DS   [-WA]\r\n\
        IDT=     fffffe0000000000 00000fff\r\n\
        CR0=80050033 CR2=00000000004d7000 CR3=0000000005751000 CR4=001506b0\r\n\
        EFER=0000000000000d01\r\n";

    #[test]
    fn both_forms_give_every_register_its_value() {
        let vcpus = parse_registers(TEXT).unwrap();
        assert_eq!((vcpus.len(), vcpus[0].number, vcpus[1].number), (2, 0, 3));
        assert_eq!((vcpus[0].efer, vcpus[0].idt), (Some(0xd01), Some(0xffff_fe00_0000_0000)));
        let Registers::X86_64(kernel) = &vcpus[0].registers else { panic!() };
        // rax rdx rcx rbx rsi rdi rbp rsp r8 to r15
        let expected = [1, 4, 3, 2, 5, 6, 7, 0xffff_ffff_82e0_3e98, 9, 10, 11, 12, 13, 14, 15, 16];
        assert_eq!(kernel.general, expected);
        assert_eq!((kernel.rip, kernel.rflags), (0xffff_ffff_81e1_7a0b, 0x202));
        assert_eq!((kernel.cs, kernel.ss), (0x10, 0x18));
        assert_eq!((kernel.fs_base, kernel.gs_base), (0x7f00_0000_1000, 0xffff_8932_c680_0000));
        let control = (kernel.cr0, kernel.cr2, kernel.cr3, kernel.cr4);
        assert_eq!(control, (0x8005_0033, 0x4d_7000, 0x575_0000, 0x15_06b0));
        assert_eq!(kernel.kernel_gs_base, None);
        let Registers::X86_64(program) = &vcpus[1].registers else { panic!() };
        assert_eq!(program.general[..8], [0x11, 0x14, 0x13, 0x12, 0x15, 0x16, 0x17, 0xfffa_0018]);
        assert_eq!((program.rip, program.gs_base, program.cs), (0x804_9000, 0xf7d0_0500, 0x23));
        assert!(program.in_user_mode() && !kernel.in_user_mode());
    }

    #[test]
    fn what_is_missing_is_named() {
        for name in ["RBX", "R15", "RFL", "CS ", "GS ", "CR3"] {
            let text = TEXT.replacen(&format!("{name}="), "gone=", 1);
            let error = parse_registers(&text).unwrap_err().to_string();
            assert!(error.contains(&format!("there is no {}", name.trim())), "{name}: {error}");
        }
        let error = parse_registers(&TEXT.replacen("CS =0010", "CS =10010", 1)).unwrap_err().to_string();
        assert!(error.contains("CS has selector 0x10010"), "{error}");
        assert!(parse_registers(&TEXT.replacen("CPU#3", "CPU#0", 1)).is_err());
    }
}
