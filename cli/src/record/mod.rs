//! `record`: where a live guest spends its time.
//!
//! The way of a sample: [`Ticks`] says when, [`Sampler`] stops the guest, reads into a [`Moment`] what stacks need, lets the guest go and
//! walks; [`Profile`] counts; [`out`] writes.

mod bare;
mod file;
mod moment;
pub(crate) mod out;
mod pauses;
mod profile;
mod sampler;
mod seen;
#[cfg(test)]
mod tests;
mod ticks;

pub(crate) use moment::Moment;
pub(crate) use profile::Profile;
pub(crate) use sampler::{Met, Sampler, Wanted};
pub(crate) use seen::Seen;
pub(crate) use ticks::Ticks;

use std::io::{BufWriter, Write};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::ValueEnum;
use indicatif::ProgressBar;
use vmc::LiveError;

use crate::args::RecordOptions;
use crate::commands::Question;
use crate::failure::Failure;
use crate::live::Until;
use file::Out;
use out::Form;
use out::pprof::Times;

/// What stacks are put together by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Per {
    /// By process
    Process,
    /// By process and thread
    Thread,
    /// By CPU and process
    Cpu,
}

/// A guest that stands for more than this share of the time is told of.
const MUCH: f64 = 0.1;

/// How a recording ended.
enum Ended {
    /// Its time was over, or somebody asked for it.
    InTime,
    /// The guest could not be sampled any more.
    Broken(LiveError),
}

/// Records what `options` ask for until their time is over, or somebody asks for the end.
pub(crate) fn run(question: &Question<'_>, seen: &Seen<'_>, options: &RecordOptions) -> Result<(), Failure> {
    let (guest, moment, until) = (seen.guest, seen.moment, seen.until);
    let form = match &options.output {
        Some(path) => Form::of(path).map_err(Failure::Said)?,
        None => Form::Folded,
    };
    absent(question, seen, options)?;
    // Before anything is recorded: it would be a pity to find out afterwards.
    let file = match &options.output {
        Some(path) => Some(
            Out::create(path)
                .map_err(|why| Failure::Said(format!("{}: it cannot be written: {why}", path.display())))?,
        ),
        None => None,
    };
    let linux = match &seen.opened {
        Ok(linux) => Some(linux),
        Err(why) => {
            question.notes.warning(&format_args!(
                "{}: {why}; recording where its vCPUs stand, without names",
                question.name()
            ));
            None
        }
    };
    if !guest.running() {
        question
            .notes
            .warning(&format_args!("{}: the guest is paused: every sample will be alike", question.name()));
    }
    if let (Some(pid), Some(linux)) = (options.pid, linux) {
        let _stands = until.standing();
        linux.process(pid).map_err(|source| Failure::Guest { target: question.name().to_owned(), source })?;
    }
    let mut sampler = Sampler::new(guest, moment, linux, options.wanted());
    if form == Form::Perf {
        sampler.profile.timed = Some(Vec::new());
    }
    let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let began = Instant::now();
    let mut ticks = Ticks::new(began, options.rate, started.as_nanos() as u64);
    let ended = sample(question, &mut sampler, &mut ticks, until, options.duration);
    let lasted = began.elapsed();
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let times = Times { start: nanos(started), duration: nanos(lasted), period: nanos(ticks.period()) };
    let told = summary(&sampler, &ticks, lasted, options);
    if let Ended::Broken(why) = &ended {
        if sampler.profile.samples() == 0 {
            return Err(question.live_failure(why.clone()));
        }
        question.notes.say(&format_args!("{}: {why}; what was recorded until then is kept", question.name()));
    }
    let title = format!("{}: {} samples", question.name(), sampler.profile.samples());
    let [subtitle, ..] = &told;
    let words = Words { form, per: options.per, times, title: &title, subtitle };
    match file {
        Some(file) => {
            let mut out = BufWriter::new(file.file());
            words.write(&sampler.profile, &mut out)?;
            out.flush()?;
            drop(out);
            file.keep()?;
        }
        None => {
            let mut out = BufWriter::new(std::io::stdout().lock());
            words.write(&sampler.profile, &mut out)?;
            out.flush()?;
        }
    }
    if let Some(stood) = seen.told() {
        question.notes.say(&stood);
    }
    let stood = sampler.pauses.together();
    if stood.as_secs_f64() > lasted.as_secs_f64() * MUCH {
        question.notes.warning(&format_args!(
            "{}: the guest stood for {:.0} % of the time: a lower --rate holds it less",
            question.name(),
            stood.as_secs_f64() * 100.0 / lasted.as_secs_f64()
        ));
    }
    for line in told.iter().filter(|line| !line.is_empty()) {
        question.notes.say(line);
    }
    Ok(())
}

