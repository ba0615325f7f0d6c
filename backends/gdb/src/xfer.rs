//! Objects that are read in parts (`qXfer`), and what a stub says it can do (`qSupported`).
//!
//! Source: "General Query Packets" in GDB's manual. `qXfer:OBJECT:read:ANNEX:OFFSET,LENGTH` is answered by `m` and data where more
//! follows, by `l` and data at the end.

use crate::error::LinkError;
use crate::link::Link;

/// The longest object that is taken, in bytes.
pub(crate) const MAX_OBJECT: usize = 1 << 20;
/// A packet's size where the stub does not say it: GDB's own least.
const DEFAULT_PACKET: usize = 400;
/// The largest packet that is asked for.
const LARGEST_PACKET: usize = 1 << 17;

/// Parts that are asked for at once.
const TOGETHER: usize = 6;

/// What a stub says it can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Features {
    /// The longest packet that it takes and sends, in bytes.
    pub(crate) packet: usize,
    pub(crate) no_ack: bool,
    pub(crate) description: bool,
    pub(crate) memory_map: bool,
    /// Reads memory as bytes by `x`.
    pub(crate) binary: bool,
    /// Takes `vCont`.
    pub(crate) continues: bool,
}

impl Features {
    /// From the answer to `qSupported`.
    pub(crate) fn parse(answer: &[u8]) -> Self {
        let mut features = Self {
            packet: DEFAULT_PACKET,
            no_ack: false,
            description: false,
            memory_map: false,
            binary: false,
            continues: false,
        };
        for word in answer.split(|byte| *byte == b';') {
            match word {
                b"QStartNoAckMode+" => features.no_ack = true,
                b"qXfer:features:read+" => features.description = true,
                b"qXfer:memory-map:read+" => features.memory_map = true,
                b"binary-upload+" => features.binary = true,
                b"vContSupported+" => features.continues = true,
                [b'P', b'a', b'c', b'k', b'e', b't', b'S', b'i', b'z', b'e', b'=', digits @ ..] => {
                    let size =
                        str::from_utf8(digits).ok().and_then(|text| usize::from_str_radix(text, 16).ok());
                    features.packet = size.unwrap_or(DEFAULT_PACKET).clamp(64, LARGEST_PACKET);
                }
                _ => {}
            }
        }
        features
    }
}

/// Reads an object; `Ok(None)` where the stub refuses it.
pub(crate) fn read(
    link: &mut Link,
    features: &Features,
    object: &str,
    annex: &str,
) -> Result<Option<String>, LinkError> {
    // The letter and the frame take four bytes; escapes may double the rest, and then come in more parts.
    let part = features.packet.saturating_sub(5).max(32);
    let mut text = Vec::new();
    // How many parts are asked for at once, each so far behind the one before: as long as the stub's parts are.
    let (mut together, mut stride) = (1, 0);
    'parts: loop {
        let from = text.len();
        let behind = stride;
        let question = |at: usize| format!("qXfer:{object}:read:{annex}:{:x},{part:x}", from + at * behind);
        let mut answers = Vec::new();
        link.ask_all(together, &mut |at, out| out.extend(question(at).bytes()), &mut |at, answer| {
            answers.truncate(at);
            answers.push(answer);
            Ok(())
        })?;
        for (at, answer) in answers.iter().enumerate() {
            let question = question(at);
            let data = match answer.split_first() {
                Some((b'l' | b'm', [])) if text.is_empty() => return Ok(None),
                Some((b'l', data)) => {
                    text.extend_from_slice(data);
                    break 'parts;
                }
                Some((b'm', data)) if !data.is_empty() => data,
                None | Some((b'E', _)) if text.is_empty() => return Ok(None),
                _ => return Err(link.answer_error(question.as_bytes(), answer)),
            };
            text.extend_from_slice(data);
            if text.len() > MAX_OBJECT {
                return Err(link.answer_error(question.as_bytes(), b"more than 1 MiB"));
            }
            // What was asked for behind a part of another length begins elsewhere.
            if at + 1 < answers.len() && data.len() != stride {
                break;
            }
            stride = data.len();
        }
        together = if link.is_wide() { TOGETHER } else { 1 };
    }
    match String::from_utf8(text) {
        Ok(text) => Ok(Some(text)),
        Err(_) => Err(link.answer_error(annex.as_bytes(), b"bytes that are no UTF-8")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_read_by_name_and_bounded() {
        let qemu = Features::parse(b"PacketSize=1000;qXfer:features:read+;vContSupported+;multiprocess+");
        assert_eq!((qemu.packet, qemu.description, qemu.no_ack, qemu.continues), (4096, true, false, true));
        let other = Features::parse(b"QStartNoAckMode+;binary-upload+;qXfer:memory-map:read+;PacketSize=zz");
        assert!(other.no_ack && other.binary && other.memory_map && !other.description);
        assert_eq!(other.packet, DEFAULT_PACKET);
        assert_eq!(Features::parse(b"PacketSize=ffffffffffff").packet, LARGEST_PACKET);
        assert_eq!(Features::parse(b"PacketSize=0").packet, 64);
        assert_eq!(Features::parse(b"").packet, DEFAULT_PACKET);
    }
}
