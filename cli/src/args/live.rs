//! The options for live targets.

use std::time::Duration;

use clap::Args as ClapArgs;

use super::values::seconds;
use crate::live::check_address;

/// Options for live targets.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Live targets")]
pub(crate) struct Live {
    /// Read the guest while it runs; what was changed underneath is read again, a few times
    #[arg(long, global = true)]
    pub(crate) no_stop: bool,
    /// kvm: read registers without a system call of ours in the VMM: only those of a running guest
    #[arg(long, global = true)]
    pub(crate) no_inject: bool,
    /// Where the guest's memory lies in the VMM's: 0x0+2G@0x7f0000000000,0x100000000+… [default: found]
    #[arg(long, global = true, value_parser = layout, value_name = "GPA+SIZE@HVA,…")]
    pub(crate) layout: Option<String>,
    /// kvm: a QMP monitor that tells the layout: HOST:PORT or a socket's path
    #[arg(long, global = true, value_parser = check_address, value_name = "ADDRESS")]
    pub(crate) monitor: Option<String>,
    /// gdb: the addresses that the stub reads are the guest's physical ones, though it has no way to say so (QEMU's says it)
    #[arg(long, global = true)]
    pub(crate) physical_stub: bool,
    /// How long the VMM may take for an answer, in seconds
    #[arg(long, global = true, value_parser = seconds, default_value = "5", value_name = "SECONDS")]
    pub(crate) timeout: Duration,
}

/// Where memory lies, in either way: the target says later which one it wants.
fn layout(text: &str) -> Result<String, String> {
    match vmc_process::Layout::parse(text) {
        Err(why) if vmc_gdb::ConnectOptions::parse_regions(text).is_err() => Err(why.to_string()),
        _ => Ok(text.to_owned()),
    }
}
