//! Where processes and threads keep what is read of them: asked of the types once.

use vmc::layout::{Field, LayoutError, Member, Types};
use vmc::{Limits, VirtAddr};

use crate::bits::Bits;
use crate::error::WindowsError;
use crate::handle::ObjectFields;
use crate::types::KernelTypes;
use crate::windows::Windows;

/// Members of `_EPROCESS` and `_KPROCESS`. What a kernel may lack is optional.
#[derive(Debug)]
pub(crate) struct ProcessFields {
    pub pid: Field<u64>,
    pub links: u64,
    /// Its place and its size: 15 bytes, 16 in old kernels.
    pub name: Member,
    pub page_table: Field<u64>,
    pub user_page_table: Option<Field<u64>>,
    /// `DISPATCHER_HEADER.Type`: 3 is a process, 6 a thread (`KOBJECTS`).
    pub kind: Option<Field<u8>>,
    pub parent: Option<Field<u64>>,
    pub create_time: Option<Field<u64>>,
    pub exit_time: Option<Field<u64>>,
    pub peb: Option<Field<u64>>,
    pub wow64: Option<Field<u64>>,
    pub wow64_peb: Wow64,
    /// The number itself, where the process keeps it.
    pub session_id: Option<Field<u32>>,
    pub session: Option<Field<u64>>,
    /// The number in what `session` points at.
    pub session_number: Field<u32>,
    pub active_threads: Option<Field<u32>>,
    pub thread_head: Option<u64>,
    pub audit_name: Option<Field<u64>>,
    pub object_name: u64,
    pub image_file: Option<Field<u64>>,
    pub object_table: Option<Field<u64>>,
}

/// What the process' `Wow64Process` points at.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wow64 {
    /// The 32-bit PEB itself.
    Peb,
    /// A structure that has the PEB's address.
    Inside(Field<u64>),
}

fn optional<T: bytemuck::Pod>(types: &KernelTypes, structure: &str, paths: &[&str]) -> Option<Field<T>> {
    Field::first(types, structure, paths).ok()
}

impl ProcessFields {
    pub(crate) fn new(types: &KernelTypes) -> Result<Self, LayoutError> {
        const E: &str = "_EPROCESS";
        let inside = optional(types, "_EWOW64PROCESS", &["Peb"])
            .or_else(|| optional(types, "_WOW64_PROCESS", &["Wow64"]))
            .map_or(Wow64::Peb, Wow64::Inside);
        // Opaque in newer kernels' types; the number kept its place.
        let session_number = optional(types, "_MM_SESSION_SPACE", &["SessionId"])
            .or_else(|| optional(types, "_PSP_SESSION_SPACE", &["SessionId"]))
            .unwrap_or(Field::at(8));
        Ok(Self {
            pid: Field::new(types, E, "UniqueProcessId")?,
            links: types.member(E, "ActiveProcessLinks")?.offset,
            name: types.member(E, "ImageFileName")?,
            page_table: Field::new(types, "_KPROCESS", "DirectoryTableBase")?,
            user_page_table: optional(types, "_KPROCESS", &["UserDirectoryTableBase"]),
            kind: optional(types, "_KPROCESS", &["Header.Type"]),
            parent: optional(types, E, &["InheritedFromUniqueProcessId"]),
            create_time: optional(types, E, &["CreateTime"]),
            exit_time: optional(types, E, &["ExitTime"]),
            peb: optional(types, E, &["Peb"]),
            wow64: optional(types, E, &["WoW64Process", "Wow64Process"]),
            wow64_peb: inside,
            session_id: optional(types, E, &["SessionId"]),
            session: optional(types, E, &["Session"]),
            session_number,
            active_threads: optional(types, E, &["ActiveThreads"]),
            thread_head: types.member(E, "ThreadListHead").ok().map(|member| member.offset),
            audit_name: optional(types, E, &["SeAuditProcessCreationInfo.ImageFileName"]),
            object_name: types.member("_OBJECT_NAME_INFORMATION", "Name").map_or(0, |member| member.offset),
            image_file: optional(types, E, &["ImageFilePointer"]),
            object_table: optional(types, E, &["ObjectTable"]),
        })
    }
}

