//! The monitor behind a stub: `qRcmd` passes a line to it, its text comes in `O` packets.
//!
//! Source: "General Query Packets" in GDB's manual. QEMU's stub passes every line to its human monitor.

use std::cell::RefCell;

use vmc::LiveError;
use vmc_qmp::hmp::{Monitor, MonitorError};

use crate::error::{LinkError, excerpt};
use crate::link::{Link, is_console_output};
use crate::packet::{hex, unhex};

/// The longest answer that is taken, in bytes: `info mtree -f` of large machines has some hundred thousand.
const MAX_TEXT: usize = 8 << 20;

/// What a monitor says to a line; `Err` with what came instead where there is no monitor.
type Answer = Result<String, Vec<u8>>;

/// What a monitor says to each of some lines.
pub(crate) fn ask(link: &mut Link, lines: &[&str]) -> Result<Vec<Answer>, LinkError> {
    let texts = RefCell::new(vec![Ok(Vec::new()); lines.len()]);
    let peer = link.peer().to_owned();
    link.converse(
        lines.len(),
        &mut |at, out| {
            // Where it is asked anew, what was said before does not count.
            if let Some(text) = texts.borrow_mut().get_mut(at) {
                *text = Ok(Vec::new());
            }
            out.extend_from_slice(b"qRcmd,");
            out.extend_from_slice(&hex(lines.get(at).map_or(b"", |line| line.as_bytes())));
        },
        &mut |at, packet| {
            let mut texts = texts.borrow_mut();
            let Some(text) = texts.get_mut(at) else { return Ok(true) };
            hear(text, packet).map_err(|found| LinkError::Answer {
                peer: peer.clone(),
                question: lines.get(at).map_or_else(String::new, |line| (*line).to_owned()),
                found: excerpt(&found),
            })
        },
    )?;
    let lossy = |text: Vec<u8>| String::from_utf8_lossy(&text).into_owned();
    Ok(texts.into_inner().into_iter().map(|text| text.map(lossy)).collect())
}

/// Takes a packet of an answer; true where it is the last. `Err` with what is none.
fn hear(text: &mut Result<Vec<u8>, Vec<u8>>, packet: Vec<u8>) -> Result<bool, Vec<u8>> {
    let (digits, ends) = match packet.as_slice() {
        b"OK" => return Ok(true),
        [b'E', ..] | [] => {
            *text = Err(packet);
            return Ok(true);
        }
        [b'O', digits @ ..] if is_console_output(&packet) => (digits, false),
        // Some send the text as the answer itself.
        digits => (digits, true),
    };
    let Some(bytes) = unhex(digits) else { return Err(packet) };
    if let Ok(text) = text {
        text.extend(bytes);
        if text.len() > MAX_TEXT {
            return Err(b"text without end".into());
        }
    }
    Ok(ends)
}

/// The monitor as vmc's parsers want it.
pub(crate) struct Console<'a>(pub(crate) &'a mut Link);

impl Monitor for Console<'_> {
    fn hmp(&mut self, line: &str) -> Result<String, MonitorError> {
        self.hmp_all(&[line.to_owned()]).map(|answers| answers.into_iter().collect())
    }

    fn hmp_all(&mut self, lines: &[String]) -> Result<Vec<String>, MonitorError> {
        let words: Vec<&str> = lines.iter().map(String::as_str).collect();
        let answers = ask(self.0, &words).map_err(LiveError::from)?;
        let refused = |(line, answer): (&String, Answer)| {
            answer.map_err(|answer| MonitorError::Refused { command: line.clone(), answer: excerpt(&answer) })
        };
        lines.iter().zip(answers).map(refused).collect()
    }
}
