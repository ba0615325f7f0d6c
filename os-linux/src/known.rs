//! The symbols of the kernel that are asked for again and again.

use vmc::VirtAddr;

use crate::symbols::KernelSymbols;

macro_rules! known {
    ($($(#[$doc:meta])* $field:ident = $name:literal;)*) => {
        /// Symbols that are asked for again and again, found in one pass over all of them.
        #[derive(Clone, Copy, Debug, Default)]
        pub(crate) struct Known {
            $($(#[$doc])* pub(crate) $field: Option<VirtAddr>,)*
        }

        impl Known {
            pub(crate) fn find(symbols: &KernelSymbols<'_>) -> Self {
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
