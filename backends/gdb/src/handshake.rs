//! The first questions to a stub: what it can do, who its vCPUs are, whose addresses it reads, where the guest has memory.

use vmc::Region;
use vmc_qmp::hmp::layout_by_monitor;

use crate::description::Description;
use crate::error::{ConnectError, LinkError};
use crate::guard::Guard;
use crate::link::Link;
use crate::memory_map;
use crate::monitor::{self, Console};
use crate::options::ConnectOptions;
use crate::registers::Plan;
use crate::xfer::{self, Features};

/// vCPUs of one machine.
const MAX_VCPUS: usize = 8192;
/// Parts of the list of threads that are asked for together.
const PARTS: usize = 4;
/// Questions that are on their way to QEMU at a time: more bring nothing.
const WINDOW: usize = 16;

/// The mode in which QEMU's stub reads memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Addresses {
    /// It has the mode for physical addresses; this is how it was found.
    Switched {
        /// Was it on before?
        before: bool,
    },
    /// It has no such mode: whose they are is the user's word.
    AsTheyAre,
}

/// Where the guest has memory.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) regions: Vec<Region>,
    pub(crate) how: String,
    pub(crate) ram_bytes: u64,
    /// Where it lies in QEMU's process, if QEMU's monitor says it.
    pub(crate) host: Option<vmc_process::Layout>,
}

/// Asks what the stub can do; `found` hears first whether the guest ran.
pub(crate) fn features(link: &mut Link, found: &mut dyn FnMut(bool)) -> Result<Features, ConnectError> {
    let question = b"qSupported:xmlRegisters=i386,aarch64;binary-upload+";
    let answer = link.ask_once(question, &mut |byte| found(matches!(byte, b'T' | b'S'))).map_err(
        |error| match error {
            LinkError::Silent { peer, milliseconds, .. } => ConnectError::Silent { peer, milliseconds },
            other => other.into(),
        },
    )?;
    let features = Features::parse(&answer);
    if features.no_ack && link.ask(b"QStartNoAckMode")? == b"OK" {
        link.without_acks()?;
        link.widen(WINDOW);
    }
    Ok(features)
}

/// Switches to physical addresses.
pub(crate) fn addresses(
    link: &mut Link,
    options: &ConnectOptions,
    guard: &mut Guard,
) -> Result<Addresses, ConnectError> {
    let before = match link.ask(b"qqemu.PhyMemMode")?.as_slice() {
        b"0" => false,
        b"1" => true,
        _ if options.physical => return Ok(Addresses::AsTheyAre),
        _ => return Err(ConnectError::VirtualOnly { peer: link.peer().into() }),
    };
    // QEMU takes a new packet for the acknowledgement of its last.
    link.widen(WINDOW);
    physical(link, true, guard, before)?;
    Ok(Addresses::Switched { before })
}

/// Switches QEMU's mode for physical addresses on or off; `before`: as it is to be in the end.
pub(crate) fn physical(link: &mut Link, on: bool, guard: &mut Guard, before: bool) -> Result<(), LinkError> {
    if on != before {
        guard.physical(true);
    }
    let question = if on { b"Qqemu.PhyMemMode:1" } else { b"Qqemu.PhyMemMode:0" };
    match link.ask(question)?.as_slice() {
        b"OK" => {}
        other => return Err(link.answer_error(question, other)),
    }
    if on == before {
        guard.physical(false);
    }
    Ok(())
}

/// The stub's names of its threads, which are the vCPUs.
pub(crate) fn threads(link: &mut Link) -> Result<Vec<String>, ConnectError> {
    let mut threads: Vec<String> = Vec::new();
    let question = |part: usize| if part == 0 { b"qfThreadInfo".as_slice() } else { b"qsThreadInfo" };
    // QEMU tells one at a time, and says as often as it is asked that there are no more.
    let together = if link.is_wide() { PARTS } else { 1 };
    let mut part = 0;
    // Each part holds one thread at the least.
    'parts: while threads.len() <= MAX_VCPUS {
        let mut answers = Vec::new();
        link.ask_all(
            together,
            &mut |at, out| out.extend_from_slice(question(part + at)),
            &mut |at, answer| {
                answers.truncate(at);
                answers.push(answer);
                Ok(())
            },
        )?;
        for answer in answers {
            match answer.split_first() {
                Some((b'l', _)) => break 'parts,
                Some((b'm', names)) if !names.is_empty() => {
                    for name in names.split(|byte| *byte == b',') {
                        if !is_thread(name) || threads.len() == MAX_VCPUS {
                            return Err(link.answer_error(question(part), &answer).into());
                        }
                        threads.push(String::from_utf8_lossy(name).into_owned());
                    }
                }
                None if threads.is_empty() => break 'parts,
                _ => return Err(link.answer_error(question(part), &answer).into()),
            }
            part += 1;
        }
    }
    if threads.is_empty() {
        // Stubs without threads have one vCPU, which is always selected.
        threads.push(String::new());
    }
    Ok(threads)
}

