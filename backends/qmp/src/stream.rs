//! The socket: lines that have a bound, and waits that end.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType, sockopt,
};

use vmc_process::Address;

/// The longest line that is taken: the registers of a thousand vCPUs with every vector take a quarter of it.
pub(crate) const MAX_LINE: usize = 32 << 20;
/// A name has few addresses; each is tried.
const MAX_ADDRESSES: usize = 8;

#[derive(Debug)]
enum Socket {
    Unix(UnixStream),
    Tcp(TcpStream),
}

/// Why no line came.
#[derive(Debug)]
pub(crate) enum LineError {
    /// Time is up.
    Late,
    /// The peer has closed its end.
    Closed,
    /// More than [`MAX_LINE`] bytes without an end.
    Endless,
    /// The system says so.
    Io(io::Error),
}

/// A connection as lines.
#[derive(Debug)]
pub(crate) struct Stream {
    socket: Socket,
    buffer: Vec<u8>,
    /// The start of what has not been given out.
    start: usize,
    /// What lies before this has no end of a line.
    scanned: usize,
}

impl Stream {
    /// Connects within `patience`.
    pub(crate) fn connect(address: &Address, patience: Duration) -> io::Result<Self> {
        let socket = match address {
            Address::Unix(path) => {
                let socket = new_socket(AddressFamily::UNIX, patience)?;
                // With clients waiting the queue is full, and connecting blocks until time is up.
                rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
                Socket::Unix(socket.into())
            }
            Address::Tcp(host, port) => Socket::Tcp(connect_tcp(host, *port, patience)?),
        };
        Ok(Self { socket, buffer: Vec::new(), start: 0, scanned: 0 })
    }

    /// Are both ends on this host by the nature of the socket?
    pub(crate) fn is_unix(&self) -> bool {
        matches!(self.socket, Socket::Unix(_))
    }

    /// The addresses of both ends, ours first, of a TCP connection.
    pub(crate) fn tcp_ends(&self) -> Option<(SocketAddr, SocketAddr)> {
        match &self.socket {
            Socket::Unix(_) => None,
            Socket::Tcp(socket) => Some((socket.local_addr().ok()?, socket.peer_addr().ok()?)),
        }
    }

    /// Sends all of `bytes`, with a descriptor where one is given (Unix sockets alone take it), by `until`.
    pub(crate) fn send(
        &mut self,
        bytes: &[u8],
        fd: Option<BorrowedFd<'_>>,
        until: Instant,
    ) -> io::Result<()> {
        let mut rest = bytes;
        if let Some(fd) = fd {
            rest = rest.get(self.send_with(rest, fd)?..).unwrap_or_default();
        }
        while !rest.is_empty() {
            let left = left(until)?;
            let sent = match &mut self.socket {
                Socket::Unix(socket) => {
                    socket.set_write_timeout(Some(left)).and_then(|()| socket.write(rest))
                }
                Socket::Tcp(socket) => socket.set_write_timeout(Some(left)).and_then(|()| socket.write(rest)),
            };
            match sent {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(sent) => rest = rest.get(sent..).unwrap_or_default(),
                Err(error) if is_again(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Sends the first of `bytes` with a descriptor.
    fn send_with(&self, bytes: &[u8], fd: BorrowedFd<'_>) -> io::Result<usize> {
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = [fd];
        if !self.is_unix() || !control.push(SendAncillaryMessage::ScmRights(&fds)) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let bytes = [io::IoSlice::new(bytes)];
        let sent = rustix::io::retry_on_intr(|| {
            rustix::net::sendmsg(&self.socket, &bytes, &mut control, SendFlags::NOSIGNAL)
        });
        Ok(sent?)
    }

    /// The next line, without its end, that comes by `until`.
    pub(crate) fn line(&mut self, until: Instant) -> Result<&[u8], LineError> {
        let end = loop {
            let fresh = self.buffer.get(self.scanned..).unwrap_or_default();
            if let Some(at) = memchr::memchr(b'\n', fresh) {
                break self.scanned + at;
            }
            self.scanned = self.buffer.len();
            self.fill(until)?;
        };
        let line = self.start..end;
        (self.start, self.scanned) = (end + 1, end + 1);
        Ok(self.buffer.get(line).unwrap_or_default())
    }

    /// Takes more bytes; those that were given out make room.
    fn fill(&mut self, until: Instant) -> Result<(), LineError> {
        self.buffer.drain(..self.start.min(self.buffer.len()));
        self.scanned -= self.start;
        self.start = 0;
        if self.buffer.len() >= MAX_LINE {
            return Err(LineError::Endless);
        }
        let mut chunk = [0; 64 << 10];
        loop {
            let left = left(until).map_err(|_| LineError::Late)?;
            let got = match &mut self.socket {
                Socket::Unix(socket) => {
                    socket.set_read_timeout(Some(left)).and_then(|()| socket.read(&mut chunk))
                }
                Socket::Tcp(socket) => {
                    socket.set_read_timeout(Some(left)).and_then(|()| socket.read(&mut chunk))
                }
            };
            match got {
                Ok(0) => return Err(LineError::Closed),
                Ok(got) => {
                    self.buffer.extend_from_slice(chunk.get(..got).unwrap_or_default());
                    return Ok(());
                }
                Err(error) if is_again(&error) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return Err(LineError::Closed);
                }
                Err(error) => return Err(LineError::Io(error)),
            }
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
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

fn connect_tcp(host: &str, port: u16, patience: Duration) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in (host, port).to_socket_addrs()?.take(MAX_ADDRESSES) {
        match TcpStream::connect_timeout(&address, patience) {
            Ok(socket) => {
                socket.set_nodelay(true)?;
                return Ok(socket);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// A socket that takes `patience` at most to connect.
fn new_socket(family: AddressFamily, patience: Duration) -> io::Result<OwnedFd> {
    let socket = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(patience))?;
    Ok(socket)
}

/// The time that is left; the system takes no wait of nothing.
fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left.max(Duration::from_micros(10))) }
}

/// Is it a wait that ended, and nothing else? The time that is left says whether to go on.
pub(crate) fn is_again(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
        || error.raw_os_error() == Some(Errno::INPROGRESS.raw_os_error())
}
