//! `info mtree -f`: the guest's physical address space, range by range.
//!
//! Source: `mtree_print_flatview` in `system/memory.c` of QEMU. A view begins with `FlatView #N`, names the address spaces that
//! have it (` AS "memory", root: system`), then has a line a range:
//! `  START-END (prio P, KIND): NAME @OFFSET KVM owner:{…}`, where the offset stands only if it is not zero, the accelerator's name
//! only if that has the range as memory, and the owner only with `-o`.

use super::error::{MonitorError, excerpt};
use super::hex;

const COMMAND: &str = "info mtree -f";
/// More ranges than an address space has whose every device has its own.
const MAX_RANGES: usize = 16 << 10;

/// What lies at a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeKind {
    /// Memory.
    Ram,
    /// Memory that outlives the machine.
    NonVolatile,
    /// Memory that the guest cannot write: firmware, or RAM that is shadowed.
    Rom,
    /// Flash: reads are memory, writes are a device's.
    RomDevice,
    /// A real device's memory: reads may have effects.
    RamDevice,
    /// A device's registers, or nothing.
    Io,
}

/// A range of the guest's physical address space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlatRange {
    /// The first address.
    pub start: u64,
    /// The last address: inclusive, as the space may end at its top.
    pub last: u64,
    /// What lies there.
    pub kind: RangeKind,
    /// The memory region's name.
    pub name: String,
    /// Where in the region the range begins.
    pub offset: u64,
    /// Does a device own the region? What QEMU tells with `-o`; no where it does not tell.
    pub of_device: bool,
}

/// The ranges of the address space `memory` in the answer to `info mtree -f`, ascending.
///
/// # Errors
/// [`MonitorError`] where there is no such space, or a range in it is of another shape or order.
pub fn parse_mtree(text: &str) -> Result<Vec<FlatRange>, MonitorError> {
    let mut ranges: Vec<FlatRange> = Vec::new();
    let (mut found, mut inside) = (false, false);
    for line in text.lines().map(str::trim_end) {
        if line.starts_with("FlatView #") {
            if found {
                break;
            }
            inside = false;
        } else if let Some(space) = line.strip_prefix(" AS \"") {
            inside |= space.starts_with("memory\",");
            found |= inside;
        } else if inside && line.starts_with("  ") {
            if line.trim_start().starts_with("No rendered FlatView") {
                break;
            }
            if ranges.len() == MAX_RANGES {
                return Err(MonitorError::TooMany { command: COMMAND, things: "ranges", most: MAX_RANGES });
            }
            let range = range(line.trim_start());
            let range = range.ok_or_else(|| MonitorError::answer(COMMAND, excerpt(line)))?;
            if ranges.last().is_some_and(|before| before.last >= range.start) || range.last < range.start {
                let what = format!("range {:#x}-{:#x} lies in one before it", range.start, range.last);
                return Err(MonitorError::answer(COMMAND, what));
            }
            ranges.push(range);
        }
    }
    if !found {
        return Err(MonitorError::answer(COMMAND, format!("no address space `memory`: {}", excerpt(text))));
    }
    Ok(ranges)
}

