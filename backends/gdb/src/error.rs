//! Why a stub could not be attached to, or did not answer.

use std::io;

use vmc::LiveError;

/// Why talking to a stub failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The connection ended.
    #[error("the stub at {peer} has closed the connection")]
    Closed {
        /// Its address.
        peer: String,
    },
    /// The connection broke.
    #[error("the connection to the stub at {peer} broke: {what}")]
    Broken {
        /// Its address.
        peer: String,
        /// What the system says.
        what: String,
    },
    /// No answer in time.
    #[error("the stub at {peer} did not answer `{question}` within {milliseconds} ms")]
    Silent {
        /// Its address.
        peer: String,
        /// What it was asked.
        question: String,
        /// How long was waited.
        milliseconds: u64,
    },
    /// What it sent is not GDB's protocol.
    #[error("what listens at {peer} speaks no GDB remote protocol: it sent {found}")]
    NotGdb {
        /// Its address.
        peer: String,
        /// What came.
        found: String,
    },
    /// It refused a question, or answered something else.
    #[error("the stub at {peer} answered `{question}` with {found}")]
    Answer {
        /// Its address.
        peer: String,
        /// What it was asked.
        question: String,
        /// What came.
        found: String,
    },
    /// The machine has ended.
    #[error("the machine behind the stub at {peer} has ended")]
    Ended {
        /// Its address.
        peer: String,
    },
}

impl From<LinkError> for LiveError {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::Silent { peer, milliseconds, .. } => {
                Self::Silent { who: format!("the stub at {peer}"), milliseconds }
            }
            other => Self::Gone { what: other.to_string() },
        }
    }
}

/// Why a stub could not be attached to. Each is one line: what was looked for, what was found, what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The address is none.
    #[error(
        "{text:?} is no address of a stub: HOST:PORT, [IPv6]:PORT, or the path of a socket with a / in it"
    )]
    Address {
        /// What was given.
        text: String,
    },
    /// Nothing listens there, or it cannot be reached.
    #[error("no stub at {peer}: {source} (QEMU has one with `-gdb`, `-s`, or the monitor's `gdbserver`)")]
    Connect {
        /// Its address.
        peer: String,
        /// What the system says.
        source: io::Error,
    },
    /// Another client is attached: a stub has one at a time.
    #[error("the stub at {peer} serves another client already, and can serve one only: end that one first")]
    Busy {
        /// Its address.
        peer: String,
    },
    /// The connection is there, but nobody answers on it.
    #[error(
        "the stub at {peer} took the connection but said nothing for {milliseconds} ms: another client may be \
        attached (a stub serves one at a time), or the machine's monitor hangs"
    )]
    Silent {
        /// Its address.
        peer: String,
        /// How long was waited.
        milliseconds: u64,
    },
    /// Talking to it failed.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// Its target description is damaged, or hostile.
    #[error("the target description of the stub at {peer} is not understood: {what}")]
    Description {
        /// Its address.
        peer: String,
        /// What is wrong.
        what: String,
    },
    /// A machine that is not known here.
    #[error("the stub at {peer} serves a machine of architecture {found}; x86_64 and aarch64 are known")]
    Architecture {
        /// Its address.
        peer: String,
        /// What its description says.
        found: String,
    },
    /// It has no vCPU.
    #[error("the stub at {peer} has no vCPUs")]
    NoVcpus {
        /// Its address.
        peer: String,
    },
    /// It reads virtual addresses only.
    #[error(
        "the stub at {peer} reads virtual addresses only (it has no Qqemu.PhyMemMode), and the guest's memory has to be \
        read by physical ones; where its addresses are physical, say so"
    )]
    VirtualOnly {
        /// Its address.
        peer: String,
    },
    /// Where the guest has memory is not known.
    #[error(
        "the stub at {peer} does not tell where the guest has memory (no monitor, no memory map): {why}; say it as \
        GPA+SIZE"
    )]
    NoLayout {
        /// Its address.
        peer: String,
        /// What was tried.
        why: String,
    },
}

/// Some bytes of a peer's, for an error's line.
pub(crate) fn excerpt(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "nothing".into();
    }
    let mut text: String =
        bytes.iter().take(40).flat_map(|byte| byte.escape_ascii()).map(char::from).collect();
    if bytes.len() > 40 {
        text.push('…');
    }
    format!("\"{text}\"")
}

#[cfg(test)]
mod tests {
    use super::excerpt;

    #[test]
    fn excerpts_are_short_and_without_controls() {
        assert_eq!(excerpt(b""), "nothing");
        assert_eq!(excerpt(b"a\x1b[31m\n"), "\"a\\x1b[31m\\n\"");
        assert_eq!(excerpt(&[b'x'; 100]).chars().count(), 43);
    }
}
