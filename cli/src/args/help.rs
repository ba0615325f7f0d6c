//! What stands below the help of each command: examples, and what has to be known of its results.

pub(super) const INFO: &str = "Examples:\n  vmc info mem.elf\n  vmc info kvm:4711                  also the VMM, and how its memory is read\n  \
    vmc info win.dmp --symbols ./pdb   a Windows crash dump: also why it stopped, and in which driver\n\n\
    Where no operating system is found, what is known without one is shown, and the exit status is 1. So it is where\n\
    nothing tells the types of a Windows kernel; stderr then says which PDB or ISF would.";

pub(super) const REGISTERS: &str = "Examples:\n  vmc registers mem.elf\n  \
    vmc registers kvm:4711 --format jsonl | jq -r .rip\n\n\
    This needs no operating system that is known. Registers that the target does not tell are left out.";

pub(super) const PS: &str = "Examples:\n  vmc ps mem.elf\n  vmc ps mem.elf --tree\n  \
    vmc ps mem.elf --long                   groups, sessions, terminals, CPU time, memory\n  \
    vmc ps mem.elf --pid 85                 one process with all that is known of it\n  \
    vmc ps mem.elf --format jsonl | jq 'select(.uid == 1000)'\n  \
    vmc ps mem.elf --format jsonl | jq 'select(.euid != .uid or .seccomp == 2) | .pid'\n  \
    vmc ps mem.elf --all-ways --format jsonl | jq 'select(.hidden_from != [])'\n  \
    vmc ps win.dmp --symbols ./pdb          Windows: the kernel's PDB or ISF is below ./pdb\n  \
    vmc ps win.dmp --download               the same; a PDB that is not there is fetched and kept\n\n\
    All formats but the table give credentials, capabilities (capabilities: the effective ones by name),\n\
    CPU time in seconds, memory in bytes, priority, control group and PID namespaces (nspid) too.\n\n\
    With --all-ways, HIDDEN FROM names the ways that should lead to a process and do not: task_list (what ps\n\
    goes by), thread_lists, pid_idr (the numbers of each namespace), run_queues, children. Threads that are\n\
    missing from a way have rows of their own, with tid.\n\n\
    Windows: FLAGS are 32bit, exited, and unlisted (only the kernel's table of ids leads to it). Both ways are\n\
    always gone: --all-ways and --long change nothing. All formats but the table tell session, wow64,\n\
    command_line, exit_time, on_list and both page table roots.";

pub(super) const THREADS: &str = "Examples:\n  vmc threads mem.elf\n  vmc threads mem.elf --pid 85\n\n\
    Windows: STATE and REASON (of waiting) are the kernel's own words, START is where the program began the thread;\n\
    all formats but the table tell the kernel's start_address and the TEB, too.";

pub(super) const MAPS: &str = "Example:\n  vmc maps mem.elf --pid 85\n\n\
    Windows: the process' VADs, with the protection that each was made with, its pages committed and its file.";

pub(super) const MODULES: &str = "Examples:\n  vmc modules mem.elf\n  vmc modules mem.elf --pid 85\n  \
    vmc modules mem.elf --all-ways --format jsonl | jq 'select(.hidden_from != [])'\n\n\
    With --all-ways, HIDDEN FROM names the ways that should lead to a module and do not: module_list (what\n\
    lsmod goes by), kobjects (sysfs), address_tree, bug_list.\n\n\
    Windows: drivers; with --pid what the loader's lists have, 64 and 32 bits, and images that are mapped and on no\n\
    list. All formats but the table tell the timestamp, the PDB (pdb) and its id in symbol stores (pdb_id).\n\
    There is no --all-ways.";

