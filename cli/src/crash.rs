//! What the header of a Windows crash dump tells of the guest, as hints for whoever looks for its kernel.

use vmc_dump::CrashFacts;
use vmc_windows::{Hints, LoadedModule};

/// What is known of the guest beforehand.
pub(crate) fn hints(crash: &CrashFacts) -> Hints {
    let drivers = crash.triage.as_ref().map(|triage| triage.drivers.as_slice()).unwrap_or_default();
    let module = |driver: &vmc_dump::CrashDriver| LoadedModule {
        name: driver.name.clone(),
        base: driver.base,
        size: driver.size.into(),
        timestamp: Some(driver.timestamp).filter(|time| *time != 0),
    };
    Hints {
        page_table_root: crash.page_table_root(),
        // The kernel is the first of a triage dump's list.
        kernel_base: drivers.first().map(|driver| driver.base),
        loaded_module_list: crash.loaded_module_list,
        active_process_head: crash.active_process_head,
        debugger_data: crash.debugger_data,
        build: crash.build,
        processors: crash.processors,
        system_time: crash.system_time,
        modules: drivers.iter().map(module).collect(),
        ..Hints::default()
    }
}