fn range(line: &str) -> Option<FlatRange> {
    let (bounds, rest) = line.split_once(" (prio ")?;
    let (start, last) = bounds.split_once('-')?;
    let (kind, rest) = rest.split_once(", ")?.1.split_once("): ")?;
    let kind = match kind {
        "ram" => RangeKind::Ram,
        "rom" | "nv-rom" => RangeKind::Rom,
        "nv-ram" => RangeKind::NonVolatile,
        "romd" | "nv-romd" => RangeKind::RomDevice,
        "ramd" | "nv-ramd" => RangeKind::RamDevice,
        // Also what a newer QEMU may come to tell apart: not known as memory is not memory.
        _ => RangeKind::Io,
    };
    let (name, owner) = match [" owner:{", " parent:{"].iter().find_map(|mark| rest.rsplit_once(mark)) {
        Some((name, owner)) => (name, owner),
        None => (rest.strip_suffix(" orphan").unwrap_or(rest), ""),
    };
    let of_device = owner.starts_with("dev ") && rest.contains(" owner:{dev ");
    // An accelerator's name, which no region's name ends in.
    let name = [" KVM", " HVF", " WHPX", " NVMM", " MSHV"]
        .iter()
        .find_map(|accelerator| name.strip_suffix(accelerator))
        .unwrap_or(name);
    let offset = name.rsplit_once(" @").filter(|(_, digits)| digits.len() == 16);
    let offset = offset.and_then(|(name, digits)| Some((name, hex(digits)?)));
    let (name, offset) = offset.unwrap_or((name, 0));
    Some(FlatRange { start: hex(start)?, last: hex(last)?, kind, name: name.to_owned(), offset, of_device })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a machine of 112 MiB with a display says, shortened; one address space before and one behind the one that counts.
    const TEXT: &str = "FlatView #0\r\n AS \"I/O\", root: io\r\n Root memory region: io\r\n\
        \x20 0000000000000000-0000000000000007 (prio 0, i/o): dma-chan\r\n\r\n\
        FlatView #1\r\n AS \"cpu-memory-0\", root: system\r\n AS \"memory\", root: system\r\n Root memory region: system\r\n\
        \x20 0000000000000000-000000000009ffff (prio 0, ram): pc.ram KVM\r\n\
        \x20 00000000000c3000-00000000000e7fff (prio 0, rom): pc.ram @00000000000c3000 KVM owner:{obj path=/objects/pc.ram}\r\n\
        \x20 00000000fd000000-00000000fdffffff (prio 1, ram): vga.vram owner:{dev id=v path=/machine/peripheral/v}\r\n\
        \x20 00000000fee00000-00000000feefffff (prio 4096, i/o): apic-msi parent:{dev path=/machine/x}\r\n\
        \x20 00000000fffc0000-00000000ffffffff (prio 0, rom): pc.bios orphan\r\n\
        \x20 fffffffffffff000-ffffffffffffffff (prio 0, nv-ram): a @b @0000000000001000\r\n\r\n\
        FlatView #2\r\n AS \"memory\", root: other\r\n  0000000000000000-0000000000000007 (prio 0, ram): no\r\n";

    #[test]
    fn the_memory_of_the_machine_is_told_from_all_else() {
        use RangeKind::{Io, NonVolatile, Ram, Rom};
        let ranges = parse_mtree(TEXT).unwrap();
        let facts: Vec<_> = ranges.iter().map(|r| (r.start, r.kind, r.name.as_str(), r.offset)).collect();
        assert_eq!(
            facts,
            [
                (0, Ram, "pc.ram", 0),
                (0xc_3000, Rom, "pc.ram", 0xc_3000),
                (0xfd00_0000, Ram, "vga.vram", 0),
                (0xfee0_0000, Io, "apic-msi", 0),
                (0xfffc_0000, Rom, "pc.bios", 0),
                (0xffff_ffff_ffff_f000, NonVolatile, "a @b", 0x1000),
            ]
        );
        assert_eq!(ranges.iter().filter(|range| range.of_device).count(), 1);
        assert_eq!((ranges[0].last, ranges[5].last), (0x9_ffff, u64::MAX));
    }

    #[test]
    fn text_of_another_shape_is_refused() {
        let of = |lines: &str| format!("FlatView #1\n AS \"memory\", root: system\n{lines}");
        assert_eq!(parse_mtree(&of("  No rendered FlatView\n")), Ok(Vec::new()));
        for wrong in ["", "unknown command: 'info mtree'", "FlatView #0\n AS \"I/O\", root: io\n"] {
            assert!(parse_mtree(wrong).is_err(), "{wrong}");
        }
        for wrong in [
            "  nonsense\n",
            "  0-g (prio 0, ram): x\n",
            "  2-1 (prio 0, ram): x\n",
            "  0-f (prio 0, ram): x\n  f-10 (prio 0, ram): x\n",
        ] {
            assert!(parse_mtree(&of(wrong)).is_err(), "{wrong}");
        }
        let endless: String = (0..=MAX_RANGES).map(|n| format!("  {n:x}-{n:x} (prio 0, ram): x\n")).collect();
        assert!(matches!(parse_mtree(&of(&endless)), Err(MonitorError::TooMany { .. })));
    }
}
