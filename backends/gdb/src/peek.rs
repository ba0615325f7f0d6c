//! A look at what a stub has sent, before anything of it is taken.

use std::io;
use std::time::{Duration, Instant};

use vmc_process::socket::Socket;

/// The first byte of the first packet that comes; `None` where what comes is no packet.
pub(crate) fn first_of_packet(socket: &Socket, until: Instant) -> io::Result<Option<u8>> {
    loop {
        let mut bytes = [0; 64];
        let seen = match socket.peek(&mut bytes, until)? {
            0 => return Ok(None),
            seen => bytes.get(..seen).unwrap_or_default(),
        };
        let behind = seen.iter().position(|byte| !matches!(byte, b'+' | b'-'));
        match behind.and_then(|at| seen.get(at..)) {
            Some([b'$', first, ..]) => return Ok(Some(*first)),
            // Half of it: the rest is on its way.
            None | Some([b'$']) if seen.len() < bytes.len() => std::thread::sleep(Duration::from_micros(20)),
            _ => return Ok(None),
        }
    }
}

/// Does a stop reply stand at the head of what has come? Does not wait.
pub(crate) fn shows_stop(socket: &Socket) -> bool {
    let mut bytes = [0; 64];
    socket.glance(&mut bytes).array_windows().any(|pair| matches!(pair, [b'$', b'T' | b'S']))
}
