//! The guest's memory as QEMU has it: which ranges are memory, and where in QEMU's process they lie.

use vmc::PhysAddr;
use vmc_process::{Layout, Piece};

use super::error::{Monitor, MonitorError};
use super::hva::parse_gpa2hva;
use super::mtree::{FlatRange, RangeKind, parse_mtree};

/// More pieces than a guest with every slot for memory full has.
const MAX_PIECES: usize = 1024;

/// Asks a monitor for the guest's memory: RAM, also where it is shadowed as ROM for now; neither firmware nor devices' memory.
///
/// # Errors
/// [`MonitorError`] where the monitor cannot be asked, or what it says does not make a layout.
pub fn layout_by_monitor(monitor: &mut dyn Monitor) -> Result<Layout, MonitorError> {
    // `-o` tells whose a region is; QEMU before 2.12 does not know it.
    let owned = monitor.hmp("info mtree -f -o")?;
    let ranges = match parse_mtree(&owned) {
        Ok(ranges) => ranges,
        Err(_) => parse_mtree(&monitor.hmp("info mtree -f")?)?,
    };
    let runs = runs(ranges.iter().filter(|range| is_ram(range, &ranges)));
    if runs.len() > MAX_PIECES {
        let (command, things) = ("info mtree -f", "ranges of memory");
        return Err(MonitorError::TooMany { command, things, most: MAX_PIECES });
    }
    if runs.is_empty() {
        return Err(MonitorError::answer("info mtree -f", "no memory at all"));
    }
    // Both ends are asked for: two regions of one name could look as one.
    let ends = runs.iter().flat_map(|run| [run.start, run.last]);
    let mut questions: Vec<_> = ends.map(|at| format!("gpa2hva {at:#x}")).collect();
    questions.push("info memory_size_summary".to_owned());
    let answers = monitor.hmp_all(&questions)?;
    let mut layout = Layout { how: "QEMU's monitor".to_owned(), ..Layout::default() };
    for (run, answers) in runs.iter().zip(answers.as_chunks().0) {
        let [host, last] = answers;
        let (host, last) = (host_address(host, run.start, run)?, host_address(last, run.last, run)?);
        let inside = run.last - run.start;
        if last.checked_sub(host) != Some(inside) {
            let what = format!(
                "{:#x} to {:#x} lie at {host:#x} and {last:#x}, not in one piece",
                run.start, run.last
            );
            return Err(MonitorError::answer("gpa2hva", what));
        }
        // One that is all of the address space has no length that fits; it is no memory.
        let Some(len) = inside.checked_add(1) else { continue };
        push(&mut layout.pieces, Piece { guest: PhysAddr::new(run.start), len, host });
    }
    let told = answers.last().and_then(|summary| parse_size(summary));
    layout.check().map_err(|error| MonitorError::answer("gpa2hva", error.to_string()))?;
    layout.ram_bytes = told.unwrap_or_else(|| layout.total());
    Ok(layout)
}

/// Ranges that go on where the one before ends, in the guest and in their region, as one.
fn runs<'a>(ranges: impl Iterator<Item = &'a FlatRange>) -> Vec<FlatRange> {
    let mut runs: Vec<FlatRange> = Vec::new();
    for range in ranges {
        let follows = |run: &&mut FlatRange| {
            let behind = (run.last - run.start).checked_add(1);
            let ends = behind.map(|len| (run.start.checked_add(len), run.offset.checked_add(len)));
            run.name == range.name && ends == Some((Some(range.start), Some(range.offset)))
        };
        match runs.last_mut().filter(follows) {
            Some(run) => run.last = range.last,
            None => runs.push(range.clone()),
        }
    }
    runs
}

