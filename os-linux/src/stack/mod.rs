//! Stacks of threads: where they begin, which images their code lies in, and the walk.

mod aarch64;
mod kernel;
mod modules;
mod perf_map;
mod registers;
mod sample;
mod walk;

pub use kernel::ModuleSymbol;
pub(crate) use kernel::OrcCopy;
pub use modules::{DebugFiles, Stacks};
pub use sample::{Held, Mark, Point, Trace};

use vmc::view::{RowErrors, Stop};
use vmc::{Limits, ReadExt, VirtualMemory};

/// Where a walk ended at a page that it could not read: tells in full why not.
fn tell_missing_page<M: VirtualMemory + ?Sized>(
    memory: &M,
    stop: Option<Stop>,
    what: &str,
    limits: &Limits,
    errors: &mut RowErrors,
) {
    if let Some(Stop::NotResident(at)) = stop
        && let Err(why) = memory.read_value::<u8>(at)
    {
        errors.push(limits, what, &why);
    }
}
