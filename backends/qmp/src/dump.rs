//! `dump-guest-memory`: QEMU's own core of the guest.
//!
//! Source: `qapi/dump.json` of QEMU. The dump is written beside other commands (`detach`), and `query-dump` tells how far it is.

use std::fs::File;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use crate::connection::Connection;
use crate::error::{CommandError, DumpError};
use crate::message::{Dump, DumpState, Nothing};

/// The name that QEMU keeps the file under.
const NAME: &str = "vmc-dump";
/// How often is asked how far it is.
const PAUSE: Duration = Duration::from_millis(20);
/// How long nothing may be written before it is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Has QEMU write a core into `file`.
pub(crate) fn dump_guest_memory(
    connection: &mut Connection,
    file: &File,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), DumpError> {
    if !connection.socket().is_unix() {
        return Err(DumpError::NoHandOver { peer: connection.peer().to_owned() });
    }
    let protocol = format!("fd:{NAME}");
    let dump = Dump { paging: false, protocol: &protocol, detach: Some(true), begin: None, length: None };
    connection.dump_into(file.as_fd(), NAME, dump)?;
    let mut last = (0, Instant::now());
    loop {
        let DumpState { status, completed, total } = connection.execute("query-dump", Nothing {})?;
        progress(completed, total);
        match status.as_str() {
            "completed" => return Ok(()),
            "active" => {}
            "failed" => return Err(DumpError::Failed { completed, total }),
            _ => {
                let what = format!("state {}", crate::hmp::excerpt(&status));
                let peer = connection.peer().to_owned();
                return Err(CommandError::Answer { peer, command: "query-dump", what }.into());
            }
        }
        if completed != last.0 {
            last = (completed, Instant::now());
        } else if last.1.elapsed() >= PATIENCE {
            return Err(DumpError::Stuck { seconds: PATIENCE.as_secs(), completed, total });
        }
        std::thread::sleep(PAUSE);
    }
}
