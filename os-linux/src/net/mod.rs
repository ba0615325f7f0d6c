//! What a guest has of the network: its sockets with their owners, its interfaces, in every network namespace.

mod interfaces;
mod namespaces;
mod socket;
mod sockets;
mod tables;
