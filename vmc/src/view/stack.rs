//! A thread's stack: its frames, how each was found, and why the walk ended.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use super::{BuildId, DebugLink, RowErrors};
use crate::addr::VirtAddr;

/// A thread's stack.
#[derive(Clone, Debug, Default)]
pub struct Stack {
    /// Its frames, innermost first, the kernel's before the user's.
    pub frames: Vec<Frame>,
    /// Why the walk over the user part ended; nothing where there is no user part.
    pub stop: Option<Stop>,
    /// Why the walk over the kernel part ended; nothing where it was not walked.
    pub kernel_stop: Option<Stop>,
    /// What could not be read.
    pub errors: RowErrors,
}

/// Whether a frame belongs to the kernel or to a user program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// The kernel.
    Kernel,
    /// A user program.
    User,
}

impl Space {
    /// `kernel` or `user`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::User => "user",
        }
    }
}

/// How a frame was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FoundBy {
    /// Where the thread, or its entry into the kernel, left the registers.
    Registers,
    /// By the call frame information of `.eh_frame` or `.debug_frame`.
    Cfi,
    /// By the kernel's ORC tables.
    Orc,
    /// By the `.pdata` and `.xdata` of a PE image.
    Pdata,
    /// By a chain of frame pointers.
    FramePointer,
    /// By following the code, which nothing describes, to its return.
    Code,
    /// Out of the link register.
    LinkRegister,
    /// By the registers that the kernel stored when it delivered a signal.
    SignalFrame,
    /// By a guess: the word looks like a return address.
    Scan,
}

impl FoundBy {
    /// The name that is printed.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Registers => "registers",
            Self::Cfi => "cfi",
            Self::Orc => "orc",
            Self::Pdata => "pdata",
            Self::FramePointer => "frame-pointer",
            Self::Code => "code",
            Self::LinkRegister => "link-register",
            Self::SignalFrame => "sigframe",
            Self::Scan => "scan",
        }
    }
}

/// Why a walk over a stack ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stop {
    /// At the outermost frame.
    End,
    /// Memory that it needs is not to be had.
    NotResident(VirtAddr),
    /// Nothing describes the code there.
    NoUnwindInfo(VirtAddr),
    /// What describes the code, or what lies on the stack, contradicts itself; the walk would not get on.
    BadFrame(VirtAddr),
    /// At the bound of [`Limits::frames`](crate::Limits::frames).
    Limit,
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::End => f.write_str("end"),
            Self::NotResident(at) => write!(f, "not-resident {at}"),
            Self::NoUnwindInfo(at) => write!(f, "no-unwind-info {at}"),
            Self::BadFrame(at) => write!(f, "bad-frame {at}"),
            Self::Limit => f.write_str("limit"),
        }
    }
}

/// A frame with everything that is known about it.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Where the frame stands: the instruction pointer, or the return address of a caller.
    pub ip: VirtAddr,
    /// Its stack pointer.
    pub sp: VirtAddr,
    /// Its canonical frame address, where the walk got as far as that.
    pub cfa: Option<VirtAddr>,
    /// Kernel or user.
    pub space: Space,
    /// The name of the function, not demangled, and the distance of `ip` from it.
    pub symbol: Option<FrameSymbol>,
    /// Where its function begins: by its symbol or, where it has no name, by what describes its code.
    pub function_start: Option<VirtAddr>,
    /// The module it lies in.
    pub module: Option<Arc<FrameModule>>,
    /// How it was found.
    pub found_by: FoundBy,
    /// Was it interrupted for a signal's delivery?
    pub signal: bool,
}

/// The function that a frame stands in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameSymbol {
    /// Its name, not demangled.
    pub name: String,
    /// The distance of the frame's `ip` from it, in bytes.
    pub offset: u64,
    /// Where it begins.
    pub start: VirtAddr,
}

/// The module that a frame lies in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameModule {
    /// The path of its file, or its name.
    pub path: String,
    /// Where its image begins.
    pub base: VirtAddr,
    /// Its build-id.
    pub build_id: Option<BuildId>,
    /// The debug file that it names itself.
    pub debug_link: Option<DebugLink>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn stops_print_as_promised() {
        assert_eq!(Stop::NotResident(VirtAddr::new(0x7f00)).to_string(), "not-resident 0x7f00");
    }
}
