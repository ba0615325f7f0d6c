//! The names of live targets.

use std::path::Path;

use vmc_process::{Address, AddressError};

/// A live target, as a user names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    /// The process of a VMM that uses KVM.
    Kvm(u32),
    /// A GDB remote stub at an address.
    Gdb(String),
    /// QEMU's machine protocol at an address.
    Qmp(String),
}

impl Named {
    /// The live target that `name` is; nothing where it is a path. A file of that very name is one.
    pub(crate) fn parse(name: &str) -> Option<Result<Self, String>> {
        let (kind, rest) = name.split_once(':')?;
        if !["kvm", "gdb", "qmp"].contains(&kind) || Path::new(name).exists() {
            return None;
        }
        let named = match kind {
            "kvm" => match rest.parse() {
                Ok(pid) if pid > 0 => Ok(Self::Kvm(pid)),
                _ => Err(format!("{name}: {rest} is no number of a process")),
            },
            _ => check_address(rest)
                .map(|address| if kind == "gdb" { Self::Gdb(address) } else { Self::Qmp(address) })
                .map_err(|why| format!("{name}: {why}")),
        };
        Some(named)
    }
}

/// An address as it was written, if it is one.
pub(crate) fn check_address(text: &str) -> Result<String, AddressError> {
    Address::parse(text).map(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart() {
        assert_eq!(Named::parse("kvm:4711"), Some(Ok(Named::Kvm(4711))));
        assert_eq!(Named::parse("gdb:localhost:1234"), Some(Ok(Named::Gdb("localhost:1234".to_owned()))));
        assert_eq!(Named::parse("qmp:[::1]:4444"), Some(Ok(Named::Qmp("[::1]:4444".to_owned()))));
        assert_eq!(Named::parse("qmp:./sock"), Some(Ok(Named::Qmp("./sock".to_owned()))));
        for path in ["mem.elf", "dir/kvm:1", "xen:3", "kvm"] {
            assert_eq!(Named::parse(path), None, "{path}");
        }
        for wrong in [
            "kvm:",
            "kvm:0",
            "kvm:-1",
            "kvm:x",
            "gdb:",
            "gdb:1234",
            "gdb::1234",
            "gdb:host:0",
            "gdb:host:99999",
        ] {
            assert!(matches!(Named::parse(wrong), Some(Err(_))), "{wrong}");
        }
        assert!(Named::parse("gdb:::1:22").unwrap().unwrap_err().contains("brackets"));
    }
}
