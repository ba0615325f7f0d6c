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
    }
}

fields! {
    /// What a task has open and where it stands in the file system.
    TaskFilesFields of "task_struct" {
        files: u64 = "files";
        fs: u64 = "fs";
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
    /// `struct mm_struct` (`include/linux/mm_types.h`).
    MmFields of "mm_struct" {
        pgd: u64 = "pgd";
        exe_file: u64 = "exe_file";
        arg_start: u64 = "arg_start";
        arg_end: u64 = "arg_end";
        env_start: u64 = "env_start";
        env_end: u64 = "env_end";
        start_brk: u64 = "start_brk";
        brk: u64 = "brk";
        start_stack: u64 = "start_stack";
    } optional {
        // The maple tree of 6.1 and later, the list before.
        maple_root: u64 = "mm_mt.ma_root";
        mmap: u64 = "mmap";
        // Plain counters until 6.1; per-CPU ones (an array of structures) later.
        rss_counters: [u64; 4] = "rss_stat.count";
    }
}

fields! {
    /// `struct vm_area_struct` (`include/linux/mm_types.h`).
    VmaFields of "vm_area_struct" {
        start: u64 = "vm_start";
        end: u64 = "vm_end";
        flags: u64 = "vm_flags";
        page_offset: u64 = "vm_pgoff";
        file: u64 = "vm_file";
        operations: u64 = "vm_ops";
        private_data: u64 = "vm_private_data";
    } optional {
        next: u64 = "vm_next";
        anon_name: u64 = "anon_name";
    }
}

fields! {
    /// `struct maple_range_64` and `struct maple_arange_64` (`include/linux/maple_tree.h`), by their arrays' places.
    MapleRangeFields of "maple_range_64" {
        pivots: [u64; 15] = "pivot";
        slots: [u64; 16] = "slot";
    }
}

fields! {
    /// `struct maple_arange_64`: inner nodes that also know their gaps.
    MapleArangeFields of "maple_arange_64" {
        pivots: [u64; 9] = "pivot";
        slots: [u64; 10] = "slot";
    }
}

fields! {
    /// `struct vm_operations_struct`, as far as it tells a special mapping.
    VmOperationsFields of "vm_operations_struct" {
        name: u64 = "name";
    }
}

fields! {
    /// `struct vm_special_mapping`: `[vdso]`, `[vvar]`.
    SpecialMappingFields of "vm_special_mapping" {
        name: u64 = "name";
    }
}

fields! {
    /// `struct file` (`include/linux/fs.h`).
    FileFields of "file" {
        mount: u64 = "f_path.mnt" | "__f_path.mnt";
        dentry: u64 = "f_path.dentry" | "__f_path.dentry";
        inode: u64 = "f_inode";
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
    /// `struct fs_struct` (`include/linux/fs_struct.h`).
    FsFields of "fs_struct" {
        root_mount: u64 = "root.mnt";
        root: u64 = "root.dentry";
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
    /// `struct vfsmount` (`include/linux/mount.h`).
    VfsMountFields of "vfsmount" {
        root: u64 = "mnt_root";
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
    /// `struct address_space`: a file's page cache.
    PageCacheFields of "address_space" {
        head: u64 = "i_pages.xa_head";
    }
}

fields! {
    /// `struct xa_node` (`include/linux/xarray.h`).
    XaNodeFields of "xa_node" {
        shift: u8 = "shift";
        slots: [u64; 64] = "slots";
    }
}

fields! {
    /// `struct page` (`include/linux/mm_types.h`), of a page that a file's cache holds.
    PageFields of "page" {
        index: u64 = "index" | "__folio_index";
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
        init_size: u32 = "init_layout.size";
        build_id: [u8; 20] = "build_id";
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
    /// `struct inode`, as far as it tells what kind of file it is.
    InodeFactFields of "inode" {
        mode: u16 = "i_mode";
    }
}

fields! {
    /// `struct socket` (`include/linux/net.h`).
    SocketFields of "socket" {
        sock: u64 = "sk";
    }
}

fields! {
    /// `struct sock_common` (`include/net/sock.h`), with which all kinds of sockets begin.
    SockFields of "sock_common" {
        local: [u8; 4] = "skc_rcv_saddr";
        remote: [u8; 4] = "skc_daddr";
        local_port: u16 = "skc_num";
        remote_port: [u8; 2] = "skc_dport";
        family: u16 = "skc_family";
        state: u8 = "skc_state";
        protocol: u64 = "skc_prot";
        node: [u64; 2] = "skc_node";
    } optional {
        local6: [u8; 16] = "skc_v6_rcv_saddr";
        remote6: [u8; 16] = "skc_v6_daddr";
        net: u64 = "skc_net.net";
    }
}

fields! {
    /// `struct sock`, beyond what all sockets have.
    SockSocketFields of "sock" {
        socket: u64 = "sk_socket";
    }
}

fields! {
    /// `struct inet_timewait_sock`: what is left of a connection.
    TimeWaitFields of "inet_timewait_sock" {} optional {
        state: u8 = "tw_substate";
    }
}

fields! {
    /// `struct proto`: a protocol.
    ProtoFields of "proto" {
        name: [u8; 32] = "name";
    }
}

fields! {
    /// `struct unix_sock` (`include/net/af_unix.h`).
    UnixSockFields of "unix_sock" {
        address: u64 = "addr";
        peer: u64 = "peer";
    }
}

fields! {
    /// `struct unix_address`.
    UnixAddressFields of "unix_address" {
        len: u32 = "len";
    }
}

fields! {
    /// `struct net`: a network namespace.
    NetFields of "net" {
        list: ListHead = "list";
        number: u32 = "ns.inum";
        devices: ListHead = "dev_base_head";
    } optional {
        // Tables of sockets that are a namespace's own, or shared by pointing at one.
        tcp: u64 = "ipv4.tcp_death_row.hashinfo";
        udp: u64 = "ipv4.udp_table";
        unix: u64 = "unx.table.buckets";
    }
}

fields! {
    /// `struct inet_hashinfo` (`include/net/inet_hashtables.h`).
    HashInfoFields of "inet_hashinfo" {
        established: u64 = "ehash";
        established_mask: u32 = "ehash_mask";
    } optional {
        listening: u64 = "lhash2";
        listening_mask: u32 = "lhash2_mask";
    }
}

fields! {
    /// `struct udp_table` (`include/net/udp.h`).
    UdpTableFields of "udp_table" {
        slots: u64 = "hash";
        mask: u32 = "mask";
    }
}

fields! {
    /// `struct net_device` (`include/linux/netdevice.h`).
    NetDeviceFields of "net_device" {
        list: ListHead = "dev_list";
        name: [u8; 16] = "name";
        index: u32 = "ifindex";
        flags: u32 = "flags";
        mtu: u32 = "mtu";
        hardware: u64 = "dev_addr";
        hardware_len: u8 = "addr_len";
    } optional {
        ipv4: u64 = "ip_ptr";
        ipv6: u64 = "ip6_ptr";
    }
}

fields! {
    /// `struct in_device`: an interface's IPv4.
    InDeviceFields of "in_device" {
        addresses: u64 = "ifa_list";
    }
}

fields! {
    /// `struct in_ifaddr`: an IPv4 address of an interface.
    Address4Fields of "in_ifaddr" {
        next: u64 = "ifa_next";
        address: [u8; 4] = "ifa_local";
        prefix: u8 = "ifa_prefixlen";
    }
}

fields! {
    /// `struct inet6_dev`: an interface's IPv6.
    Inet6DeviceFields of "inet6_dev" {
        addresses: ListHead = "addr_list";
    }
}

fields! {
    /// `struct inet6_ifaddr`: an IPv6 address of an interface.
    Address6Fields of "inet6_ifaddr" {
        list: ListHead = "if_list";
        address: [u8; 16] = "addr";
        prefix: u32 = "prefix_len";
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
