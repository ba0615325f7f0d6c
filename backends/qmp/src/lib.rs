//! Live QEMU guests through the machine protocol.
