//! Containers.

use alloc::string::String;
use alloc::vec::Vec;

use super::RowErrors;

/// A container: processes that live in namespaces of their own.
#[derive(Clone, Debug, Default)]
pub struct Container {
    /// What its runtime calls it, by its control group; `pid:[N]`, its PID namespace, where that does not tell.
    pub id: String,
    /// What runs it, by its control group.
    pub runtime: Option<&'static str>,
    /// Its first process, by the number outside.
    pub pid: u32,
    /// The number that the first process has inside.
    pub pid_inside: Option<u32>,
    /// Its host name.
    pub hostname: Option<String>,
    /// The path of its first process' control group.
    pub control_group: Option<String>,
    /// The first process' namespaces: kind and number, as `/proc/PID/ns` has them.
    pub namespaces: Vec<(&'static str, u32)>,
    /// Its processes, ascending.
    pub processes: Vec<u32>,
    /// What its root directory is on.
    pub root: ContainerRoot,
    /// What could not be read.
    pub errors: RowErrors,
}

/// What a container's root directory is on.
#[derive(Clone, Debug, Default)]
pub struct ContainerRoot {
    /// The file system's name.
    pub fstype: Option<String>,
    /// The device, or what stands for one.
    pub source: Option<String>,
    /// The first process' root directory, from the root of its mount namespace.
    pub path: Option<String>,
    /// Of an overlay: the directories below, the uppermost first, separated by colons.
    pub lower: Option<String>,
    /// Of an overlay: where changes go.
    pub upper: Option<String>,
    /// Of an overlay: where changes are prepared.
    pub work: Option<String>,
}
