//! The members of kernel structures that are read, resolved from the guest's types, a group a structure.
//!
//! Kernels rename and move members: where several paths are given, the first that exists is taken. What only some kernels
//! have is optional. Nothing here goes by a version.

use vmc::layout::{Field, LayoutError, Types};

/// A structure's members.
pub(crate) trait FieldGroup: Sized {
    /// Looks them up.
    fn resolve(types: &impl Types) -> Result<Self, LayoutError>;
}

/// The two pointers of a `list_head`.
pub(crate) type ListHead = [u64; 2];

macro_rules! fields {
    (
        $(#[$doc:meta])*
        $name:ident of $structure:literal {
            $($field:ident: $kind:ty = $($path:literal)|+;)*
        } $(optional {
            $($maybe:ident: $maybe_kind:ty = $($maybe_path:literal)|+;)*
        })?
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub(crate) struct $name {
            $(pub(crate) $field: Field<$kind>,)*
            $($(pub(crate) $maybe: Option<Field<$maybe_kind>>,)*)?
        }

        impl FieldGroup for $name {
            fn resolve(types: &impl Types) -> Result<Self, LayoutError> {
                Ok(Self {
                    $($field: Field::first(types, $structure, &[$($path),+])?,)*
                    $($($maybe: Field::first(types, $structure, &[$($maybe_path),+]).ok(),)*)?
                })
            }
        }
    };
}

mod containers;
mod files;
mod memory;
mod modules;
mod net;
mod process;
mod survey;
mod system;

pub(crate) use containers::*;
pub(crate) use files::*;
pub(crate) use memory::*;
pub(crate) use modules::*;
pub(crate) use net::*;
pub(crate) use process::*;
pub(crate) use survey::*;
pub(crate) use system::*;

fields! {
    /// `struct task_struct` (`include/linux/sched.h`).
    TaskFields of "task_struct" {
        tasks: ListHead = "tasks";
        thread_node: ListHead = "thread_node";
        pid: u32 = "pid";
        tgid: u32 = "tgid";
        comm: [u8; 16] = "comm";
        flags: u32 = "flags";
        exit_state: u32 = "exit_state";
        real_parent: u64 = "real_parent";
        signal: u64 = "signal";
        mm: u64 = "mm";
        real_cred: u64 = "real_cred";
        stack: u64 = "stack";
        start_boottime: u64 = "start_boottime" | "real_start_time";
    } optional {
        // A `long` until 5.13.
        state_word: u64 = "state";
        state: u32 = "__state";
        on_cpu: u32 = "on_cpu";
        cpu: u32 = "thread_info.cpu" | "cpu";
        thread_sp: u64 = "thread.sp";
    }
}

fields! {
    /// `struct task_struct`, as far as it leads to its CPU's run queue.
    TaskQueueFields of "task_struct" {
        queue: u64 = "se.cfs_rq";
    }
}

fields! {
    /// `struct cfs_rq` (`kernel/sched/sched.h`), of kernels that schedule groups.
    GroupQueueFields of "cfs_rq" {
        of_cpu: u64 = "rq";
    }
}

fields! {
    /// `struct rq` (`kernel/sched/sched.h`): a CPU's run queue, as far as it tells who runs.
    CpuQueueFields of "rq" {
        cpu: u32 = "cpu";
        current: u64 = "curr";
        idle: u64 = "idle";
        online: u32 = "online";
    }
}

fields! {
    /// `struct signal_struct` (`include/linux/sched/signal.h`): what the threads of a process share.
    SignalFields of "signal_struct" {
        thread_head: ListHead = "thread_head";
        nr_threads: u32 = "nr_threads";
    }
}

fields! {
    /// `struct cred` (`include/linux/cred.h`).
    CredFields of "cred" {
        uid: u32 = "uid.val";
        gid: u32 = "gid.val";
    }
}

fields! {
    /// `struct file` (`include/linux/fs.h`).
    FileFields of "file" {
        mount: u64 = "f_path.mnt" | "__f_path.mnt";
        dentry: u64 = "f_path.dentry" | "__f_path.dentry";
        inode: u64 = "f_inode";
    } optional {
        mode: u32 = "f_mode";
    }
}

fields! {
    /// `struct backing_file` (`fs/file_table.c`), as far as it tells what was opened.
    BackingFileFields of "backing_file" {
        mount: u64 = "user_path.mnt";
        dentry: u64 = "user_path.dentry";
    }
}

fields! {
    /// `struct dentry` (`include/linux/dcache.h`).
    DentryFields of "dentry" {
        parent: u64 = "d_parent";
        name: u64 = "d_name.name" | "__d_name.name";
        name_len: u32 = "d_name.len" | "__d_name.len";
        inode: u64 = "d_inode";
        operations: u64 = "d_op";
        hashed: u64 = "d_hash.pprev";
    }
}

fields! {
    /// `struct dentry_operations`, as far as it tells a dentry whose name is made up.
    DentryOperationsFields of "dentry_operations" {
        made_name: u64 = "d_dname";
    }
}

fields! {
    /// `struct mount` (`fs/mount.h`); `struct vfsmount` is its member `mnt`.
    MountFields of "mount" {
        parent: u64 = "mnt_parent";
        mountpoint: u64 = "mnt_mountpoint";
        root: u64 = "mnt.mnt_root";
    }
}

fields! {
    /// `struct vfsmount` (`include/linux/mount.h`).
    VfsMountFields of "vfsmount" {
        root: u64 = "mnt_root";
        super_block: u64 = "mnt_sb";
    }
}

fields! {
    /// `struct inode` (`include/linux/fs.h`).
    InodeFields of "inode" {
        number: u64 = "i_ino";
        super_block: u64 = "i_sb";
        mapping: u64 = "i_mapping";
        size: u64 = "i_size";
    }
}

fields! {
    /// `struct super_block`.
    SuperBlockFields of "super_block" {
        device: u32 = "s_dev";
    }
}

fields! {
    /// `struct module` (`include/linux/module.h`).
    ModuleFields of "module" {
        list: ListHead = "list";
        state: u32 = "state";
    } optional {
        // Before 6.4: one area that stays and one that goes after initialisation.
        core_base: u64 = "core_layout.base";
        core_size: u32 = "core_layout.size";
        init_base: u64 = "init_layout.base";
        init_size: u32 = "init_layout.size";
        build_id: [u8; 20] = "build_id";
        // Only with CONFIG_KALLSYMS, and with CONFIG_UNWINDER_ORC.
        kallsyms: u64 = "kallsyms";
        orc: u64 = "arch.orc_unwind";
        orc_places: u64 = "arch.orc_unwind_ip";
        orc_count: u32 = "arch.num_orcs";
    }
}

fields! {
    /// `struct module_memory`: an area of a module, since 6.4.
    ModuleMemoryFields of "module_memory" {
        base: u64 = "base";
        size: u32 = "size";
    }
}

fields! {
    /// `struct mod_kallsyms` (`include/linux/module.h`): a module's symbols.
    ModuleSymbolsFields of "mod_kallsyms" {
        symbols: u64 = "symtab";
        count: u32 = "num_symtab";
        strings: u64 = "strtab";
    } optional {
        kinds: u64 = "typetab";
    }
}

fields! {
    /// `struct inactive_task_frame` of x86_64 (`arch/x86/include/asm/switch_to.h`): what a task leaves on its stack when
    /// another one is switched in.
    InactiveFrameFields of "inactive_task_frame" {
        r15: u64 = "r15";
        r14: u64 = "r14";
        r13: u64 = "r13";
        r12: u64 = "r12";
        rbx: u64 = "bx";
        rbp: u64 = "bp";
        return_address: u64 = "ret_addr";
    }
}

fields! {
    /// `struct cpu_context` of aarch64 (`arch/arm64/include/asm/processor.h`) in a task.
    CpuContextFields of "task_struct" {
        x19: u64 = "thread.cpu_context.x19";
        fp: u64 = "thread.cpu_context.fp";
        sp: u64 = "thread.cpu_context.sp";
        pc: u64 = "thread.cpu_context.pc";
    }
}

fields! {
    /// `struct pt_regs` of x86_64 (`arch/x86/include/asm/ptrace.h`).
    PtRegsFields of "pt_regs" {
        r15: u64 = "r15";
        r14: u64 = "r14";
        r13: u64 = "r13";
        r12: u64 = "r12";
        rbp: u64 = "bp";
        rbx: u64 = "bx";
        r11: u64 = "r11";
        r10: u64 = "r10";
        r9: u64 = "r9";
        r8: u64 = "r8";
        rax: u64 = "ax";
        rcx: u64 = "cx";
        rdx: u64 = "dx";
        rsi: u64 = "si";
        rdi: u64 = "di";
        rip: u64 = "ip";
        flags: u64 = "flags";
        rsp: u64 = "sp";
    } optional {
        // Until 6.8 the selectors were words; since then 16 bits in a union with FRED's.
        cs_word: u64 = "cs";
        cs: u16 = "cs";
        ss_word: u64 = "ss";
        ss: u16 = "ss";
    }
}

fields! {
    /// `struct timekeeper` (`include/linux/timekeeper_internal.h`).
    TimekeeperFields of "timekeeper" {
        offset_real: u64 = "offs_real";
        offset_boot: u64 = "offs_boot";
    }
}

fields! {
    /// `struct task_struct`, as far as it leads to files and numbers.
    TaskFsFields of "task_struct" {
        fs: u64 = "fs";
        group_leader: u64 = "group_leader";
    } optional {
        thread_pid: u64 = "thread_pid";
    }
}

fields! {
    /// `struct fs_struct` (`include/linux/fs_struct.h`).
    FsStructFields of "fs_struct" {
        root_mount: u64 = "root.mnt";
        root_dentry: u64 = "root.dentry";
    }
}

fields! {
    /// `struct pid` (`include/linux/pid.h`); its numbers stand at its end, one a level.
    PidFields of "pid" {
        level: u32 = "level";
    }
}

fields! {
    /// `struct dentry`: how a directory holds its entries.
    DentryChildrenFields of "dentry" {
    } optional {
        // A list until 6.7, a list with a single pointer as its head later.
        list: ListHead = "d_subdirs";
        list_link: ListHead = "d_child" | "d_u.d_child";
        children: u64 = "d_children.first";
        sibling: ListHead = "d_sib";
    }
}

fields! {
    /// `struct mount`: what is mounted below it.
    MountChildrenFields of "mount" {
        list: ListHead = "mnt_mounts";
        link: ListHead = "mnt_child";
    }
}
