//! QEMU's human monitor: what it is asked, and how its answers are read.
//!
//! The same text comes by three ways: the machine protocol's `human-monitor-command`, the gdb stub's `qRcmd`, and a monitor's own
//! socket. Whoever has one of them implements [`Monitor`] and gets the physical layout ([`layout_by_monitor`]) and the registers
//! ([`registers`]) by it.
//!
//! The text is no stable interface, and it may come from a peer that means harm: what does not look as expected is an error that
//! says so, never a guess, and the count of lines, ranges and vCPUs is bounded.

mod error;
mod hva;
mod layout;
mod mtree;
mod ramblock;
mod registers;
mod xp;

pub(crate) use error::excerpt;
pub use error::{Monitor, MonitorError};
pub use hva::{HostAddress, parse_gpa2hva};
pub use layout::layout_by_monitor;
pub use mtree::{FlatRange, RangeKind, parse_mtree};
pub use ramblock::{RamBlock, parse_ramblock};
pub use registers::{MAX_VCPUS, MonitorVcpu, parse_registers, registers};
pub use xp::{parse_xp, read_words};

/// A number in hexadecimal digits and nothing else, with or without `0x`.
fn hex(text: &str) -> Option<u64> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    // `from_str_radix` takes a sign.
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    u64::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::hex;

    #[test]
    fn numbers_have_digits_alone() {
        assert_eq!((hex("0x1f"), hex("ffffffffffffffff")), (Some(0x1f), Some(u64::MAX)));
        for wrong in ["", "0x", "+1", "-1", "0x+1", " 1", "1g", "10000000000000000"] {
            assert_eq!(hex(wrong), None, "{wrong}");
        }
    }
}
