//! VADs as Windows 7 keeps them: the tree's links and page numbers stand in the VAD itself, below a node in the process.
//!
//! No image of it is here: the few structures are laid out by hand, with the places that the Vergilius Project publishes for x64
//! (`vergiliusproject.com/kernels/x64/windows-7/`): `_MMVAD_FLAGS`, `_MMPTE_SOFTWARE` and `_MMPTE_PROTOTYPE` of SP1 and `_MMVAD_SHORT`
//! of RTM were looked up there, bit by bit. The other offsets are as other public descriptions have them; no file of a Windows 7 kernel
//! was at hand to hold any of them against.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests and their helpers may panic")]

use vmc::layout::{LayoutError, Layouts, Member, StructLayout, StructMember, Types};
use vmc::symbols::{SymbolTable, SymbolTableBuilder};
use vmc::vcpu::NoVcpus;
use vmc::{Fault, FlatMemory, Limits, PhysAddr, VirtAddr, VirtualMemory};
use vmc_windows::{
    CodeView, Fits, GivenKernel, Hints, KernelIdentity, ProcessMemory, SymbolFiles, VadKind, Windows, vads,
};

struct Seven;

const MEMBERS: [(&str, &str, u64, u64); 18] = [
    ("_EPROCESS", "VadRoot.BalancedRoot.RightChild", 0x448 + 0x10, 8),
    ("_MMVAD_SHORT", "LeftChild", 0x8, 8),
    ("_MMVAD_SHORT", "RightChild", 0x10, 8),
    ("_MMVAD_SHORT", "StartingVpn", 0x18, 8),
    ("_MMVAD_SHORT", "EndingVpn", 0x20, 8),
    ("_MMVAD_SHORT", "u.VadFlags", 0x28, 8),
    ("_MMVAD", "Subsection", 0x48, 8),
    ("_MMVAD", "FirstPrototypePte", 0x50, 8),
    ("_MMVAD", "LastContiguousPte", 0x58, 8),
    ("_SUBSECTION", "ControlArea", 0, 8),
    ("_SUBSECTION", "SubsectionBase", 0x8, 8),
    ("_SUBSECTION", "NextSubsection", 0x10, 8),
    ("_SUBSECTION", "PtesInSubsection", 0x18, 4),
    ("_CONTROL_AREA", "FilePointer", 0x40, 8),
    ("_FILE_OBJECT", "FileName", 0x58, 16),
    ("_MMPTE_SOFTWARE", "PageFileHigh", 0, 8),
    ("_MMPTE_TRANSITION", "PageFrameNumber", 0, 8),
    ("_MMPTE_PROTOTYPE", "ProtoAddress", 0, 8),
];

