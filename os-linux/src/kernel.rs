//! [`Linux`]: a guest's kernel, found, with its symbols and types at hand.

use alloc::boxed::Box;
use core::fmt;

use once_cell::race::OnceBox;
use vmc::layout::{Field, LayoutError, Types};
use vmc::symbols::SymbolTable;
use vmc::{AddressSpace, Limits, PageTables, PhysMemory, Vcpus, VirtAddr};

use crate::btf::Btf;
use crate::cpus::Cpus;
use crate::data::{FoundData, KernelImage, find_init_task, find_types};
use crate::error::LinuxError;
use crate::fields::*;
use crate::files::KernelFiles;
use crate::find::{Found, find};
use crate::fs::OverlayFields;
use crate::identity::KernelIdentity;
use crate::lazy::Lazy;
use crate::open::{complete, given_types, kernels_own, load_symbols};
use crate::symbols::KernelSymbols;
use crate::types::KernelTypes;

/// Places of the kernel's TLB.
pub(crate) const TLB_ENTRIES: usize = 4096;

/// A Linux guest.
///
/// Made from memory and vCPUs (none, where the target has no registers); everything else comes out of the guest.
pub struct Linux<'m> {
    memory: &'m dyn PhysMemory,
    vcpus: &'m dyn Vcpus,
    limits: Limits,
    identity: KernelIdentity,
    space: AddressSpace<'m>,
    kernel_symbols: KernelSymbols<'m>,
    types: KernelTypes<'m>,
    pub(crate) known: Known,
    groups: Groups,
    symbols: OnceBox<SymbolTable>,
    cpus: OnceBox<Cpus>,
    image: OnceBox<KernelImage>,
    pub(crate) found: FoundData,
    overlay: Lazy<OverlayFields, LayoutError>,
}

impl fmt::Debug for Linux<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Linux").field("release", &self.identity.release).finish_non_exhaustive()
    }
}

