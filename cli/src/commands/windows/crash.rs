//! What `info` tells of a crash dump: why Windows stopped, and what the dump has.

use serde_json::{Value, json};
use vmc_dump::CrashFacts;

use super::Context;
use crate::output::{address, optional};

/// The rows that tell of the crash.
pub(super) fn fields(context: &Context<'_>, crash: &CrashFacts) -> Vec<(&'static str, Value)> {
    let parameters = crash.bug_check.map(|check| check.parameters.iter().map(address).collect());
    let exception = crash.exception.as_ref();
    // The driver that the failing instruction lies in.
    let module = exception.and_then(|exception| {
        let mut modules = context.windows.modules().ok()?.filter_map(Result::ok);
        modules.find(|row| exception.address.offset_from(row.base).is_some_and(|offset| offset < row.size))
    });
    let triage = crash.triage.as_ref();
    Vec::from([
        ("bug_check", optional(crash.bug_check, |check| address(check.code))),
        ("bug_check_parameters", optional(parameters, Value::Array)),
        ("exception_code", optional(exception, |exception| address(exception.code))),
        ("exception_address", optional(exception, |exception| address(exception.address))),
        ("exception_module", optional(module, |row| json!(row.name))),
        ("up_time", optional(crash.up_time, |time| json!(time.as_secs_f64()))),
        ("comment", optional(crash.comment.as_ref(), |comment| json!(comment))),
        ("data_blocks", optional(triage, |triage| json!(triage.data_blocks))),
        ("data_block_bytes", optional(triage, |triage| json!(triage.data_block_bytes))),
        ("current_process", optional(triage.and_then(|triage| triage.process), address)),
        ("current_thread", optional(triage.and_then(|triage| triage.thread), address)),
    ])
}
