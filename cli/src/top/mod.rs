//! `top`: who uses the CPUs of a live guest, a table every few seconds.

mod round;
mod screen;

use std::io::{IsTerminal, Write};
use std::time::Instant;

use crate::args::TopOptions;
use crate::commands::Question;
use crate::failure::Failure;
use crate::live::Until;
use crate::record::{Sampler, Seen, Ticks, Wanted};
use round::Round;
use screen::{Asked, Screen};

/// What is sampled: threads, without their stacks.
const WANTED: Wanted =
    Wanted { pid: None, cpu: None, kernel: true, user: true, idle: false, stacks: false, demangled_bytes: 0 };

/// Shows rounds until there were as many as `options` ask for, or somebody asks for the end.
pub(crate) fn run(question: &Question<'_>, seen: &Seen<'_>, options: &TopOptions) -> Result<(), Failure> {
    let (guest, moment, until) = (seen.guest, seen.moment, seen.until);
    let linux = seen.opened.as_ref().ok();
    if let Err(why) = &seen.opened {
        question.notes.warning(&format_args!("{}: {why}; its vCPUs alone are shown", question.name()));
    }
    if let Some(stood) = seen.told() {
        question.notes.say(&stood);
    }
    if !guest.running() {
        question.notes.warning(&format_args!(
            "{}: the guest is paused: what is shown is where it stands, not what it does",
            question.name()
        ));
    }
    let mut sampler = Sampler::new(guest, moment, linux, WANTED);
    let terminal = std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
    let mut screen = if terminal && !options.batch { Some(Screen::open()?) } else { None };
    let rounds = options.rounds.or(if terminal { None } else { Some(1) });
    let mut ticks = Ticks::new(Instant::now(), options.rate, u64::from(std::process::id()));
    let (mut threads, mut shown) = (options.threads, 0);
    let mut last = None;
    'rounds: while rounds.is_none_or(|rounds| shown < rounds) && !until.over() {
        let began = Instant::now();
        let mut round = Round::default();
        loop {
            let now = Instant::now();
            if now.duration_since(began) >= options.interval {
                break;
            }
            let deadline = ticks.next(now).min(began + options.interval);
            match wait(screen.as_mut(), until, deadline)? {
                Some(Asked::Quit) => break 'rounds,
                Some(Asked::Toggle) => {
                    threads = !threads;
                    if let (Some(screen), Some(last)) = (&mut screen, &last) {
                        screen.show(question.name(), last, linux, &sampler.profile, threads)?;
                    }
                    continue;
                }
                None => {}
            }
            let taken = {
                let _stands = until.standing();
                sampler.take()
            };
            round.add(&taken.map_err(|why| question.live_failure(why))?);
        }
        round.pause = sampler.pauses.quantile(0.5);
        match &mut screen {
            Some(screen) => screen.show(question.name(), &round, linux, &sampler.profile, threads)?,
            None => {
                let mut out = std::io::stdout().lock();
                for line in round.lines(question.name(), linux, &sampler.profile, threads, usize::MAX) {
                    writeln!(out, "{line}")?;
                }
                writeln!(out)?;
                out.flush()?;
            }
        }
        last = Some(round);
        shown += 1;
    }
    Ok(())
}

/// Waits until `deadline`, for a key or the end.
fn wait(screen: Option<&mut Screen>, until: &Until, deadline: Instant) -> Result<Option<Asked>, Failure> {
    match screen {
        Some(screen) => {
            if until.over() {
                return Ok(Some(Asked::Quit));
            }
            Ok(screen.key_before(deadline)?)
        }
        None => Ok(until.wait(deadline).then_some(Asked::Quit)),
    }
}
