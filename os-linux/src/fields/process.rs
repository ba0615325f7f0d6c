//! What a process may do, what it has used and where it belongs.

use vmc::layout::{Field, LayoutError, Types};

use super::FieldGroup;

fields! {
    /// `struct cred`, as far as `/proc/PID/status` shows it. A `kernel_cap_t` is 64 bits in two words until 6.2, in one later:
    /// the same bytes.
    CredDetailFields of "cred" {
        suid: u32 = "suid.val";
        sgid: u32 = "sgid.val";
        euid: u32 = "euid.val";
        egid: u32 = "egid.val";
        fsuid: u32 = "fsuid.val";
        fsgid: u32 = "fsgid.val";
        inheritable: u64 = "cap_inheritable";
        permitted: u64 = "cap_permitted";
        effective: u64 = "cap_effective";
        bounding: u64 = "cap_bset";
        ambient: u64 = "cap_ambient";
        groups: u64 = "group_info";
    }
}

fields! {
    /// `struct group_info`: supplementary groups, behind their count.
    GroupInfoFields of "group_info" {
        count: u32 = "ngroups";
    }
}

fields! {
    /// `struct task_struct`, as far as `/proc/PID/stat` shows it.
    TaskDetailFields of "task_struct" {
        priority: u32 = "prio";
        static_priority: u32 = "static_prio";
        policy: u32 = "policy";
        user_time: u64 = "utime";
        system_time: u64 = "stime";
        run_time: u64 = "se.sum_exec_runtime";
        flags: u64 = "atomic_flags";
    } optional {
        // Only with CONFIG_SECCOMP, and with CONFIG_CGROUPS.
        seccomp: u32 = "seccomp.mode";
        control_groups: u64 = "cgroups";
    }
}

fields! {
    /// `struct signal_struct`: what is counted for the whole process.
    SignalDetailFields of "signal_struct" {
        user_time: u64 = "utime";
        system_time: u64 = "stime";
        run_time: u64 = "sum_sched_runtime";
        terminal: u64 = "tty";
        oom_score: u16 = "oom_score_adj";
    } optional {
        // By `enum pid_type`: thread, thread group, process group, session.
        numbers: [u64; 4] = "pids";
        // What was told last: it must not go back.
        told_user: u64 = "prev_cputime.utime";
        told_system: u64 = "prev_cputime.stime";
    }
}

fields! {
    /// `struct tty_struct`, as far as it tells its number.
    TtyFields of "tty_struct" {
        driver: u64 = "driver";
        index: u32 = "index";
        name: [u8; 64] = "name";
    }
}

fields! {
    /// `struct tty_driver`.
    TtyDriverFields of "tty_driver" {
        major: u32 = "major";
        first_minor: u32 = "minor_start";
    }
}

fields! {
    /// `struct mm_struct`: how much is mapped.
    MmSizeFields of "mm_struct" {
        pages: u64 = "total_vm";
    }
}

fields! {
    /// `struct css_set`: the control groups of a task.
    CssSetFields of "css_set" {
        unified: u64 = "dfl_cgrp";
    }
}

fields! {
    /// `struct cgroup`.
    CgroupFields of "cgroup" {
        node: u64 = "kn";
    }
}

fields! {
    /// `struct cgroup_subsys_state`: a controller's view of a control group.
    ControllerFields of "cgroup_subsys_state" {
        cgroup: u64 = "cgroup";
    }
}

fields! {
    /// `struct kernfs_node`: the directory that a control group is.
    KernfsNodeFields of "kernfs_node" {
        parent: u64 = "parent" | "__parent";
        name: u64 = "name";
    }
}
