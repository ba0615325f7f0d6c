//! Which process of this host is QEMU: the other end of the socket.
//!
//! A Unix socket tells who listened on it, which need not be QEMU: libvirt and systemd hand sockets over. So all that hold the
//! socket by name are candidates too; who has the guest's memory at the right addresses is found out by looking. A TCP connection
//! whose other end is on this host is in `/proc/net/tcp`.
//!
//! Source: proc(5) of Linux for `/proc/net/unix`, `/proc/net/tcp` and `/proc/PID/fd`; unix(7) for `SO_PEERCRED`.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use crate::stream::Stream;
use vmc_process::Address;

/// The process that listened on a Unix socket, if it is to be seen from here.
pub(crate) fn listener(stream: &Stream) -> Option<u32> {
    let who = stream.is_unix().then(|| rustix::net::sockopt::socket_peercred(stream).ok())??;
    u32::try_from(who.pid.as_raw_nonzero().get()).ok()
}

/// The processes that hold the server's end, by looking through all of them.
pub(crate) fn holders(stream: &Stream, address: &Address) -> Vec<u32> {
    let inodes = match (stream.tcp_ends(), address) {
        (Some((ours, theirs)), _) => ["/proc/net/tcp", "/proc/net/tcp6"]
            .iter()
            .filter_map(|table| fs::read_to_string(table).ok())
            .flat_map(|table| tcp_inodes(&table, theirs, ours))
            .collect(),
        (None, Address::Unix(path)) => {
            let table = fs::read_to_string("/proc/net/unix").unwrap_or_default();
            let path = fs::canonicalize(path).unwrap_or_else(|_| path.clone());
            unix_inodes(&table, &path)
        }
        (None, Address::Tcp(..)) => Vec::new(),
    };
    if inodes.is_empty() {
        return Vec::new();
    }
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| *pid != std::process::id() && holds(*pid, &inodes)).collect()
}

/// Does a process have a descriptor of one of these sockets?
fn holds(pid: u32, inodes: &[u64]) -> bool {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let mut targets = descriptors.filter_map(|entry| fs::read_link(entry.path()).ok());
    targets.any(|target| {
        let inode =
            target.to_str().and_then(|name| name.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
        inode.is_some_and(|inode: u64| inodes.contains(&inode))
    })
}

/// The sockets with this path. `Num RefCount Protocol Flags Type St Inode Path`.
fn unix_inodes(table: &str, path: &Path) -> Vec<u64> {
    let of = |line: &str| {
        let mut rest = line;
        let mut columns = std::iter::from_fn(|| {
            let (column, after) = rest.trim_start().split_once(' ')?;
            rest = after;
            Some(column)
        });
        let inode = columns.nth(6)?.parse::<u64>().ok()?;
        (Path::new(rest.trim_start()) == path && inode != 0).then_some(inode)
    };
    table.lines().skip(1).filter_map(of).collect()
}

/// The sockets from `local` to `remote`. `sl local_address rem_address st tx_queue:rx_queue tr:when retrnsmt uid timeout inode`.
fn tcp_inodes(table: &str, local: SocketAddr, remote: SocketAddr) -> Vec<u64> {
    let of = |line: &str| {
        let mut columns = line.split_whitespace().skip(1);
        let ends = (tcp_end(columns.next()?)?, tcp_end(columns.next()?)?);
        let inode = columns.nth(6)?.parse::<u64>().ok()?;
        let wanted = (plain(local), plain(remote));
        (ends == wanted && inode != 0).then_some(inode)
    };
    table.lines().skip(1).filter_map(of).collect()
}

/// An address and a port as the kernel writes them: 32-bit words of the address, each in the host's byte order, `:`, the port.
fn tcp_end(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |index: usize| {
        let digits = address.get(index * 8..index * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let address = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            let bytes: [u8; 16] = words.as_flattened().try_into().ok()?;
            IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
        }
        _ => return None,
    };
    Some((address, port))
}

/// Without what an IPv6 socket makes of an IPv4 address.
fn plain(address: SocketAddr) -> (IpAddr, u16) {
    (address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_found_in_the_kernels_tables() {
        let table = "Num       RefCount Protocol Flags    Type St Inode Path\n\
            0000000015a050c1: 00000002 00000000 00010000 0001 01 1111141 /run/a b/qmp.sock\n\
            0000000015a050c2: 00000003 00000000 00000000 0001 03 1111150 /run/a b/qmp.sock\n\
            0000000015a050c3: 00000003 00000000 00000000 0001 03 1111151\n\
            0000000015a050c4: 00000002 00000000 00010000 0001 01 99 /run/a b/qmp.sock2\n";
        assert_eq!(unix_inodes(table, Path::new("/run/a b/qmp.sock")), [1_111_141, 1_111_150]);
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            \x20  0: 0100007F:115C 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 7 1 0\n\
            \x20  1: 0100007F:115C 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 8 1 0\n\
            \x20  2: 0000000000000000FFFF00000100007F:115C 0000000000000000FFFF00000100007F:C351 01 0:0 0:0 0 0 0 9 1\n\
            \x20  3: 00000000000000000000000001000000:115C 00000000000000000000000001000000:C350 01 0:0 0:0 0 0 0 10 1\n";
        let of =
            |local: &str, remote: &str| tcp_inodes(table, local.parse().unwrap(), remote.parse().unwrap());
        assert_eq!(of("127.0.0.1:4444", "127.0.0.1:50000"), [8]);
        assert_eq!(of("127.0.0.1:4444", "127.0.0.1:50001"), [9]);
        assert_eq!(of("[::1]:4444", "[::1]:50000"), [10]);
        assert!(of("127.0.0.2:4444", "127.0.0.1:50000").is_empty());
    }
}
