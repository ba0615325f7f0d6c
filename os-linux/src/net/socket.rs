//! One `struct sock` as a row.
//!
//! Source: `struct sock_common` in `include/net/sock.h`, with which full sockets, those in TIME-WAIT and requests for
//! connections begin alike; `include/net/tcp_states.h`; `struct unix_sock` in `include/net/af_unix.h`.

use alloc::format;
use alloc::string::{String, ToString};
use core::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};

use vmc::layout::Types;
use vmc::text::lossless;
use vmc::view::{RowErrors, Socket};
use vmc::{ReadExt, VirtAddr};

use crate::error::LinuxError;
use crate::kernel::Linux;

/// `AF_INET6`.
const INET6: u16 = 10;
/// States that only small sockets have, which no program has open.
pub(super) const TIME_WAIT: u8 = 6;
pub(super) const NEW_REQUEST: u8 = 12;
/// States by their number, as ss calls them.
const STATES: [&str; 13] = [
    "UNKNOWN",
    "ESTAB",
    "SYN-SENT",
    "SYN-RECV",
    "FIN-WAIT-1",
    "FIN-WAIT-2",
    "TIME-WAIT",
    "UNCONN",
    "CLOSE-WAIT",
    "LAST-ACK",
    "LISTEN",
    "CLOSING",
    "SYN-RECV",
];
/// The family before a Unix socket's name.
const FAMILY_BYTES: u64 = 2;
/// A Unix socket's name: `sizeof(struct sockaddr_un)`, family included.
const UNIX_NAME: u64 = 110;

impl Linux<'_> {
    /// The socket at `at` as a row without inode and owners; nothing for a protocol that is not shown.
    pub(super) fn socket_row(&self, at: VirtAddr) -> Result<Option<Socket>, LinuxError> {
        let (space, limits) = (self.space(), self.limits());
        let fields = self.sock()?;
        let read = LinuxError::read("a socket");
        let family = fields.family.read(space, at).map_err(&read)?;
        let Some(protocol) = self.protocol(at, family)? else { return Ok(None) };
        let mut row = Socket { protocol, object: at, ..Socket::default() };
        let mut errors = RowErrors::default();
        let state = errors.keep(limits, "state", self.socket_state(at));
        row.state = state.map(|state| STATES.get(usize::from(state)).copied().unwrap_or("UNKNOWN"));
        let net = fields.net.map(|field| {
            let net = field.pointer(space, at).map_err(&read)?;
            self.net_namespace_number(net)
        });
        row.netns = net.and_then(|net| errors.keep(limits, "netns", net));
        if protocol == "unix" {
            row.local = errors.keep(limits, "local", self.unix_name(at)).flatten();
            row.remote = errors.keep(limits, "remote", self.unix_peer_name(at)).flatten();
        } else if let Some((local, remote)) = errors.keep(limits, "local, remote", self.ends(at, family)) {
            (row.local, row.remote) = (Some(local), Some(remote));
        }
        row.errors = errors;
        Ok(Some(row))
    }

    /// What kind of socket it is, by the name of its `struct proto`: copies that intercept traffic keep it.
    fn protocol(&self, at: VirtAddr, family: u16) -> Result<Option<&'static str>, LinuxError> {
        let read = LinuxError::read("a socket's protocol");
        let kind = self.sock()?.protocol.pointer(self.space(), at).map_err(&read)?;
        if kind.is_null() {
            return Ok(None);
        }
        let name = self.proto()?.name.read(self.space(), kind).map_err(&read)?;
        let end = memchr::memchr(0, &name).unwrap_or(name.len());
        Ok(match (name.get(..end).unwrap_or_default(), family) {
            (b"TCP" | b"TCPv6", INET6) => Some("tcp6"),
            (b"TCP" | b"TCPv6", _) => Some("tcp"),
            (b"UDP" | b"UDPv6", INET6) => Some("udp6"),
            (b"UDP" | b"UDPv6", _) => Some("udp"),
            (b"UNIX" | b"UNIX-STREAM", _) => Some("unix"),
            _ => None,
        })
    }

    /// The state; of what waits to be forgotten, the one that it waits in.
    fn socket_state(&self, at: VirtAddr) -> Result<u8, LinuxError> {
        let read = LinuxError::read("a socket's state");
        let state = self.sock()?.state.read(self.space(), at).map_err(&read)?;
        match self.time_wait()?.state {
            Some(field) if state == TIME_WAIT => field.read(self.space(), at).map_err(&read),
            _ => Ok(state),
        }
    }

    /// Both ends: addresses with ports.
    fn ends(&self, at: VirtAddr, family: u16) -> Result<(String, String), LinuxError> {
        let space = self.space();
        let fields = self.sock()?;
        let read = LinuxError::read("a socket's address");
        let local_port = fields.local_port.read(space, at).map_err(&read)?;
        // In the order of the wire, as are the addresses.
        let remote_port = u16::from_be_bytes(fields.remote_port.read(space, at).map_err(&read)?);
        if family == INET6
            && let (Some(local), Some(remote)) = (fields.local6, fields.remote6)
        {
            let local = Ipv6Addr::from(local.read(space, at).map_err(&read)?);
            let remote = Ipv6Addr::from(remote.read(space, at).map_err(&read)?);
            let local = SocketAddrV6::new(local, local_port, 0, 0);
            return Ok((local.to_string(), SocketAddrV6::new(remote, remote_port, 0, 0).to_string()));
        }
        let local = Ipv4Addr::from(fields.local.read(space, at).map_err(&read)?);
        let remote = Ipv4Addr::from(fields.remote.read(space, at).map_err(&read)?);
        let local = SocketAddrV4::new(local, local_port);
        Ok((local.to_string(), SocketAddrV4::new(remote, remote_port).to_string()))
    }

    fn unix_peer_name(&self, at: VirtAddr) -> Result<Option<String>, LinuxError> {
        let read = LinuxError::read("a socket's peer");
        let peer = self.unix_sock()?.peer.pointer(self.space(), at).map_err(&read)?;
        if peer.is_null() { Ok(None) } else { self.unix_name(peer) }
    }

    /// The name that a Unix socket is bound to, as `/proc/net/unix` writes it; nothing where it has none.
    fn unix_name(&self, at: VirtAddr) -> Result<Option<String>, LinuxError> {
        let space = self.space();
        let read = LinuxError::read("a socket's name");
        let address = self.unix_sock()?.address.pointer(space, at).map_err(&read)?;
        if address.is_null() {
            return Ok(None);
        }
        let len = u64::from(self.unix_address()?.len.read(space, address).map_err(&read)?);
        let name = address.wrapping_add(self.types().member("unix_address", "name")?.offset + FAMILY_BYTES);
        // Names end with their length; those of files may have a NUL there that belongs to it.
        let len = len.min(UNIX_NAME + 1).saturating_sub(FAMILY_BYTES);
        let bytes = space.read_vec(name, len, UNIX_NAME as usize).map_err(&read)?;
        Ok(match bytes.split_first() {
            None => None,
            Some((0, rest)) => Some(format!("@{}", lossless(rest).replace('\0', "@"))),
            Some(_) => {
                let end = memchr::memchr(0, &bytes).unwrap_or(bytes.len());
                Some(lossless(bytes.get(..end).unwrap_or_default()))
            }
        })
    }
}
