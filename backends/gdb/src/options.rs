//! How a stub is attached to.

use std::time::Duration;

use vmc::Region;

/// How a stub is attached to. The defaults are right for QEMU.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// How long any single wait for the stub may take.
    pub patience: Duration,
    /// Where the guest has memory, for stubs that do not tell.
    pub regions: Option<Vec<Region>>,
    /// The addresses that the stub reads are physical ones, though it does not say so.
    pub physical: bool,
    /// What happens to the guest in the end.
    pub leave: Leave,
    /// Reads memory from the virtual machine monitor's process where that runs on this host and can be read.
    pub process: bool,
    /// Is called at each step; tests stop there.
    pub at_step: Option<fn(Step)>,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            patience: Duration::from_secs(5),
            regions: None,
            physical: false,
            leave: Leave::AsFound,
            process: true,
            at_step: None,
        }
    }
}

impl ConnectOptions {
    /// `GPA+SIZE`, several with commas between them, as [`regions`](Self::regions).
    ///
    /// # Errors
    /// A line that says what is wrong.
    pub fn parse_regions(text: &str) -> Result<Vec<Region>, String> {
        crate::memory_map::parse_option(text)
    }
}

/// What happens to the guest in the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Leave {
    /// It runs if it ran before, and stays paused if it was. QEMU's stub tells which; where a stub of another kind
    /// says nothing, its guest is let go, as a debugger does it.
    #[default]
    AsFound,
    /// It runs.
    Running,
    /// It stays stopped.
    Stopped,
}

/// The steps of an attachment, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The socket is there, not connected yet.
    Socket,
    /// Connected: the stub has stopped the guest, or is about to.
    Connected,
    /// It is known whether the guest had run.
    Found,
    /// Addresses are physical ones from here on.
    Physical,
    /// The registers' description and the memory's layout are read.
    Attached,
    /// The guest runs on, as its memory can be read without the stub.
    Running,
    /// The guest is about to be let go.
    Releasing,
    /// It was let go.
    Released,
}
