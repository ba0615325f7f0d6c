//! Where QEMU listens: `HOST:PORT`, `[V6]:PORT`, or the path of a socket, which has a `/` in it.

use std::fmt;
use std::path::PathBuf;

use crate::error::ConnectError;

/// Where QEMU listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A Unix socket.
    Unix(PathBuf),
    /// A host, without brackets, and a port.
    Tcp(String, u16),
}

impl Address {
    /// Reads an address as it is written after `qmp:`.
    ///
    /// # Errors
    /// [`ConnectError::Address`] where it is none.
    pub fn parse(text: &str) -> Result<Self, ConnectError> {
        if text.contains('/') {
            return Ok(Self::Unix(PathBuf::from(text)));
        }
        let parts = || {
            let (host, port) = text.rsplit_once(':')?;
            let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
            // Without brackets nobody could tell where an IPv6 address ends.
            let host = bare.or((!host.contains([':', '[', ']'])).then_some(host))?;
            let port = port.parse().ok().filter(|port| *port != 0)?;
            (!host.is_empty()).then(|| Self::Tcp(host.to_owned(), port))
        };
        parts().ok_or_else(|| ConnectError::Address { text: text.to_owned() })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "{}", path.display()),
            Self::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written() {
        let tcp = |host: &str, port| Address::Tcp(host.to_owned(), port);
        for (text, expected) in [
            ("localhost:4444", tcp("localhost", 4444)),
            ("[::1]:1", tcp("::1", 1)),
            ("/run/vm/qmp.sock", Address::Unix("/run/vm/qmp.sock".into())),
            ("./host:1", Address::Unix("./host:1".into())),
        ] {
            assert_eq!(Address::parse(text).unwrap(), expected);
            assert_eq!(expected.to_string(), text);
        }
        for wrong in
            ["", "qmp.sock", ":1", "host:", "host:0", "host:65536", "::1:5", "[::1]", "[]:1", "[::1:5"]
        {
            let error = Address::parse(wrong).unwrap_err().to_string();
            assert!(error.contains(&format!("{wrong:?}")), "{error}");
        }
    }
}
