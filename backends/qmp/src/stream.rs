//! The socket: lines that have a bound, and waits that end.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use vmc_process::Address;
use vmc_process::socket::Socket;

/// The longest line that is taken: the registers of a thousand vCPUs with every vector take a quarter of it.
pub(crate) const MAX_LINE: usize = 32 << 20;

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
        // With clients waiting a Unix socket's queue is full, and connecting blocks until time is up.
        let socket = Socket::connect(address, patience, &mut |_| ())?;
        Ok(Self { socket, buffer: Vec::new(), start: 0, scanned: 0 })
    }

    /// What the lines come by.
    pub(crate) const fn socket(&self) -> &Socket {
        &self.socket
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
        self.socket.send(rest, until)
    }

    /// Sends the first of `bytes` with a descriptor.
    fn send_with(&self, bytes: &[u8], fd: BorrowedFd<'_>) -> io::Result<usize> {
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = [fd];
        if !self.socket.is_unix() || !control.push(SendAncillaryMessage::ScmRights(&fds)) {
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
        match self.socket.receive(&mut chunk, until) {
            Ok(0) => Err(LineError::Closed),
            Ok(got) => {
                self.buffer.extend_from_slice(chunk.get(..got).unwrap_or_default());
                Ok(())
            }
            Err(error) => Err(match error.kind() {
                io::ErrorKind::TimedOut => LineError::Late,
                io::ErrorKind::ConnectionReset => LineError::Closed,
                _ => LineError::Io(error),
            }),
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
