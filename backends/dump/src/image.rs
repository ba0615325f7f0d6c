//! [`Image`]: a memory image, opened.

use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use vmc::{
    Architecture, PhysAddr, PhysError, PhysMemory, Region, Registers, VcpuError, Vcpus, VirtualMemory,
};

use crate::crash;
use crate::crash::facts::{CrashFacts, TriagePart};
use crate::crash::memory::CrashMemory;
use crate::detect::{Content, detect};
use crate::elf_core;
use crate::error::OpenError;
use crate::lime;
use crate::map::map;
use crate::segments::{Segment, Segments};
use crate::unpack::unpack;

/// What kind of image a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// A flat file: an offset is a physical address, less where RAM begins.
    Raw,
    /// An ELF core of a whole machine.
    ElfCore,
    /// Ranges behind headers, as LiME writes them.
    Lime,
    /// The same, compressed as AVML does it.
    Avml,
    /// A full crash dump of Windows: the pages of all runs of physical memory.
    CrashFull,
    /// A crash dump of Windows with a bitmap that says which pages it has.
    CrashBitmap,
    /// A triage dump of Windows: no physical memory, ranges of the kernel's virtual memory.
    CrashTriage,
}

impl Format {
    /// The name that is printed.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::ElfCore => "elf-core",
            Self::Lime => "lime",
            Self::Avml => "avml",
            Self::CrashFull => "crash-full",
            Self::CrashBitmap => "crash-bitmap",
            Self::CrashTriage => "crash-triage",
        }
    }
}

/// How to open an image.
#[derive(Default)]
pub struct OpenOptions<'p> {
    /// Where unpacked images are kept; without it they are unpacked into an unnamed file that goes with the process.
    pub cache_dir: Option<PathBuf>,
    /// An image that unpacks to more than this many bytes, zeros among them, is refused. Without it the bound goes with the
    /// file's size: 16 384 bytes for each of its own, at least 4 GiB and at most 32 TiB.
    pub unpacked_limit: Option<u64>,
    /// Where the memory in a raw image begins: 0x4000_0000 for that of QEMU's `virt` machine for Arm. Without it, at 0.
    pub ram_base: Option<PhysAddr>,
    /// Called while an image is unpacked: bytes read of the file, and its size.
    pub progress: Option<&'p mut dyn FnMut(u64, u64)>,
}

impl std::fmt::Debug for OpenOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenOptions")
            .field("cache_dir", &self.cache_dir)
            .field("unpacked_limit", &self.unpacked_limit)
            .field("ram_base", &self.ram_base)
            .finish_non_exhaustive()
    }
}

/// A memory image.
#[derive(Debug)]
pub struct Image {
    map: Mmap,
    segments: Segments,
    vcpus: Vec<Registers>,
    format: Format,
    ram_base: PhysAddr,
    architecture: Option<Architecture>,
    crash: Option<Box<CrashFacts>>,
    virtual_memory: Option<CrashMemory>,
    warnings: Vec<String>,
    compressed: bool,
}

/// Firmware lies directly below 4 GiB and is at most this large; it is no RAM.
const FIRMWARE: u64 = 16 << 20;