/// Members of `_ETHREAD` and `_KTHREAD`.
#[derive(Debug)]
pub(crate) struct ThreadFields {
    pub tid: Field<u64>,
    pub links: u64,
    pub process: Option<Field<u64>>,
    pub state: Option<Field<u8>>,
    pub wait_reason: Option<Field<u8>>,
    pub processor: Option<Field<u32>>,
    pub start: Option<Field<u64>>,
    pub win32_start: Option<Field<u64>>,
    pub teb: Option<Field<u64>>,
}

impl ThreadFields {
    pub(crate) fn new(types: &KernelTypes) -> Result<Self, LayoutError> {
        const E: &str = "_ETHREAD";
        const K: &str = "_KTHREAD";
        Ok(Self {
            tid: Field::new(types, E, "Cid.UniqueThread")?,
            links: types.member(E, "ThreadListEntry")?.offset,
            process: optional(types, K, &["Process", "ApcState.Process"]),
            state: optional(types, K, &["State"]),
            wait_reason: optional(types, K, &["WaitReason"]),
            processor: optional(types, K, &["NextProcessor"]),
            start: optional(types, E, &["StartAddress"]),
            win32_start: optional(types, E, &["Win32StartAddress"]),
            teb: optional(types, K, &["Teb"]),
        })
    }
}

/// Processors: `KiProcessorBlock` and what their control blocks (`_KPRCB`) tell.
#[derive(Debug)]
pub(crate) struct ProcessorFields {
    pub blocks: VirtAddr,
    pub count: Option<VirtAddr>,
    pub current: Field<u64>,
    pub idle: Field<u64>,
}

/// Handle tables: `_HANDLE_TABLE` and its entries.
#[derive(Debug)]
pub(crate) struct TableFields {
    pub code: Field<u64>,
    pub limit: Option<Field<u32>>,
    pub entry_size: u64,
    /// Where an entry has the object's address, without its low bits.
    pub object: Bits,
    /// How many low bits those are.
    pub object_shift: u32,
    pub access: Option<Bits>,
}

impl TableFields {
    fn new(types: &KernelTypes, limits: &Limits) -> Result<Self, LayoutError> {
        const ENTRY: &str = "_HANDLE_TABLE_ENTRY";
        let entry = types.layout(ENTRY, limits)?;
        let bits = |name: &str| Bits::of(&entry, name);
        // Since 8 the upper bits of a 48-bit address, before that a pointer whose low three bits are flags.
        let (object, object_shift) = match bits("ObjectPointerBits") {
            Some(packed) => (packed, 48u32.saturating_sub(packed.width)),
            None => match bits("Object") {
                Some(whole) => (whole, 0),
                None => {
                    return Err(LayoutError::NoMember {
                        structure: ENTRY.into(),
                        member: "ObjectPointerBits or Object".into(),
                    });
                }
            },
        };
        Ok(Self {
            code: Field::new(types, "_HANDLE_TABLE", "TableCode")?,
            limit: optional(types, "_HANDLE_TABLE", &["NextHandleNeedingPool"]),
            entry_size: entry.size,
            object,
            object_shift,
            access: bits("GrantedAccessBits").or_else(|| bits("GrantedAccess")),
        })
    }
}

/// All of them, for one kernel.
#[derive(Debug)]
pub(crate) struct Fields {
    pub process: Result<ProcessFields, LayoutError>,
    pub thread: Result<ThreadFields, LayoutError>,
    pub table: Result<TableFields, LayoutError>,
    pub object: Result<ObjectFields, WindowsError>,
    pub processors: Option<ProcessorFields>,
    pub process_head: Result<VirtAddr, WindowsError>,
    pub id_table: Result<VirtAddr, WindowsError>,
}

impl Fields {
    pub(crate) fn new(windows: &Windows<'_>) -> Self {
        let types = windows.types();
        let processors = windows.symbol("KiProcessorBlock").ok().and_then(|blocks| {
            Some(ProcessorFields {
                blocks,
                count: windows.symbol("KeNumberProcessors").ok(),
                current: optional(types, "_KPRCB", &["CurrentThread"])?,
                idle: optional(types, "_KPRCB", &["IdleThread"])?,
            })
        });
        Self {
            process: ProcessFields::new(types),
            thread: ThreadFields::new(types),
            table: TableFields::new(types, windows.limits()),
            object: ObjectFields::new(windows),
            processors,
            process_head: windows.symbol("PsActiveProcessHead"),
            id_table: windows.symbol("PspCidTable"),
        }
    }
}
