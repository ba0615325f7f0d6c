//! What the commands for Linux guests work with.

use vmc::view::RowErrors;
use vmc_linux::{Linux, LinuxError, Task};

use crate::args::Common;
use crate::failure::Failure;
use crate::live::Pause;
use crate::notes::Notes;
use crate::output::{Output, Sink};
use crate::target::Target;

/// What every command works with.
pub(crate) struct Context<'a> {
    pub(crate) name: &'a str,
    pub(crate) common: &'a Common,
    pub(crate) notes: &'a Notes,
    pub(crate) sink: &'a Sink,
    pub(crate) target: &'a Target,
    pub(crate) linux: &'a Linux<'a>,
    /// The time in which the guest stands, where it does.
    pub(crate) pause: Option<&'a Pause<'a>>,
}

impl<'a> Context<'a> {
    /// Where results go.
    pub(crate) fn output(&self) -> Output {
        Output::new(self.common, self.sink)
    }

    /// Everything that is asked of the guest has been read: it may run again while that is worked on.
    pub(crate) fn all_is_read(&self) {
        if let Some(pause) = self.pause {
            // Whoever began it asks how it ended.
            let _ = pause.end();
        }
    }

    /// A failure of the guest's, with the target's name.
    pub(crate) fn failed(&self, source: LinuxError) -> Failure {
        Failure::Guest { target: self.name.to_owned(), source }
    }

    /// The process `pid`.
    pub(crate) fn process(&self, pid: u32) -> Result<Task<'a, 'a>, Failure> {
        self.linux.process(pid).map_err(|why| self.failed(why))
    }

    /// The process `pid`, or all of them as far as the list goes.
    pub(crate) fn tasks(&self, pid: Option<u32>) -> Result<Vec<Task<'a, 'a>>, Failure> {
        match pid {
            Some(pid) => Ok(Vec::from([self.process(pid)?])),
            None => self.as_far_as_it_goes(self.linux.processes().map_err(|why| self.failed(why))?),
        }
    }

    /// The items of a list as far as it goes. Where it breaks off, that is said; where nothing came before, it is a failure.
    pub(crate) fn as_far_as_it_goes<T>(
        &self,
        items: impl IntoIterator<Item = Result<T, LinuxError>>,
    ) -> Result<Vec<T>, Failure> {
        let mut found = Vec::new();
        for item in items {
            match item {
                Ok(item) => found.push(item),
                Err(why) if found.is_empty() => return Err(self.failed(why)),
                Err(why) => self.cut(&why),
            }
        }
        Ok(found)
    }

    /// Says that what a process has is not told whole.
    pub(crate) fn cut_at(&self, task: &Task<'_, '_>, why: &LinuxError) {
        let pid = task.pid().unwrap_or_default();
        self.notes.warning(&format_args!("{}: pid {pid}: incomplete: {why}", self.name));
    }

    /// Says why what was found is not all.
    pub(crate) fn incomplete(&self, errors: &RowErrors) {
        for message in &errors.messages {
            self.notes.warning(&format_args!("{}: incomplete: {message}", self.name));
        }
        if errors.more > 0 {
            self.notes.warning(&format_args!("{}: incomplete: and {} more", self.name, errors.more));
        }
    }

    /// Says that a list is not whole.
    pub(crate) fn cut(&self, why: &LinuxError) {
        self.notes.warning(&format_args!("{}: incomplete: {why}", self.name));
    }
}
