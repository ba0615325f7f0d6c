//! Where a stub or a monitor listens: `HOST:PORT`, `[V6]:PORT`, or the path of a socket, which has a `/` in it.

use std::fmt;
use std::path::PathBuf;

/// Where somebody listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A Unix socket.
    Unix(PathBuf),
    /// A host, without brackets, and a port.
    Tcp(String, u16),
}

/// Why a text is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It has neither a port nor a slash.
    #[error("{text} is neither HOST:PORT nor a path with a slash in it")]
    Neither {
        /// The text.
        text: String,
    },
    /// What stands before the port is no host.
    #[error("{host} is no host; an IPv6 address stands in brackets")]
    Host {
        /// What stands there.
        host: String,
    },
    /// What stands behind the host is no port.
    #[error("{port} is no port")]
    Port {
        /// What stands there.
        port: String,
    },
}

impl Address {
    /// Reads an address as users write it.
    ///
    /// # Errors
    /// [`AddressError`] where it is none.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if text.contains('/') {
            return Ok(Self::Unix(PathBuf::from(text)));
        }
        let Some((host, port)) = text.rsplit_once(':') else {
            return Err(AddressError::Neither { text: text.to_owned() });
        };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        // Without brackets nobody could tell where an IPv6 address ends.
        let name = bare.or((!host.contains([':', '[', ']'])).then_some(host)).filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| AddressError::Host { host: host.to_owned() })?;
        match port.parse() {
            Ok(port) if port != 0 => Ok(Self::Tcp(name.to_owned(), port)),
            _ => Err(AddressError::Port { port: port.to_owned() }),
        }
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
            ("localhost:1234", tcp("localhost", 1234)),
            ("10.0.0.1:1", tcp("10.0.0.1", 1)),
            ("[::1]:1234", tcp("::1", 1234)),
            ("[::1]:1", tcp("::1", 1)),
            ("/run/a.sock", Address::Unix("/run/a.sock".into())),
            ("./gdb:1", Address::Unix("./gdb:1".into())),
        ] {
            let address = Address::parse(text).unwrap();
            assert_eq!((address.to_string(), &address), (text.to_owned(), &expected));
        }
    }

    #[test]
    fn what_is_no_address_is_refused_and_said() {
        let neither = |text: &str| AddressError::Neither { text: text.to_owned() };
        let host = |host: &str| AddressError::Host { host: host.to_owned() };
        let port = |port: &str| AddressError::Port { port: port.to_owned() };
        for (wrong, why) in [
            ("", neither("")),
            ("host", neither("host")),
            ("qmp.sock", neither("qmp.sock")),
            (":1234", host("")),
            ("::1:1234", host("::1")),
            ("[::1]", host("[:")),
            ("[::1:5", host("[::1")),
            ("host]:5", host("host]")),
            ("[]:5", host("[]")),
            ("host:", port("")),
            ("host:0", port("0")),
            ("host:65536", port("65536")),
        ] {
            assert_eq!(Address::parse(wrong), Err(why), "{wrong}");
        }
    }
}
