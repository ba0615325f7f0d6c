//! Live targets, opened by their backends.

use std::fmt::Display;

use vmc::LiveGuest;
use vmc_gdb::{ConnectError, Gdb};
use vmc_kvm::Kvm;
use vmc_qmp::Qmp;

use super::Named;
use crate::args::Live;
use crate::failure::Failure;

/// Attaches to the target.
pub(crate) fn open(name: &str, named: &Named, options: &Live) -> Result<Box<dyn LiveGuest>, Failure> {
    let failed = |why: &dyn Display| Failure::Said(format!("{name}: {why}"));
    match named {
        Named::Kvm(pid) => {
            let layout = options.layout.as_deref().map(vmc_process::Layout::parse).transpose();
            let mut attach = vmc_kvm::AttachOptions::default();
            attach.layout = layout.map_err(|why| failed(&format_args!("--layout: {why}")))?;
            attach.monitor.clone_from(&options.monitor);
            attach.no_inject = options.no_inject;
            attach.patience = options.timeout;
            Ok(Box::new(Kvm::attach(*pid, &attach).map_err(|why| failed(&why))?))
        }
        Named::Gdb(address) => {
            let regions = options.layout.as_deref().map(vmc_gdb::ConnectOptions::parse_regions).transpose();
            let options = vmc_gdb::ConnectOptions {
                patience: options.timeout,
                regions: regions.map_err(|why| failed(&why))?,
                physical: options.physical_stub,
                ..vmc_gdb::ConnectOptions::default()
            };
            let connected = Gdb::connect(address, &options).map_err(|why| match why {
                ConnectError::VirtualOnly { .. } => failed(&format_args!("{why}: --physical-stub")),
                ConnectError::NoLayout { .. } => failed(&format_args!("{why}: --layout")),
                _ => failed(&why),
            });
            Ok(Box::new(connected?))
        }
        Named::Qmp(address) => {
            let timeout = options.timeout;
            let options = vmc_qmp::ConnectOptions { timeout, ..vmc_qmp::ConnectOptions::default() };
            Ok(Box::new(Qmp::connect(address, &options).map_err(|why| failed(&why))?))
        }
    }
}
