//! What ties tasks and modules to others of their kind: for [`crate::survey`].

use vmc::layout::{Field, LayoutError, Types};

use super::{FieldGroup, ListHead};

fields! {
    /// `struct task_struct`, as far as it ties a task to others.
    TaskTiesFields of "task_struct" {
        group_leader: u64 = "group_leader";
        children: ListHead = "children";
        sibling: ListHead = "sibling";
        ptraced: ListHead = "ptraced";
        references: u32 = "usage.refs.counter" | "usage.counter";
    } optional {
        thread_pid: u64 = "thread_pid";
        on_queue: u32 = "on_rq";
        // Taken off its queue for having used up its cgroup's time.
        throttled: u8 = "throttled";
        fair_node: ListHead = "se.group_node";
        real_time_node: ListHead = "rt.run_list";
        deadline_node: [u64; 3] = "dl.rb_node";
        extended_node: ListHead = "scx.runnable_node";
    }
}

fields! {
    /// `struct rq` (`kernel/sched/sched.h`): a CPU's run queue.
    RunQueueFields of "rq" {
        current: u64 = "curr";
        idle: u64 = "idle";
    } optional {
        stop: u64 = "stop";
        fair: ListHead = "cfs_tasks";
        deadline: u64 = "dl.root.rb_root.rb_node" | "dl.root.rb_node";
        extended: ListHead = "scx.runnable_list";
        lock: u32 = "__lock.raw_lock.val.counter" | "lock.raw_lock.val.counter";
    }
}

fields! {
    /// `struct sched_rt_entity`: a task, or a group of tasks with a queue of its own.
    RealTimeEntityFields of "sched_rt_entity" {
        node: ListHead = "run_list";
    } optional {
        group: u64 = "my_q";
    }
}

fields! {
    /// `struct upid` (`include/linux/pid.h`): a number in one namespace.
    PidNumberFields of "upid" {
        namespace: u64 = "ns";
    }
}

fields! {
    /// `struct kmem_cache` of SLUB (`mm/slab.h`): how many pages a slab has, as a power of two, in the high half; how far
    /// objects lie from each other, and the first from the slab's start.
    SlabCacheFields of "kmem_cache" {
        order: u32 = "oo.x";
        stride: u32 = "size";
    } optional {
        first: u32 = "red_left_pad";
    }
}

fields! {
    /// `struct page`, as far as it stands for a slab.
    SlabPageFields of "page" {} optional {
        cache: u64 = "slab_cache";
    }
}

fields! {
    /// `struct slab` (`mm/slab.h`), which lies over `struct page` since 5.17.
    SlabFields of "slab" {
        cache: u64 = "slab_cache";
    }
}

fields! {
    /// `struct module`, as far as it ties a module to others.
    ModuleTiesFields of "module" {} optional {
        // Itself, by way of its kobject.
        own: u64 = "mkobj.mod";
        bugs: ListHead = "bug_list";
    }
}

fields! {
    /// `struct kset` (`include/linux/kobject.h`).
    KsetFields of "kset" {
        list: ListHead = "list";
    }
}

fields! {
    /// `struct module_kobject` (`include/linux/module.h`).
    ModuleKobjectFields of "module_kobject" {
        entry: ListHead = "kobj.entry";
        module: u64 = "mod";
    }
}

fields! {
    /// `struct mod_tree_node` (`include/linux/module.h`): an area of a module, in a tree by address.
    ModuleNodeFields of "mod_tree_node" {
        module: u64 = "mod";
    }
}

fields! {
    /// `struct latch_tree_root` (`include/linux/rbtree_latch.h`): two trees, of which one is always whole.
    LatchFields of "latch_tree_root" {
        trees: [u64; 2] = "tree";
        sequence: u32 = "seq.seqcount.sequence" | "seq.sequence";
    }
}
