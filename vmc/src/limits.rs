//! [`Limits`]: every bound on what a guest may make us do, in one place.
//!
//! A guest's memory is written by whoever runs in it. Each count, length and depth that is read from it is held
//! against one of these numbers before it is believed; a walk that meets its bound stops and says so. The defaults are the
//! kernel's own maxima, or what real systems have, times a margin.

/// Bounds on walks, reads and allocations. Change a field to raise or lower one.
///
/// ```
/// let limits = vmc::Limits { frames: 64, ..vmc::Limits::default() };
/// assert_eq!(limits.frames, 64);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Tasks in one list: Linux' `PID_MAX_LIMIT` is 2^22.
    pub tasks: usize,
    /// Virtual memory areas of one process: `vm.max_map_count` is 65 530 by default, databases raise it to some 2^18.
    pub mappings: usize,
    /// Nodes of one tree (maple tree, xarray) that a walk may touch.
    pub tree_nodes: usize,
    /// Levels of one tree: a maple tree's pivots allow 31 at the very most, an xarray's shift 11.
    pub tree_depth: usize,
    /// Places in memory that look like a task or a module at first and are then looked at closely.
    pub scan_candidates: usize,
    /// Kernel modules: distributions load some hundreds.
    pub modules: usize,
    /// Pages of the region that modules lie in that are looked through for more: arm64's has 2 GiB, twice that in pages of 4 KiB.
    pub module_pages: usize,
    /// Sections of one module: those built with a section a function have thousands.
    pub module_sections: usize,
    /// Components of a path: `PATH_MAX` is 4096 bytes, a component is a character and a slash at the least.
    pub path_components: usize,
    /// Bytes of a path.
    pub path_bytes: usize,
    /// Entries of one directory that a search for a name goes through, and of all directories that one listing shows.
    pub directory_entries: usize,
    /// Zeros that stand for holes and missing pages when a file is written out: a hole may be as large as numbers go.
    pub file_zeros: u64,
    /// Dentries and mounts that one path or one listing may go by, those of files that are gone counted.
    pub path_steps: usize,
    /// Directories below one another that a listing goes down into.
    pub directory_depth: usize,
    /// Symbolic links that the way to one file may follow: `MAXSYMLINKS` is 40.
    pub symbolic_links: usize,
    /// Mounts of one namespace, or below one mount: `fs.mount-max` is 100 000 by default.
    pub mounts: usize,
    /// Bytes of a JIT compiler's map of functions (`/tmp/perf-PID.map`).
    pub perf_map_bytes: usize,
    /// Mounts that a path may cross.
    pub mount_depth: usize,
    /// Bytes of a command line: the kernel's `MAX_ARG_STRLEN` is 128 KiB a word, the sum 2 MiB by default.
    pub command_line_bytes: usize,
    /// Bytes of any other string.
    pub string_bytes: usize,
    /// Supplementary groups of one process: `NGROUPS_MAX` is 65 536.
    pub groups: usize,
    /// Descriptors of one process: `fs.nr_open` is 2^20 by default, databases raise it some.
    pub open_files: usize,
    /// Open files of all processes together, in one list: the busiest hosts have some millions.
    pub all_open_files: usize,
    /// Records of the kernel's log: a log of 2^31 bytes, the largest, has descriptors for 2^26; distributions have 2^13.
    pub log_records: usize,
    /// Bytes of a log before 5.10 that are read: distributions' have 2^17 to 2^20.
    pub log_bytes: usize,
    /// Namespaces of a kind: `user.max_net_namespaces` goes with the memory, hosts of containers have thousands.
    pub namespaces: usize,
    /// Sockets and the descriptors among which they are looked for, all together: a busy proxy has a million.
    pub sockets: usize,
    /// Buckets of all hash tables together: that of TCP connections has 2^19 by default on a large machine.
    pub hash_buckets: usize,
    /// Network interfaces: an index is an `int`, hosts of containers have thousands.
    pub interfaces: usize,
    /// Addresses of all network interfaces together.
    pub addresses: usize,
    /// Page tables that are read when all pages of all processes are gone through: 1 TiB in small pages takes 2^19.
    pub page_tables: usize,
    /// Places where processes map the pages that are looked for, all together.
    pub page_mappings: usize,
    /// CPUs: `NR_CPUS` is at most 8192.
    pub cpus: usize,
    /// Symbols of one table: a kernel has 90 000 to 250 000, a browser 2 million.
    pub symbols: usize,
    /// Symbols' names that one search for a kernel's symbol table by its content goes through, wrong places included.
    pub searched_symbols: usize,
    /// Bytes of one symbol table's strings.
    pub symbol_bytes: usize,
    /// Bytes of one packed symbol table (`.gnu_debugdata`), unpacked, and of the memory that unpacking takes.
    pub debug_data_bytes: usize,
    /// Characters of a demangled name.
    pub demangled_bytes: usize,
    /// Pages that look like a VMCOREINFO and are followed to a kernel: each earlier boot leaves one.
    pub kernel_candidates: usize,
    /// Bytes of address space in which a kernel's image is looked for: large ones have some 64 MiB.
    pub kernel_image_bytes: u64,
    /// Bytes of BTF: 4 to 8 MiB in distribution kernels.
    pub btf_bytes: usize,
    /// Types in BTF: 100 000 to 200 000 in distribution kernels.
    pub btf_types: usize,
    /// How deep types may nest or refer to one another until a size or a member is found.
    pub type_depth: usize,
    /// Members that are gone through until one is found or all are listed, those of anonymous structures included:
    /// `struct task_struct` has some three hundred.
    pub type_members: usize,
    /// Bytes of one unwind section (`.eh_frame`, `.eh_frame_hdr`): a browser's has some 30 MiB.
    pub unwind_bytes: usize,
    /// Bytes of one CIE or FDE: the largest of a browser's have some ten thousand.
    pub unwind_entry_bytes: usize,
    /// Bytes of CIEs and FDEs that one walk over a stack may evaluate; an ordinary frame takes a hundred.
    pub unwind_walk_bytes: usize,
    /// Signal frames of one stack: handlers nest by the number of signals, which is 64.
    pub signal_frames: usize,
    /// Other stacks that one walk may go on to: coroutines that were resumed by one another; in the kernel the stacks of
    /// soft IRQ, IRQ, NMI, debug, machine check and double fault.
    pub stack_switches: usize,
    /// Headers (program, section) of one ELF file.
    pub elf_headers: usize,
    /// Bytes of notes of one ELF file.
    pub note_bytes: usize,
    /// Frames of one stack.
    pub frames: usize,
    /// Steps of one DWARF expression.
    pub expression_steps: u32,
    /// Instructions that one step may follow through code that no table describes.
    pub code_steps: u32,
    /// How many times one walk may search code for a function's start: a search reads some hundred thousand instructions at
    /// the worst, and only functions that never return need one.
    pub code_searches: u32,
    /// Words of a stack that are looked at for guesses.
    pub scan_words: usize,
    /// Errors kept for one row; what comes after is only counted.
    pub row_errors: usize,
}

