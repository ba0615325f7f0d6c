//! Where a stub listens: `HOST:PORT`, `[V6]:PORT`, or a socket's path, which has a `/` in it.

use std::fmt;
use std::path::PathBuf;

use crate::error::ConnectError;

/// Where a stub listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A Unix socket.
    Unix(PathBuf),
    /// A host and a port.
    Tcp(String, u16),
}

impl Address {
    /// Reads an address as users write it.
    ///
    /// # Errors
    /// [`ConnectError::Address`] where it is none.
    pub fn parse(text: &str) -> Result<Self, ConnectError> {
        if text.contains('/') {
            return Ok(Self::Unix(PathBuf::from(text)));
        }
        let wrong = || ConnectError::Address { text: text.into() };
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().map_err(|_| wrong())?;
        let bare = match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').ok_or_else(wrong)?,
            None if host.contains(':') => return Err(wrong()),
            None => host,
        };
        if bare.is_empty() || port == 0 {
            return Err(wrong());
        }
        Ok(Self::Tcp(bare.into(), port))
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
    fn addresses_are_told_apart() {
        let tcp = |host: &str, port| Address::Tcp(host.into(), port);
        for (text, expected) in [
            ("localhost:1234", tcp("localhost", 1234)),
            ("10.0.0.1:1", tcp("10.0.0.1", 1)),
            ("[::1]:1234", tcp("::1", 1234)),
            ("/run/a.sock", Address::Unix("/run/a.sock".into())),
            ("./gdb:1", Address::Unix("./gdb:1".into())),
        ] {
            let address = Address::parse(text).unwrap();
            assert_eq!((address.to_string(), &address), (text.to_owned(), &expected));
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for wrong in
            ["", "host", "host:", ":1234", "host:0", "host:65536", "::1:1234", "[::1]", "[::1:5", "[]:5"]
        {
            assert!(matches!(Address::parse(wrong), Err(ConnectError::Address { .. })), "{wrong}");
        }
    }
}
