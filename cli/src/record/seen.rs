//! [`Seen`]: a live guest with its kernel, found while the guest runs where that can be, so that it need not stand for it.

use std::time::{Duration, Instant};

use vmc::{Limits, LiveGuest};
use vmc_linux::Linux;

use super::Moment;
use crate::args::Os;
use crate::commands::{Question, is_missing};
use crate::debug::KernelFiles;
use crate::failure::Failure;
use crate::live::{TRIES_TO_OPEN, Until};

/// What is said where it is, or may be, such a guest.
const NOT_WINDOWS: &str = "processes of Windows guests are not told apart over time";

/// What is looked at again and again.
pub(crate) struct Seen<'m> {
    pub(crate) guest: &'m dyn LiveGuest,
    pub(crate) moment: &'m Moment<'m>,
    /// Or why no kernel is known.
    pub(crate) opened: Result<Linux<'m>, String>,
    pub(crate) until: &'m Until,
    /// For how long the guest was held until its kernel was found, where it was.
    pub(crate) stood: Option<Duration>,
}

impl<'m> Seen<'m> {
    /// Finds the kernel of a guest over `moment`. Where attaching, which began at `attached`, has stopped the guest, it stands until
    /// that is done; else it runs.
    ///
    /// # Errors
    /// The guest could not be stopped or let go, or is gone.
    pub(crate) fn find(
        question: &Question<'_>,
        guest: &'m dyn LiveGuest,
        moment: &'m Moment<'m>,
        until: &'m Until,
        attached: Instant,
    ) -> Result<Self, Failure> {
        let mut files = KernelFiles::new(&question.args.common.symbols);
        let ran = guest.running();
        if !ran {
            guest.stop().map_err(|why| question.live_failure(why))?;
        }
        let os = question.args.common.os;
        let windows = os == Some(Os::Windows);
        let mut open = || {
            if windows {
                return Err(NOT_WINDOWS.to_owned());
            }
            let given: Option<&mut dyn vmc_linux::KernelFiles> =
                if question.args.common.symbols.is_empty() { None } else { Some(&mut files) };
            Linux::open_with_files(moment, moment, Limits::default(), given).map_err(|why| {
                // It may well be one: that is not looked into while it stands.
                if os.is_none() && is_missing(&why) {
                    format!("{why}; {NOT_WINDOWS}")
                } else {
                    why.to_string()
                }
            })
        };
        let mut opened = open();
        for _ in 1..TRIES_TO_OPEN {
            if opened.is_ok() || windows || !ran || until.over() || question.gone().is_some() {
                break;
            }
            guest.forget();
            opened = open();
        }
        if !ran {
            guest.resume().map_err(|why| question.live_failure(why))?;
        }
        if opened.is_err()
            && let Some(why) = question.gone()
        {
            return Err(why);
        }
        // What was read of it while it ran may have been torn.
        if let (Ok(linux), true) = (&mut opened, ran) {
            guest.forget();
            linux.forget();
        }
        let stood = (!ran && guest.running()).then(|| attached.elapsed());
        Ok(Self { guest, moment, opened, until, stood })
    }

    /// For how long the guest was held before its first sample, in words.
    pub(crate) fn told(&self) -> Option<String> {
        let milliseconds = self.stood?.as_secs_f64() * 1e3;
        Some(format!("the guest stood {milliseconds:.1} ms until its kernel was found"))
    }
}