impl Limits {
    /// The defaults, as a constant.
    pub const DEFAULT: Self = Self {
        tasks: 1 << 23,
        mappings: 1 << 20,
        tree_nodes: 1 << 20,
        tree_depth: 32,
        scan_candidates: 1 << 20,
        modules: 1 << 14,
        module_pages: 1 << 20,
        module_sections: 1 << 16,
        path_components: 2048,
        path_bytes: 4096,
        directory_entries: 1 << 20,
        file_zeros: 64 << 30,
        path_steps: 1 << 24,
        directory_depth: 256,
        symbolic_links: 40,
        mounts: 1 << 17,
        perf_map_bytes: 64 << 20,
        mount_depth: 256,
        command_line_bytes: 4 << 20,
        string_bytes: 4096,
        groups: 1 << 16,
        open_files: 1 << 21,
        all_open_files: 1 << 23,
        log_records: 1 << 22,
        log_bytes: 256 << 20,
        namespaces: 1 << 20,
        sockets: 1 << 24,
        hash_buckets: 1 << 24,
        interfaces: 1 << 20,
        addresses: 1 << 20,
        page_tables: 1 << 21,
        page_mappings: 1 << 22,
        cpus: 8192,
        symbols: 1 << 22,
        searched_symbols: 1 << 25,
        symbol_bytes: 256 << 20,
        debug_data_bytes: 128 << 20,
        demangled_bytes: 2048,
        kernel_candidates: 1 << 14,
        kernel_image_bytes: 256 << 20,
        btf_bytes: 64 << 20,
        btf_types: 1 << 21,
        type_depth: 32,
        type_members: 1 << 20,
        unwind_bytes: 128 << 20,
        unwind_entry_bytes: 256 << 10,
        unwind_walk_bytes: 4 << 20,
        signal_frames: 64,
        stack_switches: 64,
        elf_headers: 1024,
        note_bytes: 64 << 10,
        frames: 1024,
        expression_steps: 4096,
        code_steps: 2048,
        code_searches: 64,
        scan_words: 4096,
        row_errors: 16,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}
