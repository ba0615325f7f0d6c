//! Network interfaces with their addresses.
//!
//! Source: `struct net_device` in `include/linux/netdevice.h`, `struct in_ifaddr` in `include/linux/inetdevice.h`,
//! `struct inet6_ifaddr` in `include/net/if_inet6.h`.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{Ipv4Addr, Ipv6Addr};

use vmc::text::lossless;
use vmc::view::{Interface, RowErrors};
use vmc::{ReadExt, VirtAddr};

use crate::error::LinuxError;
use crate::kernel::Linux;
use crate::lists::ListWalk;

/// `IFF_UP`.
const UP: u32 = 1;
/// Bytes of a hardware address: `MAX_ADDR_LEN`.
const HARDWARE_BYTES: u8 = 32;

impl Linux<'_> {
    /// The network interfaces of all namespaces, and why they are not all, where they are not.
    ///
    /// # Errors
    /// [`LinuxError`] where namespaces are not to be found.
    pub fn interfaces(&self) -> Result<(Vec<Interface>, RowErrors), LinuxError> {
        let limits = self.limits();
        let (namespaces, ended) = self.net_namespaces()?;
        let (net, device) = (self.net()?, self.net_device()?);
        let offset = device.list.address(VirtAddr::new(0)).get();
        let mut rows = Vec::new();
        let mut addresses = limits.addresses;
        let mut errors = RowErrors::default();
        if let Some(why) = ended {
            errors.push(limits, "network namespaces", &why);
        }
        for namespace in namespaces {
            let number = errors.keep(limits, "netns", self.net_namespace_number(namespace));
            let head = net.devices.address(namespace);
            let left = limits.interfaces.saturating_sub(rows.len());
            for at in ListWalk::new(self, "the list of interfaces", head, offset, left) {
                match at {
                    Ok(at) => rows.push(Interface { netns: number, ..self.interface(at, &mut addresses) }),
                    Err(why) => errors.push(limits, "interfaces", &why),
                }
            }
        }
        Ok((rows, errors))
    }

    /// An interface as a row; of addresses, `left` at most.
    fn interface(&self, at: VirtAddr, left: &mut usize) -> Interface {
        let (space, limits) = (self.space(), self.limits());
        let mut errors = RowErrors::default();
        let Some(fields) = errors.keep(limits, "interface", self.net_device()) else {
            return Interface { object: at, errors, ..Interface::default() };
        };
        let name = errors.keep(limits, "name", fields.name.read(space, at)).unwrap_or_default();
        let end = memchr::memchr(0, &name).unwrap_or(name.len());
        let flags = errors.keep(limits, "flags", fields.flags.read(space, at));
        let mut addresses = Vec::new();
        for (what, found) in [
            ("IPv4 addresses", self.addresses4(at, *left, &mut addresses)),
            ("IPv6 addresses", self.addresses6(at, *left, &mut addresses)),
        ] {
            errors.keep(limits, what, found);
        }
        *left = left.saturating_sub(addresses.len());
        Interface {
            name: lossless(name.get(..end).unwrap_or_default()),
            index: errors.keep(limits, "index", fields.index.read(space, at)),
            hardware_address: errors.keep(limits, "hardware_address", self.hardware(at)).flatten(),
            addresses,
            mtu: errors.keep(limits, "mtu", fields.mtu.read(space, at)),
            up: flags.map(|flags| flags & UP != 0),
            flags,
            netns: None,
            object: at,
            errors,
        }
    }

    fn hardware(&self, device: VirtAddr) -> Result<Option<String>, LinuxError> {
        let (space, fields) = (self.space(), self.net_device()?);
        let read = LinuxError::read("a hardware address");
        let len = fields.hardware_len.read(space, device).map_err(&read)?.min(HARDWARE_BYTES);
        let at = fields.hardware.pointer(space, device).map_err(&read)?;
        if at.is_null() || len == 0 {
            return Ok(None);
        }
        let bytes = space.read_vec(at, u64::from(len), usize::from(HARDWARE_BYTES)).map_err(&read)?;
        let text: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Some(text.join(":")))
    }

    fn addresses4(&self, device: VirtAddr, left: usize, found: &mut Vec<String>) -> Result<(), LinuxError> {
        let space = self.space();
        let read = LinuxError::read("an interface's address");
        let Some(field) = self.net_device()?.ipv4 else { return Ok(()) };
        let family = field.pointer(space, device).map_err(&read)?;
        if family.is_null() {
            return Ok(());
        }
        let fields = self.address4()?;
        let mut at = self.in_device()?.addresses.pointer(space, family).map_err(&read)?;
        // A circle ends with the limit.
        for _ in 0..=left {
            if at.is_null() {
                return Ok(());
            }
            let address = Ipv4Addr::from(fields.address.read(space, at).map_err(&read)?);
            found.push(format!("{address}/{}", fields.prefix.read(space, at).map_err(&read)?));
            at = fields.next.pointer(space, at).map_err(&read)?;
        }
        let reason = "the list leads in a circle, or has more entries than the limit";
        Err(LinuxError::Broken { what: "an interface's addresses", at, reason })
    }

    fn addresses6(&self, device: VirtAddr, left: usize, found: &mut Vec<String>) -> Result<(), LinuxError> {
        let space = self.space();
        let read = LinuxError::read("an interface's address");
        let Some(field) = self.net_device()?.ipv6 else { return Ok(()) };
        let family = field.pointer(space, device).map_err(&read)?;
        if family.is_null() {
            return Ok(());
        }
        let fields = self.address6()?;
        let head = self.inet6_device()?.addresses.address(family);
        let offset = fields.list.address(VirtAddr::new(0)).get();
        for at in ListWalk::new(self, "an interface's addresses", head, offset, left) {
            let at = at?;
            let address = Ipv6Addr::from(fields.address.read(space, at).map_err(&read)?);
            found.push(format!("{address}/{}", fields.prefix.read(space, at).map_err(&read)?));
        }
        Ok(())
    }
}
