//! A question to a guest that runs: what is changed while it is read does not fit together, and is read again.

use std::time::{Duration, Instant};

use vmc::LiveGuest;

use super::open_running;
use crate::commands::Question;
use crate::debug::GuestFiles;
use crate::failure::Failure;
use crate::notes::Wrong;
use crate::output::TooMuch;

/// How often a question is asked at the most.
const MOST_TRIES: usize = 5;
/// So many tries after the best one that are as wrong as that one in the same way: it is what there is.
const ALIKE: usize = 2;
/// What lies between two tries.
const MOMENT: Duration = Duration::from_millis(2);
/// After so long, those tries that are needed to see what lasts are all.
const PATIENCE: Duration = Duration::from_secs(3);

/// One answer.
struct Try {
    answered: Result<(), Failure>,
    wrong: Wrong,
    bytes: Vec<u8>,
    notes: (Vec<String>, usize),
}

impl Try {
    /// What is the less the better: did it fail, and how much was wrong?
    fn badness(&self) -> (bool, usize) {
        (self.answered.is_err(), self.wrong.count)
    }

    /// Are what two tries say is wrong the same things?
    fn as_wrong_as(&self, other: &Self) -> bool {
        let failure = |one: &Self| one.answered.as_ref().err().map(ToString::to_string);
        self.wrong == other.wrong && failure(self) == failure(other)
    }
}

/// Asks until nothing is wrong with an answer, or nothing gets better; the best one is told when it is `done`.
pub(super) fn run(question: &Question<'_>, guest: &dyn LiveGuest, done: &dyn Fn()) -> Result<(), Failure> {
    let began = Instant::now();
    let mut files = GuestFiles::new(question.args, question.notes);
    let mut opened = open_running(question, guest, &mut files);
    // Where the threads on a vCPU stand is asked for only now: finding the kernel took its time.
    guest.forget();
    let mut best: Option<Try> = None;
    let (mut tries, mut alike) = (0, 0);
    loop {
        tries += 1;
        question.sink.hold(TooMuch::IsWritten);
        question.notes.hold();
        let answered = question.ask(opened.as_ref(), None, &files);
        let written = !question.sink.holds();
        let (bytes, notes, wrong) = (question.sink.take(), question.notes.take(), question.notes.wrong());
        // Whoever reads what we print has gone.
        let unread = matches!(answered, Err(Failure::Output(_)));
        let this = Try { answered, wrong, bytes, notes };
        let whole = this.badness() == (false, 0);
        // What is wrong with an answer of a guest that has ended is that.
        if !whole
            && !unread
            && let Some(why) = question.gone()
        {
            return Err(why);
        }
        alike += usize::from(best.as_ref().is_some_and(|best| this.as_wrong_as(best)));
        if best.as_ref().is_none_or(|best| this.badness() < best.badness()) {
            best = Some(this);
        }
        // What is written is written: it cannot be taken back for a better answer.
        let late = tries > ALIKE && began.elapsed() > PATIENCE;
        let lasting = alike >= ALIKE || tries == MOST_TRIES || late;
        if whole || lasting || written || unread || question.args.command.is_asked_once() {
            break;
        }
        // Whoever is in the midst of a change gets some time for it.
        std::thread::sleep(MOMENT);
        guest.forget();
        match &mut opened {
            Some(Ok(linux)) => linux.forget(),
            Some(Err(_)) => opened = open_running(question, guest, &mut files),
            None => {}
        }
    }
    done();
    let Some(Try { answered, bytes, notes, .. }) = best else { return Ok(()) };
    question.notes.tell(notes);
    question.sink.write_out(&bytes)?;
    let times = if tries == 1 { String::new() } else { format!(", {tries} times") };
    answered?;
    question.notes.say(&format_args!("the guest ran while it was read{times} (--no-stop)"));
    Ok(())
}