macro_rules! known {
    ($($(#[$doc:meta])* $field:ident = $name:literal;)*) => {
        /// Symbols that are asked for again and again, found in one pass over all of them.
        #[derive(Clone, Copy, Debug, Default)]
        pub(crate) struct Known {
            $($(#[$doc])* pub(crate) $field: Option<VirtAddr>,)*
        }

        impl Known {
            fn find(symbols: &KernelSymbols<'_>) -> Self {
                let [$($field),*] = symbols.addresses_of(&[$($name),*]);
                Self { $($field),* }
            }
        }
    };
}

known! {
    text = "_text";
    start_btf = "__start_BTF";
    stop_btf = "__stop_BTF";
    init_task = "init_task";
    modules = "modules";
    btf_modules = "btf_modules";
    tainted_mask = "tainted_mask";
    per_cpu_offset = "__per_cpu_offset";
    cpu_online_mask = "__cpu_online_mask";
    nr_cpu_ids = "nr_cpu_ids";
    current_task = "current_task";
    pcpu_hot = "pcpu_hot";
    tk_core = "tk_core";
    timekeeper_data = "timekeeper_data";
    vmemmap_base = "vmemmap_base";
    page_offset_base = "page_offset_base";
    vsyscall_mode = "vsyscall_mode";
    special_mapping_name = "special_mapping_name";
    simple_dname = "simple_dname";
    simple_lookup = "simple_lookup";
    prb = "prb";
    net_namespace_list = "net_namespace_list";
    tcp_hashinfo = "tcp_hashinfo";
    udp_table = "udp_table";
    unix_socket_table = "unix_socket_table";
    end = "_end";
    start_orc_places = "__start_orc_unwind_ip";
    stop_orc_places = "__stop_orc_unwind_ip";
    start_orc = "__start_orc_unwind";
    stop_orc = "__stop_orc_unwind";
    orc_header = "orc_header";
    ret_from_fork = "ret_from_fork";
    ret_from_fork_asm = "ret_from_fork_asm";
    run_queues = "runqueues";
    cpu_possible_mask = "__cpu_possible_mask";
    init_pid_ns = "init_pid_ns";
    task_cache = "task_struct_cachep";
    module_kset = "module_kset";
    module_tree = "mod_tree";
    module_bugs = "module_bug_list";
    start_notes = "__start_notes";
    stop_notes = "__stop_notes";
    init_top_pgt = "init_top_pgt";
    stext = "_stext";
    init_uts_ns = "init_uts_ns";
    log_buffer = "log_buf";
    log_buffer_len = "log_buf_len";
    log_first = "log_first_idx";
    log_next = "log_next_idx";
    log_first_sequence = "log_first_seq";
}

macro_rules! groups {
    ($($group:ident: $kind:ty;)*) => {
        /// The groups of members, each looked up when it is first needed.
        #[derive(Debug, Default)]
        struct Groups {
            $($group: Lazy<$kind, LayoutError>,)*
        }

        impl Linux<'_> {
            $(pub(crate) fn $group(&self) -> Result<&$kind, LayoutError> {
                self.groups.$group.get(|| FieldGroup::resolve(&self.types))
            })*
        }
    };
}

groups! {
    task: TaskFields;
    task_queue: TaskQueueFields;
    group_queue: GroupQueueFields;
    cpu_queue: CpuQueueFields;
    task_files: TaskFilesFields;
    files: FilesFields;
    fd_table: FdTableFields;
    file_state: FileStateFields;
    signal: SignalFields;
    cred: CredFields;
    mm: MmFields;
    vma: VmaFields;
    maple_range: MapleRangeFields;
    maple_arange: MapleArangeFields;
    vm_operations: VmOperationsFields;
    special_mapping: SpecialMappingFields;
    file: FileFields;
    backing_file: BackingFileFields;
    dentry: DentryFields;
    dentry_operations: DentryOperationsFields;
    mount: MountFields;
    mount_facts: MountFactFields;
    mount_namespace: MountNamespaceFields;
    namespaces: NamespaceFields;
    any_namespace: AnyNamespaceFields;
    namespace_operations: NamespaceOperationsFields;
    rb_node: RbNodeFields;
    vfsmount: VfsMountFields;
    inode: InodeFields;
    super_block: SuperBlockFields;
    super_block_facts: SuperBlockFactFields;
    file_system: FileSystemFields;
    page_cache: PageCacheFields;
    xa_node: XaNodeFields;
    page: PageFields;
    module: ModuleFields;
    module_memory: ModuleMemoryFields;
    inode_facts: InodeFactFields;
    socket: SocketFields;
    sock: SockFields;
    sock_socket: SockSocketFields;
    time_wait: TimeWaitFields;
    proto: ProtoFields;
    unix_sock: UnixSockFields;
    unix_address: UnixAddressFields;
    net: NetFields;
    hash_info: HashInfoFields;
    udp_table: UdpTableFields;
    net_device: NetDeviceFields;
    in_device: InDeviceFields;
    address4: Address4Fields;
    inet6_device: Inet6DeviceFields;
    address6: Address6Fields;
    log_fields: LogFields;
    log_descriptor: LogDescriptorFields;
    log_info: LogInfoFields;
    module_symbols: ModuleSymbolsFields;
    inactive_frame: InactiveFrameFields;
    cpu_context: CpuContextFields;
    pt_regs: PtRegsFields;
    timekeeper: TimekeeperFields;
    task_fs: TaskFsFields;
    fs_struct: FsStructFields;
    pid: PidFields;
    dentry_children: DentryChildrenFields;
    mount_children: MountChildrenFields;
    task_ties: TaskTiesFields;
    run_queue: RunQueueFields;
    real_time_entity: RealTimeEntityFields;
    pid_namespace: PidNamespaceFields;
    pid_number: PidNumberFields;
    slab_cache: SlabCacheFields;
    slab_page: SlabPageFields;
    slab: SlabFields;
    module_ties: ModuleTiesFields;
    kset: KsetFields;
    module_kobject: ModuleKobjectFields;
    module_node: ModuleNodeFields;
    latch: LatchFields;
    inode_details: InodeDetailFields;
    inode_operations: InodeOperationsFields;
    super_block_kind: SuperBlockKindFields;
    cache_size: CacheSizeFields;
    page_state: PageStateFields;
    working_directory: WorkingDirectoryFields;
    btf_module: BtfModuleFields;
    btf_object: BtfObjectFields;
    module_details_fields: ModuleDetailFields;
    module_use: ModuleUseFields;
    sections: SectionsFields;
    section: SectionFields;
    section_list: SectionListFields;
    bin_attribute: BinAttributeFields;
    ns_proxy: NsProxyFields;
    cred_namespace: CredNamespaceFields;
    root_mount: RootMountFields;
    cred_details: CredDetailFields;
    group_info: GroupInfoFields;
    task_details: TaskDetailFields;
    signal_details: SignalDetailFields;
    tty: TtyFields;
    tty_driver: TtyDriverFields;
    mm_size: MmSizeFields;
    css_set: CssSetFields;
    cgroup: CgroupFields;
    controller: ControllerFields;
    kernfs_node: KernfsNodeFields;
}

impl<'m> Linux<'m> {
    /// Finds the kernel in `memory`, with the default limits.
    ///
    /// # Errors
    /// [`LinuxError`] where there is no Linux kernel, or it cannot be read without a profile.
    pub fn open(memory: &'m dyn PhysMemory, vcpus: &'m dyn Vcpus) -> Result<Self, LinuxError> {
        Self::open_with(memory, vcpus, Limits::default())
    }

    /// Finds the kernel in `memory`.
    ///
    /// # Errors
    /// [`LinuxError`] where there is no Linux kernel, or it cannot be read without a profile.
    pub fn open_with(
        memory: &'m dyn PhysMemory,
        vcpus: &'m dyn Vcpus,
        limits: Limits,
    ) -> Result<Self, LinuxError> {
        Self::open_with_files(memory, vcpus, limits, None)
    }

    /// Finds the kernel in `memory`; what it does not tell of itself (symbols, types) is taken from `files`.
    ///
    /// # Errors
    /// [`LinuxError`] where there is no Linux kernel, or it tells too little and no file helps.
    pub fn open_with_files(
        memory: &'m dyn PhysMemory,
        vcpus: &'m dyn Vcpus,
        limits: Limits,
        mut files: Option<&mut dyn KernelFiles>,
    ) -> Result<Self, LinuxError> {
        let Found { mut identity, tables } = find(memory, vcpus, &limits)?;
        let mut space = AddressSpace::with_tlb(memory, tables, TLB_ENTRIES);
        let kernel_symbols = load_symbols(&space, &mut identity, &limits, &mut files)?;
        let mut known = Known::find(&kernel_symbols);
        complete(&mut identity, &space, &known, &limits);
        if identity.vmcoreinfo.is_none() {
            space = kernels_own(space, &known);
        }
        let (image, stext) = (OnceBox::new(), identity.stext);
        let make_image = || Box::new(KernelImage::of(&space, stext, &limits));
        // Symbols of functions alone: data is found by what it looks like.
        let bounds = known.start_btf.zip(known.stop_btf);
        let bounds = bounds.or_else(|| find_types(&space, image.get_or_init(make_image)));
        let own = bounds.map(|(start, stop)| Btf::load(&space, start, stop, &limits));
        let types = match own {
            Some(Ok(own)) => KernelTypes::Btf(own),
            Some(Err(why)) => {
                given_types(&space, &mut identity, &kernel_symbols, &mut files).map_err(|_| why)?
            }
            None => given_types(&space, &mut identity, &kernel_symbols, &mut files)?,
        };
        known.init_task =
            known.init_task.or_else(|| find_init_task(&space, image.get_or_init(make_image), &types));
        known.prb = known.prb.or_else(|| identity.vmcoreinfo.as_ref()?.symbol("prb"));
        Ok(Self {
            memory,
            vcpus,
            limits,
            identity,
            space,
            kernel_symbols,
            types,
            known,
            groups: Groups::default(),
            symbols: OnceBox::new(),
            cpus: OnceBox::new(),
            image,
            found: FoundData::default(),
            overlay: Lazy::default(),
        })
    }

    /// The physical memory.
    #[must_use]
    pub const fn memory(&self) -> &'m dyn PhysMemory {
        self.memory
    }

    /// The vCPUs.
    #[must_use]
    pub const fn vcpus(&self) -> &'m dyn Vcpus {
        self.vcpus
    }

    /// The bounds that are kept.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What the kernel is known by.
    #[must_use]
    pub const fn identity(&self) -> &KernelIdentity {
        &self.identity
    }

    /// The kernel's address space.
    #[must_use]
    pub const fn space(&self) -> &AddressSpace<'m> {
        &self.space
    }

    /// The kernel's page tables.
    #[must_use]
    pub const fn tables(&self) -> &PageTables {
        self.space.tables()
    }

    /// The kernel's page size in bytes: the unit of file offsets, page counts and the page cache.
    #[must_use]
    pub const fn page_size(&self) -> u64 {
        self.space.tables().page_size()
    }

    /// The kernel's symbols, as they come.
    #[must_use]
    pub const fn kernel_symbols(&self) -> &KernelSymbols<'m> {
        &self.kernel_symbols
    }

    /// The kernel's types.
    #[must_use]
    pub const fn types(&self) -> &KernelTypes<'m> {
        &self.types
    }

    /// The kernel's symbols, unpacked when they are first asked for.
    #[must_use]
    pub fn symbols(&self) -> &SymbolTable {
        self.symbols.get_or_init(|| Box::new(self.kernel_symbols.table()))
    }

    /// The parts of the kernel's image.
    pub(crate) fn image(&self) -> &KernelImage {
        self.image.get_or_init(|| Box::new(KernelImage::of(&self.space, self.identity.stext, &self.limits)))
    }

    /// The guest's CPUs as the kernel numbers them, and which vCPU each is.
    #[must_use]
    pub(crate) fn cpus(&self) -> &Cpus {
        self.cpus.get_or_init(|| Box::new(Cpus::find(self)))
    }

    /// The members of overlayfs' structures, which may be a module's.
    pub(crate) fn overlay(&self) -> Result<&OverlayFields, LayoutError> {
        self.overlay.get(|| {
            OverlayFields::resolve(&self.types)
                .or_else(|why| self.with_module_types("overlay", why, |types| OverlayFields::resolve(types)))
                .or_else(|why| match self.types.size_of("btf_module") {
                    Ok(_) => Err(why),
                    Err(_) => OverlayFields::by_order(&self.types),
                })
        })
    }

    /// A symbol that has to be there.
    pub(crate) fn need(&self, name: &'static str, at: Option<VirtAddr>) -> Result<VirtAddr, LinuxError> {
        at.ok_or(LinuxError::NoSymbol { name })
    }

    /// The size of a kernel stack: that of the union which holds the first one (`union thread_union`); where the types lack
    /// it, that of the memory in which a process' lies; else 16 KiB.
    pub(crate) fn stack_size(&self) -> u64 {
        let likely = |size: &u64| size.is_power_of_two() && (4 << 10..=1 << 20).contains(size);
        let of_area = || Ok(self.mapped_stack_size().filter(likely).unwrap_or(16 << 10));
        let by_types = self.types.size_of("thread_union").ok().filter(likely);
        by_types.or_else(|| self.found.stack_size.get(of_area).ok().copied()).unwrap_or(16 << 10)
    }

    /// What the first process that has its stack in memory of its own (`CONFIG_VMAP_STACK`) has.
    fn mapped_stack_size(&self) -> Option<u64> {
        let area: Field<u64> = Field::new(&self.types, "task_struct", "stack_vm_area").ok()?;
        let pages: Field<u32> = Field::new(&self.types, "vm_struct", "nr_pages").ok()?;
        let mut areas = self.processes().ok()?.take(8).filter_map(|task| {
            let at = area.pointer(&self.space, task.ok()?.address()).ok()?;
            pages.read(&self.space, at).ok()
        });
        areas.next().map(|pages| u64::from(pages) * self.page_size())
    }
}
