//! Live QEMU guests through the machine protocol (QMP).

pub mod hmp;