/// Is something asked for by name that the guest does not have?
fn absent(question: &Question<'_>, seen: &Seen<'_>, options: &RecordOptions) -> Result<(), Failure> {
    let name = question.name();
    let cpus = seen.guest.as_vcpus().count();
    if let Some(cpu) = options.cpu.filter(|cpu| *cpu as usize >= cpus) {
        return Err(Failure::Said(format!("{name}: there is no CPU {cpu}: it has {cpus}, from 0 on")));
    }
    if let (Some(pid), Err(why)) = (options.pid, &seen.opened) {
        return Err(Failure::Said(format!("{name}: process {pid} cannot be looked for: {why}")));
    }
    Ok(())
}

/// What is written, and how.
struct Words<'w> {
    form: Form,
    per: Per,
    times: Times,
    title: &'w str,
    subtitle: &'w str,
}

impl Words<'_> {
    fn write(&self, profile: &Profile, out: &mut dyn Write) -> std::io::Result<()> {
        match self.form {
            Form::Folded => out::folded::write(profile, self.per, out),
            Form::Svg => out::svg::write(profile, self.per, self.title, self.subtitle, out),
            Form::Pprof => out::pprof::write(profile, self.times, out),
            Form::Perf => out::perf::write(profile, self.times.period, out),
        }
    }
}

/// Takes samples until it is time to end.
fn sample(
    question: &Question<'_>,
    sampler: &mut Sampler<'_>,
    ticks: &mut Ticks,
    until: &Until,
    duration: Option<Duration>,
) -> Ended {
    let began = Instant::now();
    let end = duration.and_then(|duration| began.checked_add(duration));
    let bar = bar(question, duration);
    let mut shown = began;
    let ended = loop {
        let deadline = ticks.next(Instant::now());
        if end.is_some_and(|end| deadline >= end) {
            if let Some(end) = end {
                until.wait(end);
            }
            break Ended::InTime;
        }
        if until.wait(deadline) {
            break Ended::InTime;
        }
        let taken = {
            let _stands = until.standing();
            sampler.take()
        };
        if let Err(why) = taken {
            break Ended::Broken(why);
        }
        if shown.elapsed() > Duration::from_millis(100) {
            shown = Instant::now();
            bar.set_position(began.elapsed().as_millis() as u64);
            bar.set_message(format!("{} samples", sampler.profile.samples()));
        }
    };
    bar.finish_and_clear();
    ended
}

fn bar(question: &Question<'_>, duration: Option<Duration>) -> ProgressBar {
    let bar = question.notes.progress("recording");
    if let Some(duration) = duration {
        bar.set_length(duration.as_millis() as u64);
    }
    bar
}

/// What a recording was, in lines.
fn summary(sampler: &Sampler<'_>, ticks: &Ticks, lasted: Duration, options: &RecordOptions) -> [String; 3] {
    let counts = &sampler.counts;
    let mut first = format!(
        "{} samples in {:.1} s at {} Hz",
        sampler.profile.samples(),
        lasted.as_secs_f64(),
        options.rate
    );
    let mut also = |count: u64, what: &str| {
        if count > 0 {
            first.push_str(&format!(", {count} {what}"));
        }
    };
    if !options.idle {
        also(counts.idle, "of idle CPUs left out");
    }
    also(counts.others, "of others left out");
    also(ticks.missed(), "ticks missed");
    let mut second = String::new();
    let mut also = |count: u64, what: &str| {
        if count > 0 {
            let comma = if second.is_empty() { "" } else { ", " };
            second.push_str(&format!("{comma}{count} {what}"));
        }
    };
    also(counts.cut, "stacks were deeper than what was read");
    also(counts.torn, "samples thrown away (page tables had changed)");
    also(counts.unknown, "vCPUs could not be told");
    also(counts.lost + sampler.profile.untimed, "samples beyond what is kept");
    let rounds = counts.rounds.max(1);
    let pages = counts.pages as f64 / rounds as f64;
    let third = sampler.pauses.told().map(|told| format!("{told}; {pages:.1} pages read at a time"));
    [first, second, third.unwrap_or_default()]
}
