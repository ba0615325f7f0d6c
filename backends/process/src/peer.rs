//! Who is behind a socket: which processes of this host hold the other end, and is somebody else connected there?
//!
//! A Unix socket tells who listened on it, which need not be who serves it: libvirt and systemd hand sockets over. So all that
//! hold the socket by name are candidates too. A TCP connection whose other end is on this host is in `/proc/net/tcp`.
//!
//! Source: proc(5) of Linux for `/proc/net/unix`, `/proc/net/tcp`, `/proc/net/tcp6` and `/proc/PID/fd`; unix(7) for `SO_PEERCRED`.

use std::fs::{self, File};
use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::address::Address;
use crate::socket::Socket;

/// A client that has just gone is still there for a moment.
const GOING: Duration = Duration::from_millis(300);
/// Bytes of one of the kernel's tables of sockets.
const MAX_TABLE: u64 = 64 << 20;
/// `__SO_ACCEPTCON` in the table of Unix sockets: one that listens.
const LISTENS: u32 = 0x1_0000;
/// `SS_CONNECTING` and `SS_CONNECTED` there; the first as long as nobody has accepted it.
const CONNECTED: [u32; 2] = [2, 3];
/// `TCP_ESTABLISHED` in the tables of TCP.
const ESTABLISHED: u32 = 1;

/// The process that listened on a Unix socket, if it is to be seen from here.
#[must_use]
pub fn listener(socket: &Socket) -> Option<u32> {
    let who = socket.is_unix().then(|| rustix::net::sockopt::socket_peercred(socket).ok())??;
    u32::try_from(who.pid.as_raw_nonzero().get()).ok()
}

/// The processes that hold the other end, by looking through all of them.
pub fn holders(socket: &Socket) -> impl Iterator<Item = u32> {
    let inodes: Vec<u64> = match socket {
        Socket::Unix(socket) => {
            let name = socket.peer_addr().ok().and_then(|name| name.as_pathname().map(Path::to_path_buf));
            let table = table("unix");
            let named = |row: &UnixRow<'_>| name.as_deref() == Some(row.path);
            unix_rows(&table).filter(named).map(|row| row.inode).collect()
        }
        Socket::Tcp(socket) => {
            let ends = socket.peer_addr().ok().map(plain).zip(socket.local_addr().ok().map(plain));
            let tables = ["tcp", "tcp6"].map(table);
            let rows = tables.iter().flat_map(|table| tcp_rows(table));
            rows.filter(|row| ends == Some((row.local, row.remote))).map(|row| row.inode).collect()
        }
    };
    let inodes: Vec<u64> = inodes.into_iter().filter(|inode| *inode != 0).collect();
    let processes = (!inodes.is_empty()).then(|| fs::read_dir("/proc")).into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(move |pid| holds(*pid, &inodes))
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

/// Is somebody connected to that address, and stays so? False where this host does not know.
#[must_use]
pub fn is_busy(address: &Address) -> bool {
    let end = Instant::now() + GOING;
    while is_connected(address) {
        if Instant::now() >= end {
            return true;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    false
}

/// Is there a connection to that address, as far as this host sees it?
fn is_connected(address: &Address) -> bool {
    match address {
        Address::Unix(path) => {
            let whole = fs::canonicalize(path).unwrap_or_default();
            unix_rows(&table("unix")).any(|row| {
                CONNECTED.contains(&row.state)
                    && row.flags & LISTENS == 0
                    && row.path.is_absolute()
                    && (row.path == path || row.path == whole)
            })
        }
        Address::Tcp(host, port) => {
            let Ok(mut addresses) = (host.as_str(), *port).to_socket_addrs() else { return false };
            addresses.any(|address| address.ip().is_loopback())
                && ["tcp", "tcp6"]
                    .map(table)
                    .iter()
                    .any(|table| tcp_rows(table).any(|row| row.state == ESTABLISHED && row.local.1 == *port))
        }
    }
}

/// One of the kernel's tables of sockets; empty where it cannot be had.
fn table(name: &str) -> String {
    let mut bytes = Vec::new();
    let file = File::open(format!("/proc/net/{name}"));
    // What came before it failed counts.
    let _ = file.and_then(|file| file.take(MAX_TABLE).read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A Unix socket that has a name.
#[derive(Debug)]
struct UnixRow<'a> {
    flags: u32,
    state: u32,
    /// 0 as long as nobody has accepted it.
    inode: u64,
    path: &'a Path,
}

/// `Num RefCount Protocol Flags Type St Inode Path`.
fn unix_rows(table: &str) -> impl Iterator<Item = UnixRow<'_>> {
    table.lines().skip(1).filter_map(|line| {
        let mut rest = line;
        let mut columns = std::iter::from_fn(|| {
            let (column, after) = rest.trim_start().split_once(' ')?;
            rest = after;
            Some(column)
        });
        let flags = u32::from_str_radix(columns.nth(3)?, 16).ok()?;
        let state = u32::from_str_radix(columns.nth(1)?, 16).ok()?;
        let inode = columns.next()?.parse().ok()?;
        Some(UnixRow { flags, state, inode, path: Path::new(rest.trim_start()) })
    })
}

/// An address and a port; without what an IPv6 socket makes of an IPv4 address.
type End = (IpAddr, u16);

/// A TCP socket.
#[derive(Debug)]
struct TcpRow {
    local: End,
    remote: End,
    state: u32,
    inode: u64,
}

/// `sl local_address rem_address st tx_queue:rx_queue tr:when retrnsmt uid timeout inode`.
fn tcp_rows(table: &str) -> impl Iterator<Item = TcpRow> {
    table.lines().skip(1).filter_map(|line| {
        let mut columns = line.split_whitespace().skip(1);
        let (local, remote) = (tcp_end(columns.next()?)?, tcp_end(columns.next()?)?);
        let state = u32::from_str_radix(columns.next()?, 16).ok()?;
        let inode = columns.nth(5)?.parse().ok()?;
        Some(TcpRow { local, remote, state, inode })
    })
}

/// An end as the kernel writes it: 32-bit words of the address, each in the host's byte order, `:`, the port.
fn tcp_end(text: &str) -> Option<End> {
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

fn plain(address: SocketAddr) -> End {
    (address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests;