pub(super) const BT: &str = "Examples:\n  vmc bt mem.elf\n  vmc bt mem.elf --pid 85\n  \
    vmc bt mem.elf --tid 113 --format json\n  \
    vmc bt mem.elf --kernel\n  vmc bt mem.elf --pid 0          the idle CPUs\n  \
    vmc bt win.dmp --tid 264 --symbols ./pdb\n\n\
    A frame's ip is the return address in its caller; names are looked up one byte before it.\n\
    Frames of the kernel are marked [k], with the kernel's module where it is one's.\n\n\
    Windows: names come from PDBs or ISFs of the images (--symbols, --download), else from what they export.\n\
    32-bit code is not walked; --lines and --scan do nothing.";

pub(super) const LSOF: &str = "Examples:\n  vmc lsof mem.elf\n  vmc lsof mem.elf --pid 85\n  \
    vmc lsof mem.elf --format jsonl | jq 'select(.path | endswith(\" (deleted)\"))'\n\n\
    FLAGS are open's, in octal, as /proc/PID/fdinfo shows them; the letter behind a descriptor says\n\
    what it is open for: r, w or u for both.\n\n\
    Windows: all open handles, with the type and name of what each stands for and its access mask.";

pub(super) const SOCKETS: &str = "Examples:\n  vmc sockets mem.elf\n  vmc sockets mem.elf --pid 85\n  \
    vmc sockets mem.elf --format jsonl | jq 'select(.state == \"LISTEN\")'\n\n\
    TCP, UDP and Unix sockets. NETNS is the namespace's number, as readlink /proc/PID/ns/net shows it.\n\
    Of Linux guests alone.";

pub(super) const CONTAINERS: &str = "Examples:\n  vmc containers mem.elf\n  \
    vmc containers mem.elf --format jsonl | jq '{id, hostname, root}'\n  \
    vmc ls mem.elf --pid PID /               a container's files, PID that of the table\n\n\
    A container is a set of processes with a control group that Docker, containerd, CRI-O, Podman, LXC or\n\
    systemd-nspawn names and namespaces of its own; or with a PID namespace of its own, which then is its id.\n\
    Of Linux guests alone.";

pub(super) const INTERFACES: &str = "Example:\n  vmc interfaces mem.elf\n\nOf Linux guests alone.";

pub(super) const ENV: &str = "Example:\n  vmc env mem.elf --pid 85\n\nOf Linux guests alone.";

pub(super) const CAT: &str = "Examples:\n  vmc cat mem.elf /etc/passwd\n  \
    vmc cat mem.elf --pid 85 /etc/hostname       in that process' root and mount namespace\n  \
    vmc cat mem.elf --pid 85 --fd 3 > found      what it has open, also deleted files and memfds\n  \
    vmc cat mem.elf --partial /usr/bin/ssh > ssh\n\n\
    A path is looked up as init sees it, or as the process of --pid does; a relative one from the directory\n\
    that the process stands in. Holes of a tmpfs read as zeros. Where bytes are not in memory (dropped from the\n\
    page cache, swapped out), nothing is written, stderr says which they are, and the exit status is 1.\n\
    Files of proc and sysfs have no contents in memory. On a terminal, control characters are escaped.\n\
    Of Linux guests alone.";

pub(super) const LS: &str = "Examples:\n  vmc ls mem.elf /etc\n  vmc ls mem.elf -R /tmp\n  \
    vmc ls mem.elf --pid 85 /                    in that process' root and mount namespace\n  \
    vmc ls mem.elf -R / --format jsonl | jq 'select(.cached_bytes > 0) | .path'\n\n\
    Of tmpfs and ramfs every entry is in the dentry cache; of other file systems those that were used lately,\n\
    and stderr says that there may be more. CACHED is how many bytes of a file the page cache has.\n\
    Of Linux guests alone.";

pub(super) const MOUNTS: &str = "Examples:\n  vmc mounts mem.elf\n  vmc mounts mem.elf --pid 85\n\n\
    Options that only a file system knows itself (size=, mode=) are not told. Of Linux guests alone.";

