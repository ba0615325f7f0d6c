//! Who is behind the socket: does the stub serve somebody else, and which process of this host is it?
//!
//! Source: `/proc/net/unix`, `/proc/net/tcp` and `/proc/net/tcp6` (proc(5)); `SO_PEERCRED` (unix(7)).

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::stream::Stream;
use vmc_process::Address;

/// A client that has just gone is still there for a moment.
const GOING: Duration = Duration::from_millis(300);
/// Bytes of one of the kernel's tables of sockets.
const MAX_TABLE: u64 = 64 << 20;
/// `ESTABLISHED` in the tables of TCP.
const ESTABLISHED: &str = "01";

/// Is somebody else connected to that address? False where this host does not know.
pub(crate) fn is_busy(address: &Address) -> bool {
    let end = Instant::now() + GOING;
    while connections(address) > 0 {
        if Instant::now() >= end {
            return true;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    false
}

/// Connections to that address, as far as this host sees them.
fn connections(address: &Address) -> usize {
    match address {
        Address::Unix(path) => {
            let path = path.to_string_lossy();
            let whole = std::fs::canonicalize(&*path).unwrap_or_default();
            count("/proc/net/unix", |line| {
                // Num RefCount Protocol Flags Type St Inode Path: a listener has the flag 10000; connected is 03, or 02
                // as long as nobody has accepted it.
                let mut words = line.split_ascii_whitespace();
                let (flags, state) = (words.nth(3), words.nth(1));
                let listens = flags.is_some_and(|flags| flags.ends_with("10000"));
                let name =
                    line.split_once('/').map(|(before, _)| line.get(before.len()..).unwrap_or_default());
                matches!(state, Some("02" | "03"))
                    && !listens
                    && name.is_some_and(|name| name == path || Path::new(name) == whole)
            })
        }
        Address::Tcp(host, port) => {
            let Ok(mut addresses) = (host.as_str(), *port).to_socket_addrs() else { return 0 };
            if !addresses.any(|address| address.ip().is_loopback()) {
                return 0;
            }
            let port = format!("{port:04X}");
            let is_served = |line: &str| {
                let mut words = line.split_ascii_whitespace();
                let (local, state) = (words.nth(1), words.nth(1));
                state == Some(ESTABLISHED)
                    && local.and_then(|local| local.rsplit_once(':')).is_some_and(|(_, local)| local == port)
            };
            count("/proc/net/tcp", is_served) + count("/proc/net/tcp6", is_served)
        }
    }
}

fn count(table: &str, is_one: impl Fn(&str) -> bool) -> usize {
    lines(table).filter(|line| is_one(line)).count()
}

fn lines(table: &str) -> impl Iterator<Item = String> {
    let file = File::open(table).ok().into_iter();
    file.flat_map(|file| {
        BufReader::with_capacity(1 << 16, file.take(MAX_TABLE)).lines().map_while(Result::ok)
    })
}

/// The process of this host at the other end.
pub(crate) fn process(stream: &Stream) -> Option<u32> {
    match stream {
        Stream::Unix(stream) => {
            let peer = rustix::net::sockopt::socket_peercred(stream).ok()?;
            u32::try_from(peer.pid.as_raw_nonzero().get()).ok()
        }
        Stream::Tcp(stream) => {
            let (theirs, ours) = (stream.peer_addr().ok()?, stream.local_addr().ok()?);
            if !theirs.ip().is_loopback() && theirs.ip() != ours.ip() {
                return None;
            }
            let table = if theirs.is_ipv4() { "/proc/net/tcp" } else { "/proc/net/tcp6" };
            let (local, remote) = (in_table(theirs), in_table(ours));
            // A socket of the other family may serve an IPv4 address by its mapped form.
            let mapped = [
                "0000000000000000FFFF0000".to_owned() + &local,
                "0000000000000000FFFF0000".to_owned() + &remote,
            ];
            let inode = inode(table, &local, &remote)
                .or_else(|| inode("/proc/net/tcp6", mapped.first()?, mapped.last()?))?;
            holder(&format!("socket:[{inode}]"))
        }
    }
}

fn inode(table: &str, local: &str, remote: &str) -> Option<String> {
    lines(table).find_map(|line| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let same = words.next() == Some(local) && words.next() == Some(remote);
        // st, queues, timer, retransmissions, uid, timeout, inode.
        same.then(|| words.nth(6).map(str::to_owned))?
    })
}

/// An address as the tables have it: its words in the order of this machine, hexadecimal.
fn in_table(address: SocketAddr) -> String {
    let words = |bytes: &[u8]| -> String {
        let (words, _) = bytes.as_chunks::<4>();
        words.iter().map(|word| format!("{:08X}", u32::from_ne_bytes(*word))).collect()
    };
    let ip = match address.ip() {
        IpAddr::V4(ip) => words(&ip.octets()),
        IpAddr::V6(ip) => words(&ip.octets()),
    };
    format!("{ip}:{:04X}", address.port())
}

/// The process that has this descriptor.
fn holder(target: &str) -> Option<u32> {
    for process in std::fs::read_dir("/proc").ok()?.filter_map(Result::ok) {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(descriptors) = std::fs::read_dir(process.path().join("fd")) else { continue };
        let is_it =
            |link: std::io::Result<std::path::PathBuf>| link.is_ok_and(|link| link == Path::new(target));
        if descriptors.filter_map(Result::ok).any(|entry| is_it(std::fs::read_link(entry.path()))) {
            return Some(pid);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::{UnixListener, UnixStream};

    #[test]
    fn clients_of_a_unix_socket_are_seen() {
        let path = std::env::temp_dir().join(format!("vmc-gdb-peer-{}.sock", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        let address = Address::Unix(path.clone());
        assert!(!is_busy(&address));
        // Not accepted yet, then accepted, then gone.
        let client = UnixStream::connect(&path).unwrap();
        assert!(is_busy(&address));
        let (server, _) = listener.accept().unwrap();
        assert!(is_busy(&address));
        assert_eq!(process(&Stream::Unix(client.try_clone().unwrap())), Some(std::process::id()));
        drop((client, server));
        assert!(!is_busy(&address));
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn clients_of_a_tcp_port_are_seen_and_its_process_is_found() {
        for ip in ["127.0.0.1", "::1"] {
            let Ok(listener) = TcpListener::bind((ip, 0)) else { continue };
            let port = listener.local_addr().unwrap().port();
            let address = Address::Tcp(ip.into(), port);
            assert!(!is_busy(&address));
            let client = TcpStream::connect((ip, port)).unwrap();
            let (server, _) = listener.accept().unwrap();
            assert!(is_busy(&address), "{ip}");
            assert_eq!(process(&Stream::Tcp(client.try_clone().unwrap())), Some(std::process::id()));
            drop((client, server));
            assert!(!is_busy(&address));
        }
    }

    #[test]
    fn addresses_are_as_the_kernel_writes_them() {
        // proc(5): 127.0.0.1:25 on a little-endian machine.
        if cfg!(target_endian = "little") {
            assert_eq!(in_table("127.0.0.1:25".parse().unwrap()), "0100007F:0019");
            assert_eq!(in_table("[::1]:80".parse().unwrap()), "00000000000000000000000001000000:0050");
        }
    }
}
