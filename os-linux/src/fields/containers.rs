//! Namespaces of all kinds, and what a container is told by.

use vmc::layout::{Field, LayoutError, Types};

use super::FieldGroup;

fields! {
    /// `struct nsproxy` (`include/linux/nsproxy.h`): a task's namespaces but those of its pid and its user.
    NsProxyFields of "nsproxy" {} optional {
        mount: u64 = "mnt_ns";
        uts: u64 = "uts_ns";
        ipc: u64 = "ipc_ns";
        net: u64 = "net_ns";
        cgroup: u64 = "cgroup_ns";
        time: u64 = "time_ns";
    }
}

fields! {
    /// `struct pid_namespace` (`include/linux/pid_namespace.h`): its numbers are in an xarray, in a radix tree until 4.19.
    PidNamespaceFields of "pid_namespace" {
        number: u32 = "ns.inum";
    } optional {
        head: u64 = "idr.idr_rt.xa_head";
        old_head: u64 = "idr.idr_rt.rnode";
    }
}

fields! {
    /// `struct cred`: the namespace of its user.
    CredNamespaceFields of "cred" {
        user: u64 = "user_ns";
    }
}

fields! {
    /// `struct mount`, as far as a root shows it.
    RootMountFields of "mount" {
        source: u64 = "mnt_devname";
        super_block: u64 = "mnt.mnt_sb";
    }
}
