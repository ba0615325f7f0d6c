//! The connection's bytes: a Unix or TCP socket whose every wait ends.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SocketAddrUnix, SocketFlags, SocketType, sockopt};

use vmc_process::Address;

/// A connected socket.
#[derive(Debug)]
pub(crate) enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Stream {
    /// Connects. `before` sees the socket before it is connected: what has to outlive us takes hold of it then.
    pub(crate) fn connect(
        address: &Address,
        patience: Duration,
        before: &mut dyn FnMut(BorrowedFd<'_>),
    ) -> io::Result<Self> {
        match address {
            Address::Unix(path) => {
                let socket = new_socket(AddressFamily::UNIX, patience)?;
                let name = SocketAddrUnix::new(path)?;
                before(socket.as_fd());
                rustix::net::connect(&socket, &name)?;
                Ok(Self::Unix(socket.into()))
            }
            Address::Tcp(host, port) => {
                let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
                // A name has few addresses; each is waited for.
                for address in (host.as_str(), *port).to_socket_addrs()?.take(8) {
                    let family = match address {
                        SocketAddr::V4(_) => AddressFamily::INET,
                        SocketAddr::V6(_) => AddressFamily::INET6,
                    };
                    let socket = new_socket(family, patience)?;
                    sockopt::set_tcp_nodelay(&socket, true)?;
                    before(socket.as_fd());
                    match rustix::net::connect(&socket, &address) {
                        Ok(()) => return Ok(Self::Tcp(socket.into())),
                        // What the kernel says where the time to connect is over.
                        Err(Errno::INPROGRESS) => last = io::ErrorKind::TimedOut.into(),
                        Err(error) => last = error.into(),
                    }
                }
                Err(last)
            }
        }
    }

    /// Sends all of `bytes`, or fails when `until` has passed.
    pub(crate) fn send(&mut self, mut bytes: &[u8], until: Instant) -> io::Result<()> {
        while !bytes.is_empty() {
            let left = left(until)?;
            let sent = match self {
                Self::Unix(stream) => {
                    stream.set_write_timeout(Some(left))?;
                    stream.write(bytes)
                }
                Self::Tcp(stream) => {
                    stream.set_write_timeout(Some(left))?;
                    stream.write(bytes)
                }
            };
            match sent {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(sent) => bytes = bytes.get(sent..).unwrap_or_default(),
                Err(error) if is_again(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Looks at the first byte of the first packet that comes, and takes nothing; `None` where what comes is no packet.
    pub(crate) fn first_of_packet(&self, until: Instant) -> io::Result<Option<u8>> {
        loop {
            let left = left(until)?;
            sockopt::set_socket_timeout(self, sockopt::Timeout::Recv, Some(left))?;
            let mut bytes = [0; 64];
            let seen = match rustix::net::recv(self, bytes.as_mut_slice(), RecvFlags::PEEK) {
                Ok((0, _)) => return Ok(None),
                Ok((seen, _)) => bytes.get(..seen).unwrap_or_default(),
                Err(Errno::AGAIN | Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let behind = seen.iter().position(|byte| !matches!(byte, b'+' | b'-'));
            match behind.and_then(|at| seen.get(at..)) {
                Some([b'$', first, ..]) => return Ok(Some(*first)),
                // Half of it: the rest is on its way.
                None | Some([b'$']) if seen.len() < bytes.len() => {
                    std::thread::sleep(Duration::from_micros(20))
                }
                _ => return Ok(None),
            }
        }
    }

    /// Does a stop reply stand at the head of what has come? Takes nothing, and does not wait.
    pub(crate) fn shows_stop(&self) -> bool {
        let mut bytes = [0; 64];
        let seen = rustix::net::recv(self, bytes.as_mut_slice(), RecvFlags::PEEK | RecvFlags::DONTWAIT);
        let seen = bytes.get(..seen.map_or(0, |(seen, _)| seen)).unwrap_or_default();
        seen.array_windows().any(|pair| matches!(pair, [b'$', b'T' | b'S']))
    }

    /// Takes what has come, waiting for the first byte until `until`. Nothing (0) is the end of the stream.
    pub(crate) fn receive(&mut self, buf: &mut [u8], until: Instant) -> io::Result<usize> {
        loop {
            let left = left(until)?;
            let came = match self {
                Self::Unix(stream) => {
                    stream.set_read_timeout(Some(left))?;
                    stream.read(buf)
                }
                Self::Tcp(stream) => {
                    stream.set_read_timeout(Some(left))?;
                    stream.read(buf)
                }
            };
            match came {
                Err(error) if is_again(&error) => {}
                other => return other,
            }
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(stream) => stream.as_fd(),
            Self::Tcp(stream) => stream.as_fd(),
        }
    }
}

/// A socket; connecting it takes `patience` at most.
fn new_socket(family: AddressFamily, patience: Duration) -> io::Result<OwnedFd> {
    let socket = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(patience))?;
    Ok(socket)
}

/// The time until `until`, which has to be more than nothing for the system to wait at all.
fn left(until: Instant) -> io::Result<Duration> {
    match until.checked_duration_since(Instant::now()) {
        Some(left) if !left.is_zero() => Ok(left.max(Duration::from_micros(10))),
        _ => Err(io::ErrorKind::TimedOut.into()),
    }
}

fn is_again(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted | io::ErrorKind::TimedOut)
}
