//! What is known of a command before it is run, and sets it apart from others.

use super::{Command, RecordOptions, address};

impl Command {
    /// Is what it was given of use? What only several words together tell.
    ///
    /// # Errors
    /// What is wrong.
    pub(crate) fn check(&self) -> Result<(), String> {
        crate::live::Named::parse(self.target()).transpose()?;
        match self {
            Self::Search { what, .. } => crate::commands::Pattern::new(what).map(|_| ()),
            Self::Record { options: RecordOptions { output: Some(path), .. }, .. } => {
                crate::record::out::Form::of(path).map(|_| ())
            }
            Self::Symbols { what: Some(what), .. } if what.starts_with("0x") || what.starts_with("0X") => {
                address(what).map(|_| ())
            }
            _ => Ok(()),
        }
    }

    /// Is it about what a kernel has? The others look at the machine alone.
    pub(crate) const fn needs_kernel(&self) -> bool {
        !matches!(self, Self::Registers(_) | Self::Read { physical: true, .. })
    }

    /// Is it answered, of a Windows guest, by what can be derived without a file of its types?
    pub(crate) const fn takes_what_is_derived(&self) -> bool {
        matches!(
            self,
            Self::Info(_)
                | Self::Modules { pid: None, all_ways: false, .. }
                | Self::Symbols { .. }
                | Self::Translate { pid: None, .. }
                | Self::Read { pid: None, .. }
                | Self::Dump { .. }
        )
    }

    /// Its name, if it looks at a live guest again and again.
    pub(crate) const fn over_time(&self) -> Option<&'static str> {
        match self {
            Self::Record { .. } => Some("record"),
            Self::Top { .. } => Some("top"),
            _ => None,
        }
    }

    /// Is its answer not to be had again and again? A file that was written stays.
    pub(crate) const fn is_asked_once(&self) -> bool {
        matches!(self, Self::Dump { .. })
    }

    /// Is it worth while to ask a running guest once before it is stopped? Not where most of the time goes into reading what
    /// may have changed.
    pub(crate) const fn is_rehearsed(&self) -> bool {
        !self.is_asked_once()
            && !matches!(
                self,
                Self::Search { .. }
                    | Self::Cat { .. }
                    | Self::Ls { .. }
                    | Self::Read { .. }
                    | Self::Translate { .. }
            )
    }

    /// The target that it is to look at.
    pub(crate) fn target(&self) -> &str {
        match self {
            Self::Info(target)
            | Self::Registers(target)
            | Self::Dmesg(target)
            | Self::Interfaces(target)
            | Self::Containers(target)
            | Self::Ps { target, .. }
            | Self::Threads { target, .. }
            | Self::Maps { target, .. }
            | Self::Modules { target, .. }
            | Self::Bt { target, .. }
            | Self::Lsof { target, .. }
            | Self::Mounts { target, .. }
            | Self::Sockets { target, .. }
            | Self::Env { target, .. }
            | Self::Cat { target, .. }
            | Self::Ls { target, .. }
            | Self::Symbols { target, .. }
            | Self::Types { target, .. }
            | Self::Search { target, .. }
            | Self::Dump { target, .. }
            | Self::Translate { target, .. }
            | Self::Read { target, .. } => &target.target,
            Self::Record { target, .. } | Self::Top { target, .. } => &target.target,
        }
    }
}
