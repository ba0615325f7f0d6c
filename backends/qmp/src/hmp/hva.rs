//! `gpa2hva`: where in QEMU's own address space a byte of the guest lies.
//!
//! Source: `hmp_gpa2hva` and `gpa2hva` in `monitor/misc.c` of QEMU (`monitor/hmp-cmds-target.c` since 7.1).

use super::error::{MonitorError, excerpt};
use super::hex;

/// Where QEMU keeps a byte of the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostAddress {
    /// The memory region's name.
    pub region: String,
    /// The address in QEMU's process.
    pub host: u64,
}

/// What `gpa2hva ADDRESS` says: nothing where no memory lies there that QEMU has a host address for.
///
/// # Errors
/// [`MonitorError::Answer`] where it is neither an address nor one of QEMU's two refusals.
pub fn parse_gpa2hva(text: &str) -> Result<Option<HostAddress>, MonitorError> {
    let text = text.trim();
    if text.starts_with("No memory is mapped at address ") || text.ends_with(" is not RAM") {
        return Ok(None);
    }
    let parsed = || {
        // Host virtual address for 0x0 (pc.ram) is 0x7f0f7ce00000
        let rest = text.strip_prefix("Host virtual address for 0x")?;
        let (region, host) = rest.split_once(" (")?.1.rsplit_once(") is ")?;
        Some(HostAddress { region: region.to_owned(), host: hex(host)? })
    };
    parsed().map(Some).ok_or_else(|| MonitorError::answer("gpa2hva", excerpt(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_refusals_are_told_apart() {
        let found = parse_gpa2hva("Host virtual address for 0xc0000 (pc.ram) is 0x7f0f7cec0000\r\n");
        assert_eq!(found, Ok(Some(HostAddress { region: "pc.ram".to_owned(), host: 0x7f0f_7cec_0000 })));
        let odd = parse_gpa2hva("Host virtual address for 0x0 (a (b) is 1) is 0x1000").unwrap().unwrap();
        assert_eq!((odd.region.as_str(), odd.host), ("a (b) is 1", 0x1000));
        assert_eq!(parse_gpa2hva("Memory at address 0xfee00000 is not RAM\n"), Ok(None));
        assert_eq!(parse_gpa2hva("No memory is mapped at address 0x7000000\n"), Ok(None));
        for wrong in ["", "unknown command: 'gpa2hva'", "Host virtual address for 0x0 (pc.ram) is (nil)"] {
            assert!(parse_gpa2hva(wrong).is_err(), "{wrong}");
        }
    }
}
