//! Windows crash dumps of 64-bit machines: full ones, ones with a bitmap of pages, and triage dumps ("minidumps" of the kernel).
//!
//! All begin with a `DUMP_HEADER64` of 0x2000 bytes ([`header`]); its type says what follows: the pages of the physical memory runs
//! that it lists ([`runs`]), a bitmap of pages and those pages ([`bitmap`]), or ranges of virtual memory ([`triage`]).

pub(crate) mod bitmap;
pub(crate) mod context;
pub(crate) mod drivers;
pub(crate) mod facts;
pub(crate) mod header;
pub(crate) mod memory;
pub(crate) mod runs;
pub(crate) mod text;
pub(crate) mod triage;

use std::path::Path;

use vmc::{Architecture, Registers};

use crate::error::OpenError;
use crate::image::Format;
use crate::segments::{Segment, Segments};
use facts::CrashFacts;

/// What a dump of 64-bit Windows begins with.
pub(crate) const MAGIC: &[u8] = b"PAGEDU64";

/// What a crash dump says.
#[derive(Debug)]
pub(crate) struct Crash {
    pub(crate) format: Format,
    pub(crate) architecture: Architecture,
    pub(crate) facts: CrashFacts,
    pub(crate) vcpus: Vec<Registers>,
    /// Physical memory; none of a triage dump.
    pub(crate) segments: Vec<Segment>,
    /// A triage dump's ranges of virtual memory.
    pub(crate) ranges: Option<Segments>,
    pub(crate) warnings: Vec<String>,
}

/// Types that are recognised so that they can be named.
const OTHERS: &[(u32, &str)] = &[
    (2, "a Windows crash dump of the old kernel kind (type 2)"),
    (3, "a Windows crash dump that is a header alone (type 3)"),
    (7, "an automatic Windows crash dump (type 7)"),
    (8, "a Windows dump of kernel memory in ranges of pages (type 8, RDMP)"),
    (9, "a Windows dump of kernel and user memory in ranges of pages (type 9, RDMP)"),
    (10, "a Windows dump of complete memory in ranges of pages (type 10, RDMP)"),
];

const TAKE_ANOTHER: &str =
    "take a complete memory dump (types 1 and 5 are read), a raw image or an ELF core of the machine";

/// Reads the headers of the dump in `file`.
pub(crate) fn parse(path: &Path, file: &[u8]) -> Result<Crash, OpenError> {
    let bad = |reason| OpenError::BadCrash { path: path.to_path_buf(), reason };
    let unread = |found| OpenError::Unsupported { path: path.to_path_buf(), found, advice: TAKE_ANOTHER };
    let header = header::Header::new(file).ok_or_else(|| {
        bad(format!("its header of {:#x} bytes is cut off: the file has {}", header::SIZE, file.len()))
    })?;
    let mut facts = header.facts();
    let architecture = match facts.machine {
        header::X64 => Architecture::X86_64,
        header::ARM64 => Architecture::Aarch64,
        _ => return Err(unread("a Windows crash dump of another processor than x64 and ARM64")),
    };
    let mut warnings = Vec::new();
    let (mut segments, mut ranges) = (Vec::new(), None);
    let format = match facts.dump_type {
        1 => {
            segments = runs::full(&header, &mut warnings).map_err(bad)?;
            Format::CrashFull
        }
        5 | 6 => {
            segments = bitmap::pages(&header, &mut warnings).map_err(bad)?;
            Format::CrashBitmap
        }
        4 => {
            let triage = triage::parse(&header, &facts, &mut warnings).map_err(bad)?;
            ranges = Some(triage.ranges);
            facts.triage = Some(triage.facts);
            Format::CrashTriage
        }
        kind => {
            return Err(match OTHERS.iter().find(|(known, _)| *known == kind) {
                Some((_, found)) => unread(found),
                None => bad(format!("its type {kind:#x} is none of those that are known (1 to 10)")),
            });
        }
    };
    let registers = context::registers(architecture, header.context(), facts.directory_table_base);
    if registers.is_none() {
        warnings.push("the header's CONTEXT is not filled in: no registers".to_owned());
    }
    let vcpus = registers.into_iter().collect();
    Ok(Crash { format, architecture, facts, vcpus, segments, ranges, warnings })
}
