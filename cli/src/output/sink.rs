//! Where results go: to stdout, or into memory while a guest stands still, since whoever reads stdout may take any time.

use std::cell::RefCell;
use std::io::{self, BufWriter, Error, StdoutLock, Write};
use std::rc::Rc;

/// The most that is kept of an answer.
const MOST_HELD: usize = 256 << 20;

/// What becomes of an answer that is larger than what is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TooMuch {
    /// It cannot be given.
    Fails,
    /// It is written from then on.
    IsWritten,
}

/// Where results go, shared by all outputs of one command.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sink {
    held: Rc<RefCell<Held>>,
    /// What would have been written to stdout.
    #[cfg(test)]
    written: Option<Rc<RefCell<Vec<u8>>>>,
}

#[derive(Debug, Default)]
struct Held {
    /// Nothing where bytes go straight to stdout.
    then: Option<TooMuch>,
    bytes: Vec<u8>,
    most: usize,
}

impl Sink {
    /// Keeps what comes from now on.
    pub(crate) fn hold(&self, then: TooMuch) {
        self.hold_up_to(MOST_HELD, then);
    }

    fn hold_up_to(&self, most: usize, then: TooMuch) {
        *self.held.borrow_mut() = Held { then: Some(then), bytes: Vec::new(), most };
    }

    /// Is what comes kept?
    pub(crate) fn holds(&self) -> bool {
        self.held.borrow().then.is_some()
    }

    /// What was kept; nothing is kept any more.
    pub(crate) fn take(&self) -> Vec<u8> {
        std::mem::take(&mut *self.held.borrow_mut()).bytes
    }

    /// Writes what was kept; nothing is kept any more.
    pub(crate) fn release(&self) -> io::Result<()> {
        let kept = self.take();
        self.write_out(&kept)
    }

    /// Writes to stdout, whatever is kept.
    pub(crate) fn write_out(&self, bytes: &[u8]) -> io::Result<()> {
        #[cfg(test)]
        if let Some(written) = &self.written {
            written.borrow_mut().extend_from_slice(bytes);
            return Ok(());
        }
        let mut out = io::stdout().lock();
        out.write_all(bytes)?;
        out.flush()
    }

    /// A sink whose stdout is memory.
    #[cfg(test)]
    pub(crate) fn captured() -> (Self, Rc<RefCell<Vec<u8>>>) {
        let written = Rc::default();
        (Self { held: Rc::default(), written: Some(Rc::clone(&written)) }, written)
    }

    /// A stream of bytes into it.
    pub(super) fn stream(&self) -> Stream {
        #[cfg(test)]
        if self.written.is_some() {
            return Stream::Held(self.clone());
        }
        if self.holds() {
            return Stream::Held(self.clone());
        }
        Stream::Direct(BufWriter::with_capacity(1 << 16, io::stdout().lock()))
    }

    fn keep(&self, buf: &[u8]) -> io::Result<()> {
        let mut held = self.held.borrow_mut();
        let Some(then) = held.then else {
            drop(held);
            return self.write_out(buf);
        };
        if held.bytes.len().saturating_add(buf.len()) <= held.most {
            held.bytes.extend_from_slice(buf);
            return Ok(());
        }
        if then == TooMuch::Fails {
            return Err(Error::other(format!(
                "it is larger than the {} MiB that are kept while the guest stands still; --no-stop writes all of it",
                held.most >> 20
            )));
        }
        let kept = std::mem::take(&mut *held).bytes;
        drop(held);
        self.write_out(&kept)?;
        self.write_out(buf)
    }
}

/// A stream of bytes into a [`Sink`].
pub(super) enum Stream {
    Direct(BufWriter<StdoutLock<'static>>),
    Held(Sink),
}

impl Write for Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Direct(out) => out.write(buf),
            Self::Held(sink) => sink.keep(buf).map(|()| buf.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Direct(out) => out.flush(),
            Self::Held(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_bounded() {
        let sink = Sink::default();
        sink.hold_up_to(8, TooMuch::Fails);
        let mut stream = sink.stream();
        assert!(stream.write_all(b"12345").is_ok() && stream.write_all(b"678").is_ok());
        assert!(stream.write_all(b"9").unwrap_err().to_string().contains("--no-stop"));
        assert_eq!(sink.take(), b"12345678");
        assert!(!sink.holds());
    }

    #[test]
    fn what_is_too_much_is_written_where_that_may_be() {
        let (sink, written) = Sink::captured();
        sink.hold_up_to(4, TooMuch::IsWritten);
        let mut stream = sink.stream();
        stream.write_all(b"1234").unwrap();
        assert!(sink.holds() && written.borrow().is_empty());
        stream.write_all(b"5").unwrap();
        assert!(!sink.holds());
        stream.write_all(b"6").unwrap();
        assert_eq!(*written.borrow(), b"123456");
    }
}
