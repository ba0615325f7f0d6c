//! The groups of members that a kernel's structures are read by, each made once.

use vmc::layout::LayoutError;

use crate::fields::*;
use crate::kernel::Linux;
use crate::lazy::Lazy;

macro_rules! groups {
    ($($group:ident: $kind:ty;)*) => {
        /// The groups of members, each looked up when it is first needed.
        #[derive(Debug, Default)]
        pub(crate) struct Groups {
            $($group: Lazy<$kind, LayoutError>,)*
        }

        impl Groups {
            /// Forgets those that could not be made.
            pub(crate) fn forget_failures(&mut self) {
                $(self.$group.forget_if(|_| false);)*
            }
        }

        impl Linux<'_> {
            $(pub(crate) fn $group(&self) -> Result<&$kind, LayoutError> {
                self.groups.$group.get(|| FieldGroup::resolve(self.types()))
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
