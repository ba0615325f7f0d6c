//! Open files, namespaces, mounts, and the kernel's log.

use vmc::layout::{Field, LayoutError, Types};

use super::{FieldGroup, ListHead};

fields! {
    /// What a task has open, and its namespaces.
    TaskFilesFields of "task_struct" {
        files: u64 = "files";
        namespaces: u64 = "nsproxy";
    }
}

fields! {
    /// `struct files_struct` (`include/linux/fdtable.h`).
    FilesFields of "files_struct" {
        table: u64 = "fdt";
    }
}

fields! {
    /// `struct fdtable` (`include/linux/fdtable.h`).
    FdTableFields of "fdtable" {
        max: u32 = "max_fds";
        files: u64 = "fd";
        open: u64 = "open_fds";
        close_on_exec: u64 = "close_on_exec";
    }
}

fields! {
    /// `struct file`, as far as its descriptors show it.
    FileStateFields of "file" {
        flags: u32 = "f_flags";
        position: u64 = "f_pos";
        private_data: u64 = "private_data";
    }
}

fields! {
    /// `struct mount`, as far as `/proc/mounts` shows it.
    MountFactFields of "mount" {
        source: u64 = "mnt_devname";
        super_block: u64 = "mnt.mnt_sb";
        flags: u32 = "mnt.mnt_flags";
    } optional {
        // A namespace's list until 6.7, its tree later: the other's member may still be there.
        list: ListHead = "mnt_list";
        node: [u64; 3] = "mnt_node";
    }
}

fields! {
    /// `struct mnt_namespace` (`fs/mount.h`).
    MountNamespaceFields of "mnt_namespace" {} optional {
        list: ListHead = "list";
        tree: u64 = "mounts.rb_node";
    }
}

fields! {
    /// `struct nsproxy` (`include/linux/nsproxy.h`).
    NamespaceFields of "nsproxy" {
        mount: u64 = "mnt_ns";
        net: u64 = "net_ns";
    }
}

fields! {
    /// `struct ns_common`: what namespaces of all kinds have (`include/linux/ns_common.h`).
    AnyNamespaceFields of "ns_common" {
        operations: u64 = "ops";
    }
}

fields! {
    /// `struct proc_ns_operations`: a kind of namespace.
    NamespaceOperationsFields of "proc_ns_operations" {
        name: u64 = "name";
    }
}

fields! {
    /// `struct rb_node` (`include/linux/rbtree_types.h`).
    RbNodeFields of "rb_node" {
        left: u64 = "rb_left";
        right: u64 = "rb_right";
    }
}

fields! {
    /// `struct super_block`, as far as `/proc/mounts` shows it.
    SuperBlockFactFields of "super_block" {
        flags: u64 = "s_flags";
        kind: u64 = "s_type";
        subtype: u64 = "s_subtype";
    }
}

fields! {
    /// `struct file_system_type` (`include/linux/fs.h`).
    FileSystemFields of "file_system_type" {
        name: u64 = "name";
    }
}

fields! {
    /// `struct inode`, as far as it tells what kind of file it is.
    InodeFactFields of "inode" {
        mode: u16 = "i_mode";
        private: u64 = "i_private";
    }
}

fields! {
    /// `struct printk_ringbuffer` (`kernel/printk/printk_ringbuffer.h`).
    LogFields of "printk_ringbuffer" {
        count_bits: u32 = "desc_ring.count_bits";
        descriptors: u64 = "desc_ring.descs";
        infos: u64 = "desc_ring.infos";
        head: u64 = "desc_ring.head_id";
        tail: u64 = "desc_ring.tail_id";
        size_bits: u32 = "text_data_ring.size_bits";
        data: u64 = "text_data_ring.data";
    }
}

fields! {
    /// `struct prb_desc`.
    LogDescriptorFields of "prb_desc" {
        state: u64 = "state_var";
        begin: u64 = "text_blk_lpos.begin";
        next: u64 = "text_blk_lpos.next";
    }
}

fields! {
    /// `struct printk_info`.
    LogInfoFields of "printk_info" {
        sequence: u64 = "seq";
        time: u64 = "ts_nsec";
        length: u16 = "text_len";
        // Three bits above the five of the flags.
        level: u8 = "level";
    }
}