/// `1f`, or `p1.1f` where the stub has several processes.
fn is_thread(name: &[u8]) -> bool {
    let name = name.strip_prefix(b"p").unwrap_or(name);
    !name.is_empty()
        && name.len() <= 33
        && name.iter().all(|byte| byte.is_ascii_hexdigit() || *byte == b'.')
        && name.iter().filter(|byte| **byte == b'.').count() <= 1
}

/// Which registers there are.
pub(crate) fn registers(link: &mut Link, features: &Features) -> Result<Plan, ConnectError> {
    let peer = link.peer().to_owned();
    if !features.description {
        return Err(ConnectError::Description { peer, what: "it has none (qXfer:features:read)".into() });
    }
    let description = Description::read(&mut |name: &str| xfer::read(link, features, "features", name))?;
    let description = description.map_err(|what| ConnectError::Description { peer: peer.clone(), what })?;
    Plan::new(&description)
        .map_err(|found| ConnectError::Architecture { peer, found: found.escape_debug().to_string() })
}

/// Where the guest has memory: by the user's word, by QEMU's monitor, or by the stub's memory map.
pub(crate) fn layout(
    link: &mut Link,
    features: &Features,
    options: &ConnectOptions,
    monitor: bool,
) -> Result<Layout, ConnectError> {
    if let Some(regions) = &options.regions {
        return Ok(plain(regions.clone(), "given by the user"));
    }
    let mut why = String::from("it has none of them");
    if monitor {
        match layout_by_monitor(&mut Console(link)) {
            Ok(layout) => {
                return Ok(Layout {
                    regions: layout.regions(),
                    how: "info mtree -f of the stub's monitor".into(),
                    ram_bytes: layout.ram_bytes,
                    host: Some(layout),
                });
            }
            Err(error) => why = error.to_string(),
        }
    }
    if features.memory_map
        && let Some(text) = xfer::read(link, features, "memory-map", "")?
    {
        match memory_map::parse(&text) {
            Ok(regions) if !regions.is_empty() => return Ok(plain(regions, "the stub's memory map")),
            Ok(_) => why = "the memory map has no RAM".into(),
            Err(what) => why = what,
        }
    }
    Err(ConnectError::NoLayout { peer: link.peer().into(), why })
}

fn plain(regions: Vec<Region>, how: &str) -> Layout {
    let ram_bytes = regions.iter().fold(0u64, |sum, region| sum.saturating_add(region.len));
    Layout { regions, how: how.into(), ram_bytes, host: None }
}

/// `QEMU 7.2.22`, where a monitor says so.
pub(crate) fn version(link: &mut Link) -> Result<Option<String>, LinkError> {
    let Some(Ok(text)) = monitor::ask(link, &["info version"])?.pop() else { return Ok(None) };
    let word = text.split_whitespace().next().unwrap_or_default();
    let is_version = word.starts_with(|c: char| c.is_ascii_digit()) && word.len() <= 32;
    Ok(is_version.then(|| format!("QEMU {}", word.escape_debug())))
}

#[cfg(test)]
mod tests {
    use super::is_thread;

    #[test]
    fn names_of_threads_are_numbers() {
        for good in ["1", "01", "ffff", "p1.1", "p01.02"] {
            assert!(is_thread(good.as_bytes()), "{good}");
        }
        for wrong in ["", "p", "x", "1#", "p1.1.1", "-1", "1 ", &"1".repeat(40)] {
            assert!(!is_thread(wrong.as_bytes()), "{wrong}");
        }
    }
}
