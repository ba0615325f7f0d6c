//! `xp`: memory, word by word, through the monitor. Slow, and always there.
//!
//! Source: `memory_dump` in `monitor/hmp-cmds-target.c` of QEMU: lines of 16 bytes, `ADDRESS: 0xWORD 0xWORD`. Words are told as
//! numbers, of the guest's byte order; x86_64 and aarch64 have their lowest byte first.

use super::error::{Monitor, MonitorError, excerpt};
use super::hex;

const COMMAND: &str = "xp";

/// Reads `words` words of 8 bytes from the guest's physical memory.
///
/// # Errors
/// [`MonitorError`] where the monitor cannot be asked, or does not tell them.
pub fn read_words(monitor: &mut dyn Monitor, address: u64, words: usize) -> Result<Vec<u64>, MonitorError> {
    let text = monitor.hmp(&format!("xp /{words}xg {address:#x}"))?;
    parse_xp(&text, address, words)
}

/// The words in the answer to `xp /{words}xg {address}`.
///
/// # Errors
/// [`MonitorError::Answer`] where it has others, or not as many.
pub fn parse_xp(text: &str, address: u64, words: usize) -> Result<Vec<u64>, MonitorError> {
    let wrong = |line: &str| MonitorError::answer(COMMAND, excerpt(line));
    let mut found = Vec::with_capacity(words.min(1 << 16));
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (at, row) = line.split_once(':').ok_or_else(|| wrong(line))?;
        if hex(at) != address.checked_add(found.len() as u64 * 8) {
            return Err(wrong(line));
        }
        for word in row.split_whitespace() {
            if found.len() == words {
                return Err(wrong(line));
            }
            found.push(hex(word).ok_or_else(|| wrong(line))?);
        }
    }
    if found.len() == words { Ok(found) } else { Err(wrong(text)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_in_their_order() {
        let text = "0000000000001000: 0x0000000000000001 0xffffffff82e03e98\r\n0000000000001010: 0x0000000000000003\r\n";
        assert_eq!(parse_xp(text, 0x1000, 3), Ok(vec![1, 0xffff_ffff_82e0_3e98, 3]));
        for (wrong, address, words) in [
            (text, 0x1000, 2),
            (text, 0x1000, 4),
            (text, 0x2000, 3),
            ("Cannot access memory\r\n", 0, 1),
            ("", 0, 1),
            ("0000000000001000: 0xg", 0x1000, 1),
        ] {
            assert!(parse_xp(wrong, address, words).is_err(), "{wrong}");
        }
    }
}
