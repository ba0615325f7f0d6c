//! Live targets, opened by their backends.

use vmc::LiveGuest;

use super::Named;
use crate::args::Live;
use crate::failure::Failure;

/// Attaches to the target.
pub(crate) fn open(name: &str, named: &Named, _options: &Live) -> Result<Box<dyn LiveGuest>, Failure> {
    match named {
        Named::Kvm(_) | Named::Gdb(_) | Named::Qmp(_) => Err(Failure::Said(format!(
            "{name}: live targets are not read yet; take a memory image (dump-guest-memory) and give its path"
        ))),
    }
}
