//! Files about a guest's kernel, whichever system it is.

use std::cell::RefCell;

use super::{KernelFiles, WindowsFiles};
use crate::args::Args;
use crate::notes::Notes;

/// Where files about the guest's kernel are looked for.
#[derive(Debug)]
pub(crate) struct GuestFiles<'a> {
    pub(crate) linux: KernelFiles<'a>,
    /// Asked for the symbols of more images later on.
    pub(crate) windows: RefCell<WindowsFiles<'a>>,
}

impl<'a> GuestFiles<'a> {
    pub(crate) fn new(args: &'a Args, notes: &'a Notes) -> Self {
        Self {
            linux: KernelFiles::new(&args.common.symbols),
            windows: RefCell::new(WindowsFiles::new(args, notes)),
        }
    }
}