/// Is it the guest's memory? A range that is ROM now is, where the same region is RAM elsewhere.
fn is_ram(range: &FlatRange, all: &[FlatRange]) -> bool {
    let same =
        |other: &FlatRange| other.name == range.name && other.kind == RangeKind::Ram && !other.of_device;
    !range.of_device
        && match range.kind {
            RangeKind::Ram | RangeKind::NonVolatile => true,
            RangeKind::Rom => all.iter().any(same),
            RangeKind::RomDevice | RangeKind::RamDevice | RangeKind::Io => false,
        }
}

/// Where an address of a range lies in QEMU's process.
fn host_address(answer: &str, at: u64, range: &FlatRange) -> Result<u64, MonitorError> {
    let lost = |what: &str| MonitorError::answer("gpa2hva", format!("{at:#x} is {what}, not {}", range.name));
    let found = parse_gpa2hva(answer)?.ok_or_else(|| lost("no memory"))?;
    // The layout has changed between the two questions.
    if found.region != range.name {
        return Err(lost("in another region"));
    }
    Ok(found.host)
}

/// Adds a range; one that goes on where the last ends, in the guest and in QEMU, becomes part of it.
fn push(pieces: &mut Vec<Piece>, piece: Piece) {
    if let Some(last) = pieces.last_mut() {
        let follows = |start: u64, next: u64| start.checked_add(last.len) == Some(next);
        if follows(last.guest.get(), piece.guest.get()) && follows(last.host, piece.host) {
            last.len += piece.len;
            return;
        }
    }
    pieces.push(piece);
}

