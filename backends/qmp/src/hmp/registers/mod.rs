//! `info registers -a`: the vCPUs' registers.

mod aarch64;
mod x86_64;

use vmc::Registers;

use super::error::{Monitor, MonitorError, excerpt};

const COMMAND: &str = "info registers -a";
/// More vCPUs than QEMU's machines take.
pub const MAX_VCPUS: usize = 4096;

/// What a monitor says of a vCPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MonitorVcpu {
    /// The number QEMU has for it; unplugged ones leave gaps.
    pub number: u32,
    /// Its registers. Of x86_64 the kernel's GS base is not told, of aarch64 no system register.
    pub registers: Registers,
    /// EFER, of x86_64.
    pub efer: Option<u64>,
    /// Where the interrupt descriptor table lies, of x86_64.
    pub idt: Option<u64>,
}

/// Asks a monitor for the registers of all vCPUs.
///
/// # Errors
/// [`MonitorError`] where the monitor cannot be asked, or the architecture is none that vmc knows.
pub fn registers(monitor: &mut dyn Monitor) -> Result<Vec<MonitorVcpu>, MonitorError> {
    parse_registers(&monitor.hmp(COMMAND)?)
}

/// The vCPUs in the answer to `info registers -a`, in QEMU's order.
///
/// # Errors
/// [`MonitorError`] where a register is missing or the text is of another shape.
pub fn parse_registers(text: &str) -> Result<Vec<MonitorVcpu>, MonitorError> {
    let mut vcpus: Vec<MonitorVcpu> = Vec::new();
    // Before the first header there is nothing.
    for part in text.split("CPU#").skip(1) {
        if vcpus.len() == MAX_VCPUS {
            return Err(MonitorError::TooMany { command: COMMAND, things: "vCPUs", most: MAX_VCPUS });
        }
        let (number, lines) = part.split_once('\n').unwrap_or((part, ""));
        let number = number.trim().parse::<u32>().ok();
        let number = number.filter(|number| vcpus.last().is_none_or(|last| last.number < *number));
        let number = number.ok_or_else(|| MonitorError::answer(COMMAND, "vCPUs are out of order"))?;
        let found = Found::new(lines);
        let vcpu = if found.has("RIP") || found.has("EIP") {
            x86_64::vcpu(number, &found)
        } else if found.has("PSTATE") || found.has("PSR") {
            aarch64::vcpu(number, &found)
        } else {
            Err(format!("vCPU {number} is of no known architecture: {}", excerpt(lines)))
        };
        vcpus.push(vcpu.map_err(|what| MonitorError::answer(COMMAND, what))?);
    }
    if vcpus.is_empty() {
        return Err(MonitorError::answer(COMMAND, excerpt(text)));
    }
    Ok(vcpus)
}

/// `NAME=VALUE` pairs; what follows a value until the next name belongs to it.
struct Found<'a>(Vec<(&'a str, &'a str)>);

/// More pairs than a vCPU with every vector register has.
const MAX_PAIRS: usize = 4096;

impl<'a> Found<'a> {
    fn new(lines: &'a str) -> Self {
        Self(lines.lines().flat_map(pairs).take(MAX_PAIRS).collect())
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| *known == name)
    }

    /// All words of a value.
    fn words(&self, name: &str) -> Result<impl Iterator<Item = &'a str> + use<'a>, String> {
        let value = self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| value);
        value.map(|value| value.split_whitespace()).ok_or_else(|| format!("there is no {name}"))
    }

    /// A value's first word as a number.
    fn number(&self, name: &str) -> Result<u64, String> {
        self.word(name, 0)
    }

    /// The word at `index` of a value as a number.
    fn word(&self, name: &str, index: usize) -> Result<u64, String> {
        let word = self.words(name)?.nth(index).unwrap_or_default();
        super::hex(word).ok_or_else(|| format!("{name} is no number: {}", excerpt(word)))
    }
}

/// The pairs of a line. A name is the word before `=`; blanks may stand between them.
fn pairs(line: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = line;
    core::iter::from_fn(move || {
        let (before, after) = rest.split_once('=')?;
        let name = before.split_whitespace().next_back().unwrap_or_default();
        // Up to the name of the next pair.
        let value = match after.split_once('=') {
            Some((value, _)) => {
                value.trim_end().rsplit_once(char::is_whitespace).map_or("", |(value, _)| value)
            }
            None => after,
        };
        rest = after;
        Some((name, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_told_from_one_another() {
        let of = |line| pairs(line).map(|(name, value)| (name, value.trim())).collect::<Vec<_>>();
        assert_eq!(of("R8 =01 R9 =02 R10=03"), [("R8", "01"), ("R9", "02"), ("R10", "03")]);
        assert_eq!(
            of("CS =0010 00ff ffffffff 00af9b00 DPL=0 CS64 [-RA]")[0],
            ("CS", "0010 00ff ffffffff 00af9b00")
        );
        assert_eq!(of("IDT=     fffffe0000000000 00000fff"), [("IDT", "fffffe0000000000 00000fff")]);
        assert_eq!(of("=1 == x")[0].0, "");
        assert_eq!(of("nothing"), []);
    }

    #[test]
    fn other_text_is_refused() {
        for wrong in [
            "",
            "unknown command: 'info registers'",
            "\nCPU#0\n",
            "\nCPU#x\nRIP=0",
            "\nCPU#0\npc 000 mstatus 000\n",
            "\nCPU#0\nRIP=00\n",
        ] {
            assert!(parse_registers(wrong).is_err(), "{wrong}");
        }
    }
}