impl Image {
    /// Opens the image at `path`; a compressed one is unpacked into an unnamed temporary file.
    ///
    /// # Errors
    /// [`OpenError`]: it cannot be opened, or is no image.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        Self::open_with(path, &mut OpenOptions::default())
    }

    /// Opens the image at `path`.
    ///
    /// # Errors
    /// [`OpenError`]: it cannot be opened, or is no image.
    pub fn open_with(path: impl AsRef<Path>, options: &mut OpenOptions<'_>) -> Result<Self, OpenError> {
        let path = path.as_ref();
        let io = |source| OpenError::Io { path: path.to_path_buf(), source };
        let kind = std::fs::metadata(path).map_err(io)?.file_type();
        if !kind.is_file() {
            let found = if kind.is_dir() { "a directory" } else { "no regular file" };
            return Err(OpenError::NotAFile { path: path.to_path_buf(), found });
        }
        let file = File::open(path).map_err(io)?;
        let bytes = map(&file).map_err(io)?;
        match detect(path, &bytes)? {
            Content::Packed(packing) => {
                let unpacked = unpack(path, &file, &bytes, packing, options)?;
                let bytes = map(&unpacked.file).map_err(io)?;
                let opened = Self::from_packed(path, &unpacked.file, bytes, options);
                let Some((done, reason)) = unpacked.cut else { return opened };
                // What could be unpacked may be too little to tell what it is: the cause is told then.
                let Ok(mut image) = opened else {
                    return Err(OpenError::Unpack { path: path.to_path_buf(), done, reason });
                };
                image.warnings.insert(
                    0,
                    format!("the image is cut short: it cannot be unpacked behind {done} bytes: {reason}"),
                );
                Ok(image)
            }
            content => Self::from_map(path, &file, bytes, content, options),
        }
    }

    /// The image in an unpacked file.
    fn from_packed(
        path: &Path,
        file: &File,
        map: Mmap,
        options: &OpenOptions<'_>,
    ) -> Result<Self, OpenError> {
        let content = detect(path, &map)?;
        if let Content::Packed(_) = content {
            return Err(OpenError::Unsupported {
                path: path.to_path_buf(),
                found: "compressed twice",
                advice: "unpack it first",
            });
        }
        Ok(Self { compressed: true, ..Self::from_map(path, file, map, content, options)? })
    }

    fn from_map(
        path: &Path,
        file: &File,
        bytes: Mmap,
        content: Content,
        options: &OpenOptions<'_>,
    ) -> Result<Self, OpenError> {
        let len = bytes.len() as u64;
        let mut image = Self {
            segments: Segments::new(Vec::new(), len),
            vcpus: Vec::new(),
            format: Format::Raw,
            ram_base: PhysAddr::new(0),
            architecture: None,
            crash: None,
            virtual_memory: None,
            warnings: Vec::new(),
            compressed: false,
            map: bytes,
        };
        match content {
            Content::Elf => {
                let core = elf_core::parse(path, &image.map)?;
                image.segments = Segments::new(core.segments, len);
                image.vcpus = core.vcpus;
                image.format = Format::ElfCore;
                image.architecture = Some(core.architecture);
                image.warnings = core.warnings;
            }
            Content::Lime => {
                let ranges = lime::parse(&image.map);
                let ranges = ranges.ok_or_else(|| OpenError::BadRange { path: path.to_path_buf() })?;
                image.segments = Segments::new(ranges.segments, len);
                image.format = if ranges.from_avml { Format::Avml } else { Format::Lime };
                image.warnings = ranges.warnings;
            }
            Content::Crash => {
                let crash = crash::parse(path, &image.map)?;
                image.segments = Segments::new(crash.segments, len);
                image.vcpus = crash.vcpus;
                image.format = crash.format;
                image.architecture = Some(crash.architecture);
                image.crash = Some(Box::new(crash.facts));
                image.warnings = crash.warnings;
                if let Some(ranges) = crash.ranges {
                    let io = |source| OpenError::Io { path: path.to_path_buf(), source };
                    image.virtual_memory = Some(CrashMemory::new(map(file).map_err(io)?, ranges));
                }
            }
            Content::Flat | Content::Packed(_) => {
                image.ram_base = options.ram_base.unwrap_or_default();
                image.segments = Segments::new(vec![Segment::whole(image.ram_base, len, 0)], len);
            }
        }
        if options.ram_base.is_some() && image.format != Format::Raw {
            let format = image.format.name();
            return Err(OpenError::BaseNotRaw { path: path.to_path_buf(), format });
        }
        Ok(image)
    }

    /// The format.
    #[must_use]
    pub const fn format(&self) -> Format {
        self.format
    }

    /// Where the memory in a raw image begins.
    #[must_use]
    pub const fn ram_base(&self) -> PhysAddr {
        self.ram_base
    }

    /// Says where the memory in a raw image begins, for who finds that out later. Other formats say it themselves: they
    /// stay as they are.
    pub fn place_at(&mut self, base: PhysAddr) {
        if self.format == Format::Raw {
            let len = self.map.len() as u64;
            self.ram_base = base;
            self.segments = Segments::new(vec![Segment::whole(base, len, 0)], len);
        }
    }

    /// Was it compressed?
    #[must_use]
    pub const fn compressed(&self) -> bool {
        self.compressed
    }

    /// The architecture, where the image says it.
    #[must_use]
    pub const fn architecture(&self) -> Option<Architecture> {
        self.architecture
    }

    /// What is wrong with the image although it could be opened, a line each.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// What a Windows crash dump says of the machine and the crash.
    #[must_use]
    pub fn crash(&self) -> Option<&CrashFacts> {
        self.crash.as_deref()
    }

    /// The virtual memory of a triage dump: the ranges that it has. Other images have physical memory in its place.
    ///
    /// A read that meets a byte that is in none of them fails with a [`Fault::Lookup`](vmc::Fault::Lookup) that says so.
    #[must_use]
    pub fn virtual_memory(&self) -> Option<&dyn VirtualMemory> {
        self.virtual_memory.as_ref().map(|memory| memory as &dyn VirtualMemory)
    }

    /// The bytes of a part of a triage dump. It says no sizes of the kernel's structures: they end with padding to the next part.
    #[must_use]
    pub fn triage_part(&self, part: TriagePart) -> Option<&[u8]> {
        let triage = self.crash.as_ref()?.triage.as_ref()?;
        let (_, range) = triage.parts.iter().find(|(kind, _)| *kind == part)?;
        self.map.get(range.clone())
    }

    /// The notes of an ELF core, as they are: names without their NUL, types, descriptions. Other formats have none.
    #[must_use]
    pub fn notes(&self) -> Vec<(&[u8], u32, &[u8])> {
        if self.format == Format::ElfCore { elf_core::all_notes(&self.map) } else { Vec::new() }
    }

    /// The size of RAM in bytes, as the image says it: all memory but the firmware below 4 GiB.
    #[must_use]
    pub fn ram_bytes(&self) -> u64 {
        let four_gib = 1u64 << 32;
        let stated = self.segments.stated();
        let ram = stated
            .iter()
            .filter(|region| !(region.end().get() == four_gib && region.len <= FIRMWARE && stated.len() > 1));
        ram.fold(0, |sum, region| sum.saturating_add(region.len))
    }
}

impl PhysMemory for Image {
    fn regions(&self) -> &[Region] {
        self.segments.regions()
    }

    fn read(&self, addr: PhysAddr, buf: &mut [u8]) -> Result<(), PhysError> {
        self.segments.read(&self.map, addr, buf)
    }

    fn slice(&self, addr: PhysAddr, len: usize) -> Option<&[u8]> {
        self.segments.slice(&self.map, addr, len).ok()
    }

    fn read_u64(&self, addr: PhysAddr) -> Result<u64, PhysError> {
        if let Ok(&[a, b, c, d, e, f, g, h]) = self.segments.slice(&self.map, addr, 8) {
            return Ok(u64::from_le_bytes([a, b, c, d, e, f, g, h]));
        }
        // In two segments, or not there.
        let mut buf = [0; 8];
        self.read(addr, &mut buf)?;
        Ok(u64::from_le_bytes(buf))
    }
}

impl Vcpus for Image {
    fn count(&self) -> usize {
        self.vcpus.len()
    }

    fn registers(&self, index: usize) -> Result<Registers, VcpuError> {
        self.vcpus.get(index).cloned().ok_or(VcpuError::NoSuchVcpu { index, count: self.vcpus.len() })
    }
}
