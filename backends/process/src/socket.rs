//! A Unix or TCP socket to a stub or a monitor, whose every wait ends.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv, send,
    sockopt,
};

use crate::address::Address;

/// A name has few addresses; each is tried.
const MAX_ADDRESSES: usize = 8;

/// A connected socket.
#[derive(Debug)]
pub enum Socket {
    /// Both ends are on this host.
    Unix(UnixStream),
    /// To a host and a port.
    Tcp(TcpStream),
}

impl Socket {
    /// Connects; each address that a name has takes `patience` at most. `before` sees the socket before it is connected: what has
    /// to outlive us takes hold of it then.
    ///
    /// # Errors
    /// What the system says; [`io::ErrorKind::WouldBlock`] where a Unix socket's queue of clients stays full.
    pub fn connect(
        address: &Address,
        patience: Duration,
        before: &mut dyn FnMut(BorrowedFd<'_>),
    ) -> io::Result<Self> {
        match address {
            Address::Unix(path) => {
                let socket = new_socket(AddressFamily::UNIX, patience)?;
                let name = SocketAddrUnix::new(path)?;
                before(socket.as_fd());
                connect(&socket, &name)?;
                Ok(Self::Unix(socket.into()))
            }
            Address::Tcp(host, port) => {
                let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
                for address in (host.as_str(), *port).to_socket_addrs()?.take(MAX_ADDRESSES) {
                    let family = match address {
                        SocketAddr::V4(_) => AddressFamily::INET,
                        SocketAddr::V6(_) => AddressFamily::INET6,
                    };
                    let socket = new_socket(family, patience)?;
                    sockopt::set_tcp_nodelay(&socket, true)?;
                    before(socket.as_fd());
                    match connect(&socket, &address) {
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

    /// Sends all of `bytes`.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] when `until` has passed; what the system says else.
    pub fn send(&self, mut bytes: &[u8], until: Instant) -> io::Result<()> {
        while !bytes.is_empty() {
            sockopt::set_socket_timeout(self, sockopt::Timeout::Send, Some(left(until)?))?;
            match send(self, bytes, SendFlags::NOSIGNAL).map_err(io::Error::from) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(sent) => bytes = bytes.get(sent..).unwrap_or_default(),
                Err(error) if is_again(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes what has come, and waits for the first byte of it. Nothing (0) is the end of the stream.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] when `until` has passed; what the system says else.
    pub fn receive(&self, buf: &mut [u8], until: Instant) -> io::Result<usize> {
        self.receive_as(buf, RecvFlags::empty(), until)
    }

    /// As [`receive`](Self::receive), but what has come is there still.
    ///
    /// # Errors
    /// As [`receive`](Self::receive).
    pub fn peek(&self, buf: &mut [u8], until: Instant) -> io::Result<usize> {
        self.receive_as(buf, RecvFlags::PEEK, until)
    }

    /// Looks at what has come, without taking it or waiting for it.
    #[must_use]
    pub fn glance<'a>(&self, buf: &'a mut [u8]) -> &'a [u8] {
        let seen = recv(self, &mut *buf, RecvFlags::PEEK | RecvFlags::DONTWAIT);
        buf.get(..seen.map_or(0, |(seen, _)| seen)).unwrap_or_default()
    }

    fn receive_as(&self, buf: &mut [u8], flags: RecvFlags, until: Instant) -> io::Result<usize> {
        loop {
            sockopt::set_socket_timeout(self, sockopt::Timeout::Recv, Some(left(until)?))?;
            match recv(self, &mut *buf, flags).map_err(io::Error::from) {
                Ok((came, _)) => return Ok(came),
                Err(error) if is_again(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Are both ends on this host by the nature of the socket?
    #[must_use]
    pub const fn is_unix(&self) -> bool {
        matches!(self, Self::Unix(_))
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(socket) => socket.as_fd(),
            Self::Tcp(socket) => socket.as_fd(),
        }
    }
}

/// A socket; connecting it takes `patience` at most.
fn new_socket(family: AddressFamily, patience: Duration) -> io::Result<OwnedFd> {
    let socket = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(patience))?;
    Ok(socket)
}

/// The time that is left until then; the system takes no wait of nothing.
fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left.max(Duration::from_micros(10))) }
}

/// Is it a wait that ended, and nothing else? The time that is left says whether to go on.
#[must_use]
pub fn is_again(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;

    const SHORT: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn bytes_go_both_ways_and_every_wait_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address::parse(&listener.local_addr().unwrap().to_string()).unwrap();
        let mut held = 0;
        let socket = Socket::connect(&address, LONG, &mut |_| held += 1).unwrap();
        let (mut theirs, _) = listener.accept().unwrap();
        assert_eq!((held, socket.is_unix()), (1, false));
        let mut buf = [0; 8];
        let late = socket.receive(&mut buf, Instant::now() + SHORT).unwrap_err();
        assert_eq!((late.kind(), socket.glance(&mut buf)), (io::ErrorKind::TimedOut, b"".as_slice()));
        theirs.write_all(b"here").unwrap();
        assert_eq!(socket.peek(&mut buf, Instant::now() + LONG).unwrap(), 4);
        assert_eq!(socket.glance(&mut [0; 2]), b"he");
        assert_eq!(socket.receive(&mut buf, Instant::now() + LONG).unwrap(), 4);
        socket.send(b"back", Instant::now() + LONG).unwrap();
        theirs.read_exact(&mut buf[4..]).unwrap();
        assert_eq!(&buf, b"hereback");
        // Nobody takes it, and no more has room.
        let flood = socket.send(&vec![0; 64 << 20], Instant::now() + SHORT).unwrap_err();
        assert_eq!(flood.kind(), io::ErrorKind::TimedOut);
        drop((theirs, listener));
        assert!(Socket::connect(&address, LONG, &mut |_| ()).is_err());
    }
}