/// `info memory_size_summary`: what the machine was started with, and what was plugged in since.
fn parse_size(text: &str) -> Option<u64> {
    let number = |name: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(name))?;
        line.trim().parse::<u64>().ok()
    };
    let base = number("base memory:").filter(|bytes| *bytes != 0)?;
    base.checked_add(number("plugged memory:").unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A monitor that knows some answers, and counts what it is asked.
    struct Known(Vec<(&'static str, String)>, usize);

    impl Monitor for Known {
        fn hmp(&mut self, line: &str) -> Result<String, MonitorError> {
            self.1 += 1;
            let answer = self.0.iter().find(|(known, _)| *known == line);
            Ok(answer.map_or_else(|| format!("unknown command: '{line}'"), |(_, text)| text.clone()))
        }
    }

    fn piece(guest: u64, len: u64, host: u64) -> Piece {
        Piece { guest: PhysAddr::new(guest), len, host }
    }

    fn view(lines: &str) -> String {
        format!("FlatView #1\n AS \"memory\", root: system\n Root memory region: system\n{lines}")
    }

    fn host(at: &str, region: &str, host: u64) -> String {
        format!("Host virtual address for {at} ({region}) is {host:#x}\n")
    }

    #[test]
    fn memory_is_what_no_device_owns_with_its_shadows() {
        let tree = view(
            "  0000000000000000-000000000009ffff (prio 0, ram): pc.ram owner:{obj path=/objects/pc.ram}\n\
             \x20 00000000000a0000-00000000000bffff (prio 1, i/o): vga-lowmem owner:{dev path=/machine/v}\n\
             \x20 00000000000c0000-00000000000fffff (prio 0, rom): pc.ram @00000000000c0000 owner:{obj path=/objects/pc.ram}\n\
             \x20 0000000000100000-000000007fffffff (prio 0, ram): pc.ram @0000000000100000 owner:{obj path=/objects/pc.ram}\n\
             \x20 00000000fd000000-00000000fdffffff (prio 1, ram): vga.vram owner:{dev path=/machine/v}\n\
             \x20 00000000fffc0000-00000000ffffffff (prio 0, rom): pc.bios parent:{obj path=/machine/unattached}\n\
             \x20 0000000100000000-000000013fffffff (prio 0, ram): pc.ram @0000000080000000 owner:{obj path=/objects/pc.ram}\n",
        );
        let base = 0x7f00_0000_0000;
        let answers = vec![
            ("info mtree -f -o", tree),
            ("gpa2hva 0x0", host("0x0", "pc.ram", base)),
            ("gpa2hva 0x9ffff", host("0x9ffff", "pc.ram", base + 0x9_ffff)),
            ("gpa2hva 0xc0000", host("0xc0000", "pc.ram", base + 0xc_0000)),
            ("gpa2hva 0x7fffffff", host("0x7fffffff", "pc.ram", base + 0x7fff_ffff)),
            ("gpa2hva 0x100000000", host("0x100000000", "pc.ram", base + 0x8000_0000)),
            ("gpa2hva 0x13fffffff", host("0x13fffffff", "pc.ram", base + 0xbfff_ffff)),
            ("info memory_size_summary", "base memory: 3221225472\r\nplugged memory: 0\r\n".to_owned()),
        ];
        let layout = layout_by_monitor(&mut Known(answers, 0)).unwrap();
        assert_eq!(
            layout.pieces,
            [
                piece(0, 0xa_0000, base),
                piece(0xc_0000, 0x7ff4_0000, base + 0xc_0000),
                piece(0x1_0000_0000, 0x4000_0000, base + 0x8000_0000),
            ]
        );
        assert_eq!(layout.ram_bytes, 3 << 30);
    }

    #[test]
    fn older_monitors_are_asked_without_owners() {
        let answers = vec![
            ("info mtree -f", view("  0000000000000000-000000000000ffff (prio 0, ram): ram\n")),
            ("gpa2hva 0x0", host("0x0", "ram", 0x1000)),
            ("gpa2hva 0xffff", host("0xffff", "ram", 0x10fff)),
        ];
        let layout = layout_by_monitor(&mut Known(answers, 0)).unwrap();
        assert_eq!(layout.pieces, [piece(0, 0x1_0000, 0x1000)]);
        assert_eq!(layout.ram_bytes, 0x1_0000);
    }

    #[test]
    fn a_layout_that_does_not_hold_together_is_refused() {
        let of = |tree: String, hva: String| {
            let last = host("0xffff", "ram", 0x10fff);
            let answers = vec![("info mtree -f -o", tree), ("gpa2hva 0x0", hva), ("gpa2hva 0xffff", last)];
            layout_by_monitor(&mut Known(answers, 0)).unwrap_err()
        };
        let one = || view("  0000000000000000-000000000000ffff (prio 0, ram): ram\n");
        let wrong = of(one(), "No memory is mapped at address 0x0".to_owned()).to_string();
        assert!(wrong.contains("0x0 is no memory, not ram"), "{wrong}");
        let wrong = of(one(), host("0x0", "rom", 0x1000)).to_string();
        assert!(wrong.contains("another region"), "{wrong}");
        let wrong = of(one(), host("0x0", "ram", u64::MAX - 1)).to_string();
        assert!(wrong.contains("not in one piece"), "{wrong}");
        let empty = of(view("  0000000000000000-0000000000000fff (prio 0, i/o): x\n"), String::new());
        assert!(empty.to_string().contains("no memory at all"), "{empty}");
    }

    #[test]
    fn pieces_without_end_are_not_asked_for() {
        let line = |n: u64| format!("  {:016x}-{:016x} (prio 0, ram): r\n", n * 0x2000, n * 0x2000 + 0xfff);
        let tree = view(&(0..2 * MAX_PIECES as u64).map(line).collect::<String>());
        struct Any(String, usize);
        impl Monitor for Any {
            fn hmp(&mut self, line: &str) -> Result<String, MonitorError> {
                self.1 += 1;
                let at = line.strip_prefix("gpa2hva ");
                Ok(at.map_or_else(|| self.0.clone(), |at| host(at, "r", 0x1000 * self.1 as u64)))
            }
        }
        let mut any = Any(tree, 0);
        assert!(matches!(layout_by_monitor(&mut any), Err(MonitorError::TooMany { .. })));
        assert_eq!(any.1, 1);
    }
}
