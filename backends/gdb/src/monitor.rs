//! The monitor behind a stub: `qRcmd` passes a line to it, its text comes in `O` packets.
//!
//! Source: "General Query Packets" in GDB's manual. QEMU's stub passes every line to its human monitor.

use std::time::Instant;

use vmc::LiveError;
use vmc_qmp::hmp::{Monitor, MonitorError};

use crate::error::{LinkError, excerpt};
use crate::link::{Link, is_console_output, is_stop};
use crate::packet::{hex, unhex};

/// The longest answer that is taken, in bytes: `info mtree -f` of large machines has some hundred thousand.
const MAX_TEXT: usize = 8 << 20;
/// How often a line is passed again that a stop of the guest has swallowed.
const TRIES: usize = 3;

/// What a monitor says to one line; `Ok(Err(…))` with what came instead where there is no monitor.
pub(crate) fn ask(link: &mut Link, line: &str) -> Result<Result<String, Vec<u8>>, LinkError> {
    let question = [b"qRcmd,".as_slice(), &hex(line.as_bytes())].concat();
    'tries: for _ in 0..TRIES {
        link.tell(&question)?;
        let until = Instant::now() + link.patience();
        let mut text = Vec::new();
        loop {
            let Some(packet) = link.receive(until, false)? else { return Err(link.silent(line.as_bytes())) };
            match packet.as_slice() {
                b"OK" => break,
                [b'O', digits @ ..] if is_console_output(&packet) => {
                    text.extend(unhex(digits).unwrap_or_default());
                }
                packet if is_stop(packet) => {
                    link.quiet()?;
                    continue 'tries;
                }
                [b'E', ..] | [] => return Ok(Err(packet)),
                // Some send the text as the answer itself.
                digits => match unhex(digits) {
                    Some(bytes) => {
                        text.extend(bytes);
                        break;
                    }
                    None => return Err(link.answer_error(line.as_bytes(), digits)),
                },
            }
            if text.len() > MAX_TEXT {
                return Err(link.answer_error(line.as_bytes(), b"text without end"));
            }
        }
        return Ok(Ok(String::from_utf8_lossy(&text).into_owned()));
    }
    Err(link.answer_error(line.as_bytes(), b"a stop of the guest each time"))
}

/// The monitor as vmc's parsers want it.
pub(crate) struct Console<'a>(pub(crate) &'a mut Link);

impl Monitor for Console<'_> {
    fn hmp(&mut self, line: &str) -> Result<String, MonitorError> {
        let refused = |answer: &[u8]| MonitorError::Refused { command: line.into(), answer: excerpt(answer) };
        ask(self.0, line).map_err(LiveError::from)?.map_err(|answer| refused(&answer))
    }
}
