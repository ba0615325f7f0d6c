//! QEMU's machines: how much RAM lies below 4 GiB, and where the rest goes.
//!
//! Sources: `pc_init1()` in `hw/i386/pc_piix.c`, `pc_q35_init()` in `hw/i386/pc_q35.c`, `microvm_memory_init()` in
//! `hw/i386/microvm.c`, `base_memmap` in `hw/arm/virt.c`, and `info mtree -f` of QEMU itself.

use super::{ABOVE, GIB};

/// Where RAM goes that would reach the place of AMD's HyperTransport: to 1 TiB (`AMD_ABOVE_1TB_START`, since QEMU 7.1).
const ABOVE_AMD: u64 = 1 << 40;

/// Where that place begins, less the room that devices may take behind RAM: from there on the rule depends on the processor.
const NEAR_AMD: u64 = 0xfd_0000_0000 - 68 * GIB;

/// A machine's kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Machine {
    /// `pc`, with an i440FX; false where the machine's version is 1.7 or older: those align nothing to 1 GiB.
    Pc {
        aligned: bool,
    },
    Q35 {
        aligned: bool,
    },
    Microvm,
    /// Of aarch64.
    Virt,
}

impl Machine {
    /// The machine that the monitor `program` calls `name`.
    pub(super) fn of(program: &str, name: Option<&str>) -> Option<Self> {
        if program.contains("aarch64") || program.contains("qemu-system-arm") {
            let name = name?;
            return (name == "virt" || name.starts_with("virt-")).then_some(Self::Virt);
        }
        let x86 =
            ["x86_64", "i386", "qemu-kvm"].iter().any(|part| program.contains(part)) || program == "kvm";
        if !x86 {
            return None;
        }
        let name = name.unwrap_or("pc");
        // Downstream versions (`pc-i440fx-rhel7.6.0`, `pc-q35-focal`) are all newer than 2.0.
        let aligned =
            |version: &str| version.split('.').next().is_none_or(|major| !matches!(major, "0" | "1"));
        match name {
            "pc" => Some(Self::Pc { aligned: true }),
            "q35" => Some(Self::Q35 { aligned: true }),
            "microvm" => Some(Self::Microvm),
            "isapc" => Some(Self::Pc { aligned: false }),
            _ => {
                if let Some(version) = name.strip_prefix("pc-q35-") {
                    Some(Self::Q35 { aligned: aligned(version) })
                } else {
                    let version = name.strip_prefix("pc-i440fx-").or_else(|| name.strip_prefix("pc-"))?;
                    Some(Self::Pc { aligned: aligned(version) })
                }
            }
        }
    }

    /// How much of `ram` lies below 4 GiB on a PC; `most` is its `max-ram-below-4g`.
    pub(super) fn below(self, ram: u64, most: Option<u64>) -> u64 {
        match self {
            Self::Pc { aligned } => {
                let most = most.filter(|most| *most != 0).unwrap_or(7 * GIB / 2);
                let low = if aligned && ram >= most { most.min(3 * GIB) } else { most };
                low.min(ram)
            }
            Self::Q35 { aligned } => {
                let low = if ram >= 11 * GIB / 4 && aligned { 2 * GIB } else { 11 * GIB / 4 };
                low.min(most.filter(|most| *most != 0).unwrap_or(ABOVE)).min(ram)
            }
            Self::Microvm => (3 * GIB).min(most.filter(|most| *most != 0).unwrap_or(ABOVE)).min(ram),
            Self::Virt => ram,
        }
    }

    /// Where the rest can begin; `most` is as large as RAM can become.
    pub(super) fn above(self, most: u64) -> &'static [u64] {
        match self {
            Self::Pc { .. } | Self::Q35 { .. } if most >= NEAR_AMD => &[ABOVE, ABOVE_AMD],
            _ => &[ABOVE],
        }
    }
}