/// Name, first bit, bits.
type Field = (&'static str, u64, u64);

const BITS: [(&str, &[Field]); 4] = [
    (
        "_MMVAD_FLAGS",
        &[
            ("CommitCharge", 0, 51),
            ("VadType", 52, 3),
            ("MemCommit", 55, 1),
            ("Protection", 56, 5),
            ("PrivateMemory", 63, 1),
        ],
    ),
    (
        "_MMPTE_SOFTWARE",
        &[
            ("PageFileLow", 1, 4),
            ("Protection", 5, 5),
            ("Prototype", 10, 1),
            ("Transition", 11, 1),
            ("PageFileHigh", 32, 32),
        ],
    ),
    ("_MMPTE_TRANSITION", &[("PageFrameNumber", 12, 36)]),
    ("_MMPTE_PROTOTYPE", &[("ProtoAddress", 16, 48)]),
];

impl Types for Seven {
    fn member(&self, structure: &str, path: &str) -> Result<Member, LayoutError> {
        let found = MEMBERS.iter().find(|(name, member, ..)| (*name, *member) == (structure, path));
        found
            .map(|&(.., offset, size)| Member { offset, size })
            .ok_or_else(|| LayoutError::NoMember { structure: structure.into(), member: path.into() })
    }

    fn size_of(&self, structure: &str) -> Result<u64, LayoutError> {
        if structure == "_MMVAD_SHORT" {
            Ok(0x40)
        } else {
            Err(LayoutError::NoType { name: structure.into() })
        }
    }
}

impl Layouts for Seven {
    fn layout(&self, name: &str, _: &Limits) -> Result<StructLayout, LayoutError> {
        let found = BITS.iter().find(|(structure, _)| *structure == name);
        let (_, bits) = found.ok_or_else(|| LayoutError::NoType { name: name.into() })?;
        let member = |&(name, bit_offset, bit_size): &Field| StructMember {
            name: name.into(),
            bit_offset,
            bit_size,
            type_name: "ULONGLONG".into(),
        };
        Ok(StructLayout { name: name.into(), size: 8, members: bits.iter().map(member).collect() })
    }
}

impl SymbolFiles for Seven {
    fn kernel(&mut self, _: &KernelIdentity, _: &Fits<'_>) -> Option<GivenKernel> {
        let mut symbols = SymbolTableBuilder::with_capacity(1);
        symbols.push(b"MmProtectToValue", 0x800, 0, 'd');
        Some(GivenKernel { source: "isf", types: Box::new(Self), symbols: symbols.build(), code_view: None })
    }

    fn image(&mut self, _: &CodeView) -> Option<std::sync::Arc<SymbolTable>> {
        None
    }
}

const KERNEL: u64 = 0xffff_f800_0000_0000;

/// A kernel page at 0x8000 and what it holds: an EPROCESS at 0, VADs at 0x100, 0x200, 0x300 of the page at 0x9000.
fn ram() -> Vec<u8> {
    let mut ram = vec![0u8; 0x12000];
    let mut put = |at: usize, value: u64| ram[at..at + 8].copy_from_slice(&value.to_le_bytes());
    // Kernel half: PML4 index 0x1f0, then 0, 0, and two pages.
    put(0x1000 + 8 * 0x1f0, 0x2003);
    put(0x2000, 0x3003);
    put(0x3000, 0x4003);
    put(0x4000, 0x8003);
    put(0x4008, 0x9003);
    put(0x4010, 0xc003);
    // User half: tables, all of whose entries are empty but two.
    put(0x1000, 0x5007);
    put(0x5000, 0x6007);
    put(0x6000, 0x7007);
    put(0x7000 + 8 * 0x11, 7 << 32 | 2 << 1 | 4 << 5);
    put(0x7000 + 8 * 0x12, 0xa000 | 1 << 11 | 4 << 5);
    put(0xa000, 0x1122_3344);
    // The prototype entry of the mapped range's first page: present.
    put(0x9800, 0xb001);
    put(0xb000, 0x5566_7788);
    let vads = KERNEL + 0x1000;
    put(0x8448 + 0x10, vads + 0x200);
    let mut vad = |at: usize, links: (u64, u64), pages: (u64, u64), flags: u64| {
        put(0x9000 + at + 0x8, links.0);
        put(0x9000 + at + 0x10, links.1);
        put(0x9000 + at + 0x18, pages.0);
        put(0x9000 + at + 0x20, pages.1);
        put(0x9000 + at + 0x28, flags);
    };
    vad(0x200, (vads + 0x100, vads + 0x300), (0x20, 0x2f), 4 << 56 | 1 << 63);
    vad(0x100, (0, 0), (0x10, 0x1f), 1 << 55 | 4 << 56 | 1 << 63 | 0x10);
    vad(0x300, (0, 0), (0x30, 0x3f), 1 << 56);
    put(0x9300 + 0x48, vads + 0x400);
    put(0x9300 + 0x50, vads + 0x800);
    put(0x9300 + 0x58, vads + 0x878);
    put(0x9400, vads + 0x500);
    put(0x9540, vads + 0x600 + 5);
    put(0x9658, 4 | 4 << 16);
    put(0x9660, vads + 0x700);
    put(0x9700, u64::from(b'\\') | u64::from(b'f') << 16);
    // KUSER_SHARED_DATA, of version 6.1.
    put(0x1000 + 8 * 0x1ef, 0xd003);
    put(0xd000, 0xe003);
    put(0xe000, 0xf003);
    put(0xf000, 0x10003);
    put(0x10268, 6 << 32);
    put(0x10270, 1);
    // As much of ntoskrnl as finding it takes: headers (machine, size) and an export directory with its name.
    put(0xc000, 0x5a4d);
    put(0xc038, 0x80 << 32);
    put(0xc080, u64::from(u32::from_le_bytes(*b"PE\0\0")) | 0x8664 << 32);
    put(0xc090, 0xf0 << 32);
    put(0xc098, 0x20b);
    put(0xc080 + 24 + 56, 0x80_0000);
    put(0xc080 + 24 + 104, 1 << 32);
    put(0xc080 + 24 + 112, 40 << 32 | 0x400);
    put(0xc408, 0x440 << 32);
    put(0xc440, u64::from_le_bytes(*b"ntoskrnl"));
    put(0xc448, u64::from(u32::from_le_bytes(*b".exe")));
    // MmProtectToValue.
    put(0xc800, 2 << 32 | 1);
    put(0xc810, 4);
    ram
}

#[test]
fn vads_of_windows_7_are_read_and_decide_over_pages() {
    let ram = ram();
    let memory = FlatMemory::new(PhysAddr::new(0), &ram);
    let hints = Hints {
        page_table_root: Some(PhysAddr::new(0x1000)),
        kernel_base: Some(VirtAddr::new(KERNEL + 0x2000)),
        ..Hints::default()
    };
    let windows = Windows::open(&memory, &NoVcpus, &hints, Limits::default(), Some(&mut Seven)).unwrap();
    let eprocess = VirtAddr::new(KERNEL);
    let rows: Vec<_> = vads(&windows, eprocess).unwrap().map(Result::unwrap).collect();
    let said = |index: usize| {
        let row = &rows[index];
        assert!(row.errors.messages.is_empty(), "{:?}", row.errors);
        (row.start.get(), row.end.get(), row.kind, row.commit, row.path.as_deref(), row.protection.as_deref())
    };
    assert_eq!(rows.len(), 3);
    assert_eq!(said(0), (0x10000, 0x20000, VadKind::Private, Some(16), None, Some("PAGE_READWRITE")));
    assert_eq!(said(1), (0x20000, 0x30000, VadKind::Private, Some(0), None, Some("PAGE_READWRITE")));
    assert_eq!(said(2), (0x30000, 0x40000, VadKind::Mapped, Some(0), Some("\\f"), Some("PAGE_READONLY")));

    let process = ProcessMemory::new(&windows, PhysAddr::new(0x1000), eprocess).unwrap();
    let at = |page: u64| process.read_u64(VirtAddr::new(page << 12)).map_err(|why| why.fault);
    assert_eq!(at(0x10), Ok(0));
    assert_eq!(at(0x11), Err(Fault::PageFile { number: 2, page: 7 }));
    assert_eq!(at(0x12), Ok(0x1122_3344));
    assert_eq!(at(0x20), Err(Fault::NotCommitted));
    assert_eq!(at(0x30), Ok(0x5566_7788));
    assert_eq!(at(0x31), Err(Fault::NotCommitted));
    assert_eq!(at(0x40), Err(Fault::NotMapped));
}
