//! Live guests: a question is asked while the guest stands still, as briefly as may be, or again and again while it runs.

mod address;
#[cfg(test)]
pub(crate) mod fake;
mod gone;
mod open;
mod pause;
mod running;
mod signals;
mod stopped;
#[cfg(test)]
mod tests;
mod until;

pub(crate) use address::{Named, check_address};
pub(crate) use gone::gone;
pub(crate) use open::open;
pub(crate) use pause::Pause;
pub(crate) use signals::Blocked;
pub(crate) use until::Until;

use std::time::Instant;

use vmc::LiveGuest;

use crate::args::Command;
use crate::commands::Question;
use crate::debug::GuestFiles;
use crate::failure::Failure;
use crate::guest::{Guest, NotOpened};
use crate::record::{self, Moment, Seen};
use crate::top;
use pause::Gate;
use signals::{Watch, ends_work, lets_go};

/// How often a kernel that is not to be found in a running guest is looked for again.
pub(crate) const TRIES_TO_OPEN: usize = 3;

/// Asks a live guest. Attaching to it began at `attached`.
pub(crate) fn run(
    question: &Question<'_>,
    guest: &dyn LiveGuest,
    blocked: &Blocked,
    attached: Instant,
) -> Result<(), Failure> {
    if question.args.command.over_time().is_some() {
        return over_time(question, guest, blocked, attached);
    }
    let gate = Gate::default();
    std::thread::scope(|scope| {
        let _watch = Watch::start(scope, blocked, lets_go(&gate, guest));
        // Everything is asked of the guest, and it is free again.
        let answered = || {
            gate.answered();
            blocked.free_terminal();
        };
        if question.args.common.live.no_stop && guest.running() {
            running::run(question, guest, &answered)
        } else {
            stopped::run(question, guest, &gate, attached, &answered)
        }
    })
}

/// Looks at a live guest again and again, until it is told to end: by a signal, too.
fn over_time(
    question: &Question<'_>,
    guest: &dyn LiveGuest,
    blocked: &Blocked,
    attached: Instant,
) -> Result<(), Failure> {
    let until = Until::default();
    std::thread::scope(|scope| {
        // Attaching may have stopped the guest, and finding its kernel stops it for moments.
        let stands = until.standing();
        let _watch = Watch::start(scope, blocked, ends_work(&until));
        let moment = Moment::new(guest);
        let seen = Seen::find(question, guest, &moment, &until, attached)?;
        drop(stands);
        blocked.free_terminal();
        match &question.args.command {
            Command::Record { options, .. } => record::run(question, &seen, options),
            Command::Top { options, .. } => top::run(question, &seen, options),
            _ => Ok(()),
        }
    })
}

/// Finds the kernel in a guest that runs, as far as the question needs one.
fn open_running<'m>(
    question: &Question<'m>,
    guest: &dyn LiveGuest,
    files: &mut GuestFiles<'_>,
) -> Option<Result<Guest<'m>, NotOpened>> {
    if !question.args.command.needs_kernel() {
        return None;
    }
    let mut opened = question.open_kernel(files);
    for _ in 1..TRIES_TO_OPEN {
        if opened.is_ok() {
            break;
        }
        guest.forget();
        opened = question.open_kernel(files);
    }
    Some(opened)
}
