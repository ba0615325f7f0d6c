//! [`CrashFacts`]: what a Windows crash dump says of the machine and of the crash.

use std::ops::Range;
use std::time::Duration;

use vmc::{PhysAddr, VirtAddr};

/// What the header of a Windows crash dump says. What it leaves open is `None`.
///
/// All of it is the dump's word, and none of it is verified: pointers may lead nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CrashFacts {
    /// `DumpType`: 1 full, 4 triage, 5 bitmap, 6 bitmap of kernel memory.
    pub dump_type: u32,
    /// `MachineImageType`: 0x8664 x64, 0xaa64 ARM64.
    pub machine: u32,
    /// `NumberProcessors`.
    pub processors: Option<u32>,
    /// `MajorVersion`: 0xf of a free build, 0xc of a checked one.
    pub major_version: Option<u32>,
    /// `MinorVersion`: the build, 19041 for example.
    pub build: Option<u32>,
    /// `DirectoryTableBase` as it stands there: on x64 CR3 with its PCID bits. 0 where it was not filled in.
    pub directory_table_base: u64,
    /// `PsLoadedModuleList`: the address of that variable.
    pub loaded_module_list: Option<VirtAddr>,
    /// `PsActiveProcessHead`: the address of that variable.
    pub active_process_head: Option<VirtAddr>,
    /// `KdDebuggerDataBlock`: the address of that variable.
    pub debugger_data: Option<VirtAddr>,
    /// Why Windows stopped.
    pub bug_check: Option<BugCheck>,
    /// The exception, where the header has one.
    pub exception: Option<ExceptionRecord>,
    /// `SystemTime`, in nanoseconds since 1970 (UTC).
    pub system_time: Option<i128>,
    /// `SystemUpTime`: how long Windows had run.
    pub up_time: Option<Duration>,
    /// `ProductType`: 1 workstation, 2 domain controller, 3 server.
    pub product_type: Option<u32>,
    /// `Comment`: what who made the dump noted, its unprintable characters escaped.
    pub comment: Option<String>,
    /// What a triage dump has beyond that.
    pub triage: Option<TriageFacts>,
}

impl CrashFacts {
    /// The page table root, without PCID or ASID.
    #[must_use]
    pub fn page_table_root(&self) -> Option<PhysAddr> {
        let root = self.directory_table_base & 0x000f_ffff_ffff_f000;
        let root = if self.machine == super::header::ARM64 { root & 0x0000_ffff_ffff_f000 } else { root };
        (root != 0).then_some(PhysAddr::new(root))
    }
}

/// `BugCheckCode` and its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BugCheck {
    /// The code: 0x1000007e for example; 0x161 is that of a dump of a live machine.
    pub code: u32,
    /// What they mean goes by the code.
    pub parameters: [u64; 4],
}

/// An `EXCEPTION_RECORD64`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExceptionRecord {
    /// `ExceptionCode`: an NTSTATUS.
    pub code: u32,
    /// `ExceptionFlags`.
    pub flags: u32,
    /// `ExceptionAddress`: the instruction.
    pub address: VirtAddr,
    /// `ExceptionInformation`, at most 15.
    pub parameters: Vec<u64>,
}

/// What a triage dump has in its own header and lists.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TriageFacts {
    /// `ServicePackBuild`.
    pub service_pack_build: u32,
    /// `TopOfStack`: where the saved stack begins, at its lowest address. It is part of the image's
    /// [virtual memory](crate::Image::virtual_memory).
    pub top_of_stack: Option<VirtAddr>,
    /// `SizeOfCallStack`: the saved stack's bytes.
    pub stack_bytes: u64,
    /// Where the saved `EPROCESS` lay, if something tells; it is part of the virtual memory then.
    pub process: Option<VirtAddr>,
    /// Where the saved `ETHREAD` lay, likewise.
    pub thread: Option<VirtAddr>,
    /// The loaded drivers, the kernel first, in their order.
    pub drivers: Vec<CrashDriver>,
    /// The drivers that were unloaded last.
    pub unloaded_drivers: Vec<UnloadedDriver>,
    /// `BrokenDriverOffset`: the driver that is to blame, where the dump says it.
    pub broken_driver: Option<String>,
    /// How many blocks of virtual memory it lists, the saved stack and the debugger's data not among them.
    pub data_blocks: usize,
    /// How many bytes they have together.
    pub data_block_bytes: u64,
    /// Where in the file its parts lie.
    pub(crate) parts: Vec<(TriagePart, Range<usize>)>,
}

/// A part of a triage dump, as [`Image::triage_part`](crate::Image::triage_part) lends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TriagePart {
    /// The `KPRCB` of the processor that crashed.
    Prcb,
    /// The `EPROCESS` of its process.
    Process,
    /// The `ETHREAD` of its thread.
    Thread,
    /// The saved stack.
    CallStack,
    /// `KDDEBUGGER_DATA64`, decoded.
    DebuggerData,
}

/// A loaded driver of a triage dump: a `DUMP_DRIVER_ENTRY64`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrashDriver {
    /// Its name as the dump has it, mostly a path. What is no UTF-16 is replaced.
    pub name: String,
    /// `DllBase`.
    pub base: VirtAddr,
    /// `SizeOfImage`, in bytes.
    pub size: u32,
    /// `CheckSum` of its PE header.
    pub checksum: u32,
    /// `TimeDateStamp` of its PE header.
    pub timestamp: u32,
}

/// A driver that was unloaded: a `DUMP_UNLOADED_DRIVERS64`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnloadedDriver {
    /// Its name, of at most 12 characters.
    pub name: String,
    /// Where it began.
    pub start: VirtAddr,
    /// The first address behind it.
    pub end: VirtAddr,
}
