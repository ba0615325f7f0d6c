//! Live guests through a GDB remote stub.
