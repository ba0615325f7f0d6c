//! The messages of the protocol.
//!
//! Source: `docs/interop/qmp-spec.rst` of QEMU. A message is a JSON object a line: a greeting, then for each command either
//! `return` or `error` with the command's `id`, and in between events.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// What comes from QEMU; which members are there says what it is.
#[derive(Debug, Deserialize)]
pub(crate) struct Message<'a> {
    #[serde(borrow, rename = "QMP")]
    pub(crate) greeting: Option<&'a RawValue>,
    #[serde(borrow, rename = "return")]
    pub(crate) returned: Option<&'a RawValue>,
    pub(crate) error: Option<Refusal>,
    #[serde(borrow)]
    pub(crate) id: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) event: Option<&'a RawValue>,
}

/// Why QEMU does not do something.
#[derive(Debug, Deserialize)]
pub(crate) struct Refusal {
    pub(crate) class: String,
    pub(crate) desc: String,
}

/// The greeting's contents.
#[derive(Debug, Deserialize)]
pub(crate) struct Greeting {
    pub(crate) version: Version,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Version {
    pub(crate) qemu: Triple,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Triple {
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) micro: u32,
}

/// A command.
#[derive(Debug, Serialize)]
pub(crate) struct Command<'a, A> {
    pub(crate) execute: &'a str,
    pub(crate) arguments: A,
    pub(crate) id: u64,
}

/// A command without arguments.
#[derive(Debug, Serialize)]
pub(crate) struct Nothing {}

/// An answer that says nothing, whatever is in it.
#[derive(Debug, Deserialize)]
pub(crate) struct Done {}

/// The answer to `query-status`.
#[derive(Debug, Deserialize)]
pub(crate) struct Status {
    pub(crate) running: bool,
    pub(crate) status: String,
}

/// A vCPU in the answer to `query-cpus-fast`.
#[derive(Debug, Deserialize)]
pub(crate) struct Cpu {
    pub(crate) target: Option<String>,
}

/// The argument of `human-monitor-command`.
#[derive(Debug, Serialize)]
pub(crate) struct Line<'a> {
    #[serde(rename = "command-line")]
    pub(crate) line: &'a str,
}

/// The argument of `getfd` and `closefd`.
#[derive(Debug, Serialize)]
pub(crate) struct FdName<'a> {
    pub(crate) fdname: &'a str,
}

/// The arguments of `dump-guest-memory`.
#[derive(Debug, Serialize)]
pub(crate) struct Dump<'a> {
    pub(crate) paging: bool,
    pub(crate) protocol: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) detach: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) begin: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) length: Option<u64>,
}

/// The answer to `query-dump`.
#[derive(Debug, Deserialize)]
pub(crate) struct DumpState {
    pub(crate) status: String,
    pub(crate) completed: u64,
    pub(crate) total: u64,
}
