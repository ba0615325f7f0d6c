//! A question to a guest that stands still: what stays the same is found before, what is printed is printed after.

use std::time::{Duration, Instant};

use vmc::LiveGuest;

use super::open_running;
use super::pause::{Gate, Pause};
use crate::commands::Question;
use crate::debug::GuestFiles;
use crate::failure::Failure;
use crate::guest::{Guest, NotOpened};
use crate::output::TooMuch;

/// Stops the guest, asks, lets it go, says that it is `done`, and prints.
pub(super) fn run(
    question: &Question<'_>,
    guest: &dyn LiveGuest,
    gate: &Gate,
    attached: Instant,
    done: &dyn Fn(),
) -> Result<(), Failure> {
    let mut files = GuestFiles::new(question.args, question.notes);
    let ran = guest.running();
    let opened = if ran { open_running(question, guest, &mut files) } else { None };
    if let Some(opened @ Ok(_)) = &opened
        && question.args.command.is_rehearsed()
    {
        rehearse(question, opened, &files);
    }
    // A guest that attaching has stopped stands since then.
    let pause = Pause::begin(guest, gate, (!ran).then_some(attached))
        .map_err(|source| question.live_failure(source))?;
    question.sink.hold(TooMuch::Fails);
    question.notes.hold();
    let answered = match opened {
        Some(Ok(mut linux)) => {
            linux.forget();
            question.ask(Some(&Ok(linux)), Some(&pause), &files)
        }
        // What was not found in three moments is not looked for at the guest's expense.
        Some(Err(why)) => question.ask(Some(&Err(why)), Some(&pause), &files),
        None if question.args.command.needs_kernel() => {
            let opened = question.open_kernel(&mut files);
            question.ask(Some(&opened), Some(&pause), &files)
        }
        None => question.ask(None, Some(&pause), &files),
    };
    let stood = pause.end();
    done();
    // What is wrong with an answer of a guest that has ended is that.
    if (answered.is_err() || stood.is_err() || question.notes.wrong().count > 0)
        && !matches!(answered, Err(Failure::Output(_)))
        && let Some(why) = question.gone()
    {
        question.sink.take();
        question.notes.take();
        return Err(why);
    }
    question.notes.tell(question.notes.take());
    let written = question.sink.release();
    let stood = stood.map_err(|source| question.live_failure(source))?;
    // A failure is one line.
    answered.and(written.map_err(Failure::Output))?;
    say(question, guest, stood);
    Ok(())
}

/// Asks a running guest for nothing but what stays the same and is then at hand: members of structures, tables, names.
fn rehearse<'m>(question: &Question<'m>, opened: &Result<Guest<'m>, NotOpened>, files: &GuestFiles<'_>) {
    question.sink.hold(TooMuch::Fails);
    question.notes.hold();
    // What it says is torn, and nobody's.
    let _ = question.ask(Some(opened), None, files);
    question.sink.take();
    question.notes.take();
}

/// Says for how long the guest stood.
fn say(question: &Question<'_>, guest: &dyn LiveGuest, stood: Duration) {
    if guest.running() {
        question.notes.say(&format_args!("the guest stood still for {}", milliseconds(stood)));
    } else {
        question.notes.say(&"the guest was paused before, and still is");
    }
}

/// A time in milliseconds, to three digits.
fn milliseconds(time: Duration) -> String {
    let milliseconds = time.as_secs_f64() * 1e3;
    match milliseconds {
        ..1.0 => format!("{milliseconds:.3} ms"),
        ..100.0 => format!("{milliseconds:.1} ms"),
        _ => format!("{milliseconds:.0} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_stay_short() {
        let shown = |microseconds| milliseconds(Duration::from_micros(microseconds));
        assert_eq!([shown(250), shown(3_210), shown(1_234_567)], ["0.250 ms", "3.2 ms", "1235 ms"]);
    }
}
