//! Attaching: the child is started, and traces the threads.

use std::mem::ManuallyDrop;
use std::sync::Mutex;

use nix::errno::Errno;
use vmc_process::guardian::{Guardian, Haste};

use super::conversation::{Conversation, Failure};
use super::{CHILD_PATIENCE, Machine};
use crate::error::{AttachError, describe};
use crate::find::{self, Found};
use crate::options::AttachOptions;
use crate::tracer::Tracer;
use crate::wire::Fault;

impl Machine {
    /// Attaches to the virtual machine of process `pid`. Its guest runs on.
    ///
    /// # Errors
    /// [`AttachError`].
    pub fn attach(pid: u32, options: &AttachOptions) -> Result<Self, AttachError> {
        // The child inherits it.
        let _haste = Haste::new();
        let found = find::find(pid, options.no_inject)?;
        let tracer = Tracer::new(pid, &found, options);
        let no_guardian = |source| AttachError::NoGuardian { pid, source };
        let guardian = Guardian::spawn(&[], move |post| {
            // The child frees nothing.
            let mut tracer = ManuallyDrop::new(tracer);
            tracer.serve(post);
        })
        .map_err(no_guardian)?;
        let limit = Some(options.patience + CHILD_PATIENCE);
        guardian
            .line()
            .set_read_timeout(limit)
            .and_then(|()| guardian.line().set_write_timeout(limit))
            .map_err(no_guardian)?;
        let Found { name, vcpus, threads, tasks, .. } = found;
        let count = vcpus.len();
        let mut talk = Conversation::new(guardian, options.watcher.clone(), threads, count);
        match talk.hear() {
            Ok(()) => Ok(Self { pid, name, count, tasks, state: Mutex::new(talk) }),
            Err(Failure::Fault(Fault::Seize { errno, .. })) if errno == Errno::EPERM as i32 => {
                Err(AttachError::NotPermitted { pid, name, why: find::why_not(pid) })
            }
            Err(Failure::Fault(fault)) => Err(AttachError::Refused { pid, name, why: describe(fault) }),
            Err(Failure::Silent | Failure::Gone) => {
                let why = "the child that holds its threads ended".to_owned();
                Err(AttachError::Refused { pid, name, why })
            }
        }
    }
}