pub(super) const DMESG: &str = "Examples:\n  vmc dmesg mem.elf\n  \
    vmc dmesg mem.elf --format jsonl | jq 'select(.level <= 3)'\n\n\
    A level is a number: 0 emergency, 1 alert, 2 critical, 3 error, 4 warning, 5 notice, 6 info, 7 debug.\n\
    Of Linux guests alone.";

pub(super) const SYMBOLS: &str = "Examples:\n  vmc symbols mem.elf init_task\n  vmc symbols mem.elf 0xffffffff81000000\n  \
    vmc symbols win.dmp PsActiveProcessHead --symbols ./pdb";

pub(super) const TYPES: &str =
    "Examples:\n  vmc types mem.elf task_struct\n  vmc types win.dmp _EPROCESS --symbols ./symbols";

pub(super) const TRANSLATE: &str = "Examples:\n  vmc translate mem.elf 0xffffffff81000000\n  \
    vmc translate mem.elf --pid 85 0x7ffd19bd9740";

pub(super) const READ: &str = "Examples:\n  vmc read mem.elf 0xffffffff81000000 64\n  \
    vmc read mem.elf --pid 85 0x400000 4096 --raw > page\n  \
    vmc read mem.elf --physical 0x100000 64         needs no operating system that is known\n\n\
    What is not in memory is told exactly: not present, transition, prototype, pagefile N page M, swap, demand-zero …";

pub(super) const SEARCH: &str = "Examples:\n  vmc search mem.elf 'BEGIN RSA PRIVATE KEY' --context 40\n  \
    vmc search mem.elf --hex 'de ad ?? ef'\n  \
    vmc search mem.elf --regex '[a-z]+@example\\.org' --pid 85\n  \
    vmc search mem.elf --utf16 -i password --format jsonl\n\n\
    All memory is searched in the order of its physical addresses. A match in a page that several\n\
    processes map has a row for each; one that no process maps stands where the kernel has it, [k].\n\
    Pages that a process has not touched yet, or that were swapped out, are not its own.\n\n\
    Windows: physical addresses alone are told; there is no --pid. It needs no symbols.";

pub(super) const DUMP: &str = "Examples:\n  vmc dump qmp:/run/vm.qmp mem.elf\n  \
    vmc dump mem.lime mem.elf             another format of image, as an ELF core\n  \
    gdb vmlinux mem.elf                   with KASLR: add-symbol-file vmlinux -o OFFSET (vmc info tells it)\n  \
    crash vmlinux mem.elf\n  drgn -c mem.elf -s vmlinux\n\n\
    All memory, the registers of all vCPUs and what the kernel says of itself (VMCOREINFO, which crash and drgn\n\
    want). A live guest stands still until all of it is copied; with --no-stop it runs, and the core is not of\n\
    one moment. OUT has its name only when it is complete, is readable by its owner alone, and takes no room for\n\
    pages of zeros. What cannot be read is zeros, and stderr says how much that is.";

pub(super) const RECORD: &str = "Examples:\n  vmc record kvm:4711 --duration 10 -o flame.svg\n  \
    vmc record kvm:4711 --pid 85 --per thread -o flame.svg\n  \
    vmc record gdb:localhost:1234 --duration 30 -o cpu.pb.gz && go tool pprof -top cpu.pb.gz\n  \
    vmc record kvm:4711 --kernel --duration 5 > kernel.folded\n\n\
    The guest stands only while registers and stacks are read; for how long is said on stderr.\n\
    Ctrl-C ends it and keeps what there is. Idle CPUs are left out (--idle shows them).\n\
    Windows guests: where the vCPUs stand, as addresses; processes are not told apart yet.";

pub(super) const TOP: &str = "Examples:\n  vmc top kvm:4711\n  \
    vmc top kvm:4711 --threads --interval 1\n  \
    vmc top qmp:/run/vm.sock --batch -n 3        three plain rounds\n\n\
    Keys: q quits, t toggles threads. %CPU is the share of one CPU, as seen in samples of the last round.\n\
    Windows guests: where the vCPUs stand; processes are not told apart yet.";
