//! The header that every crash dump of 64-bit Windows begins with.
//!
//! Source: `DUMP_HEADER64` of Microsoft's public metadata of the Windows SDK (`Windows.Win32.System.Diagnostics.Debug`), and for its
//! padding kdmp-parser's description. It is 0x2000 bytes; what Windows does not fill in holds the letters `PAGE` over and over.
//!
//! | at | what |
//! |---|---|
//! | 0x8, 0xc | MajorVersion (0xf: a free build), MinorVersion (the build) |
//! | 0x10, 0x20, 0x28 | DirectoryTableBase, PsLoadedModuleList, PsActiveProcessHead |
//! | 0x30, 0x34 | MachineImageType, NumberProcessors |
//! | 0x38, 0x40 | BugCheckCode, its four parameters |
//! | 0x80 | KdDebuggerDataBlock |
//! | 0x88 | PhysicalMemoryBlock, 700 bytes: NumberOfRuns, NumberOfPages, then runs of BasePage and PageCount |
//! | 0x348 | ContextRecord, 3000 bytes |
//! | 0xf00 | Exception: an `EXCEPTION_RECORD64` |
//! | 0xf98, 0xfa8, 0xfb0 | DumpType, SystemTime (FILETIME), Comment (128 bytes) |
//! | 0x1030, 0x1038, 0x1040 | SystemUpTime (100 ns), MiniDumpFields, ProductType |

use vmc::bytes::{u32_at, u64_at};
use vmc::{PhysAddr, VirtAddr};

use super::facts::{BugCheck, CrashFacts, ExceptionRecord};
use super::text;

/// Its size.
pub(crate) const SIZE: usize = 0x2000;
/// `MachineImageType` of the processors that are known.
pub(crate) const X64: u32 = 0x8664;
pub(crate) const ARM64: u32 = 0xaa64;

const RUNS: usize = 0x98;
/// What the block of 700 bytes has room for.
const MOST_RUNS: u32 = (700 - 0x10) / 16;
/// No machine has physical addresses of more than 52 bits.
pub(crate) const MOST_PAGES: u64 = 1 << (52 - 12);

/// What Windows fills in where it has nothing to say.
const NOTHING: u64 = u64::from_le_bytes(*b"PAGEPAGE");

/// FILETIME counts from 1601 in steps of 100 ns.
const FROM_1601_TO_1970: i128 = 11_644_473_600 * 1_000_000_000;

/// A run of physical pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) first: u64,
    pub(crate) count: u64,
}

/// The header, and the file that it begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header<'f> {
    pub(crate) file: &'f [u8],
}

impl<'f> Header<'f> {
    /// The header of `file`, if all of it is there.
    pub(crate) fn new(file: &'f [u8]) -> Option<Self> {
        (file.len() >= SIZE).then_some(Self { file })
    }

    /// The word at `at`, if it was filled in.
    pub(crate) fn word(&self, at: usize) -> Option<u64> {
        u64_at(self.file, at).filter(|word| *word != NOTHING)
    }

    /// The half word at `at`, if it was filled in.
    pub(crate) fn half(&self, at: usize) -> Option<u32> {
        u32_at(self.file, at).filter(|half| *half != NOTHING as u32)
    }

    /// The `CONTEXT`.
    pub(crate) fn context(&self) -> &'f [u8] {
        self.file.get(0x348..0x348 + 3000).unwrap_or_default()
    }

    /// What the parts of the dump that there are of a triage dump: `TRIAGE_DUMP_…` bits.
    pub(crate) fn mini_dump_fields(&self) -> Option<u32> {
        self.half(0x1038)
    }

    /// The runs of physical memory, and how many pages they are said to have; nothing where they were not filled in.
    ///
    /// An error is what contradicts itself.
    pub(crate) fn runs(&self) -> Result<Option<(Vec<Run>, u64)>, String> {
        let (Some(count), Some(pages)) = (self.half(0x88), self.word(0x90)) else { return Ok(None) };
        if count == 0 && pages == 0 {
            return Ok(None);
        }
        if count == 0 || count > MOST_RUNS {
            return Err(format!(
                "its header counts {count} runs of physical memory and has room for {MOST_RUNS}"
            ));
        }
        let mut runs: Vec<Run> = Vec::new();
        for at in (RUNS..).step_by(16).take(count as usize) {
            let (first, count) = (u64_at(self.file, at), u64_at(self.file, at + 8));
            let (first, count) = (first.unwrap_or_default(), count.unwrap_or_default());
            if first.checked_add(count).is_none_or(|end| end > MOST_PAGES) {
                return Err(format!(
                    "a run of {count:#x} pages from page {first:#x} is none that a machine has"
                ));
            }
            let meets = |run: &&Run| run.first < first + count && first < run.first + run.count;
            if let Some(other) = runs.iter().find(meets) {
                let other = other.first;
                return Err(format!(
                    "its runs of physical memory from pages {other:#x} and {first:#x} overlap"
                ));
            }
            runs.push(Run { first, count });
        }
        Ok(Some((runs, pages)))
    }

    /// What it says of the machine and the crash.
    pub(crate) fn facts(&self) -> CrashFacts {
        let pointer = |at| self.word(at).filter(|word| *word != 0).map(VirtAddr::new);
        let parameters = [0x40, 0x48, 0x50, 0x58].map(|at| self.word(at).unwrap_or_default());
        CrashFacts {
            dump_type: self.half(0xf98).unwrap_or_default(),
            machine: self.half(0x30).unwrap_or_default(),
            processors: self.half(0x34),
            major_version: self.half(0x8),
            build: self.half(0xc),
            directory_table_base: self.word(0x10).unwrap_or_default(),
            loaded_module_list: pointer(0x20),
            active_process_head: pointer(0x28),
            debugger_data: pointer(0x80),
            bug_check: self.half(0x38).map(|code| BugCheck { code, parameters }),
            exception: self.exception(),
            system_time: self.word(0xfa8).filter(|time| *time != 0).map(unix_nanoseconds),
            up_time: self.word(0x1030).map(|time| std::time::Duration::from_nanos(time.saturating_mul(100))),
            product_type: self.half(0x1040),
            comment: text::comment(self.file.get(0xfb0..0x1030).unwrap_or_default()),
            triage: None,
        }
    }

    fn exception(&self) -> Option<ExceptionRecord> {
        let code = self.half(0xf00).filter(|code| *code != 0)?;
        let count = self.half(0xf18).unwrap_or_default().min(15) as usize;
        Some(ExceptionRecord {
            code,
            flags: self.half(0xf04).unwrap_or_default(),
            address: VirtAddr::new(self.word(0xf10).unwrap_or_default()),
            parameters: (0xf20..).step_by(8).take(count).filter_map(|at| u64_at(self.file, at)).collect(),
        })
    }
}

/// A FILETIME as nanoseconds since 1970.
fn unix_nanoseconds(time: u64) -> i128 {
    i128::from(time) * 100 - FROM_1601_TO_1970
}

/// Where page `page` begins.
pub(crate) const fn page_start(page: u64) -> PhysAddr {
    PhysAddr::new(page << 12)
}
