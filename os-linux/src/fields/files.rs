//! Inodes and pages, as far as `ls` and `cat` show them.

use vmc::layout::{Field, LayoutError, Types};

use super::{FieldGroup, ListHead};

fields! {
    /// `struct inode`, as far as `stat` shows it.
    InodeDetailFields of "inode" {
        mode: u16 = "i_mode";
        uid: u32 = "i_uid.val";
        gid: u32 = "i_gid.val";
        device: u32 = "i_rdev";
        operations: u64 = "i_op";
    } optional {
        // A symbolic link's target, where the inode itself has it; of other kinds of files, something else lies there.
        link: u64 = "i_link";
        // A `struct timespec64` until 6.10 (with underscores since 6.6), two numbers later.
        mtime: [u64; 2] = "i_mtime" | "__i_mtime";
        mtime_seconds: u64 = "i_mtime_sec";
        mtime_nanoseconds: u32 = "i_mtime_nsec";
    }
}

fields! {
    /// `struct inode_operations`, as far as it tells what a directory's dentries are.
    InodeOperationsFields of "inode_operations" {
        lookup: u64 = "lookup";
    }
}

fields! {
    /// `struct super_block`, as far as it tells what kind of file system it is.
    SuperBlockKindFields of "super_block" {
        magic: u64 = "s_magic";
        private: u64 = "s_fs_info";
    }
}

fields! {
    /// `struct address_space`: how many pages the cache has.
    CacheSizeFields of "address_space" {
        pages: u64 = "nrpages";
    }
}

fields! {
    /// `struct page`, as far as it tells what state a page of a file is in.
    PageStateFields of "page" {
        flags: u64 = "flags";
    } optional {
        mapping: u64 = "mapping";
    }
}

fields! {
    /// `struct fs_struct`: where a process stands.
    WorkingDirectoryFields of "fs_struct" {
        mount: u64 = "pwd.mnt";
        dentry: u64 = "pwd.dentry";
    }
}

fields! {
    /// `struct btf_module` (`kernel/bpf/btf.c`): a module that brought types.
    BtfModuleFields of "btf_module" {
        list: ListHead = "list";
        btf: u64 = "btf";
    }
}

fields! {
    /// `struct btf`, as far as it leads to a module's types.
    BtfObjectFields of "btf" {
        data: u64 = "data";
        size: u32 = "data_size";
    }
}
