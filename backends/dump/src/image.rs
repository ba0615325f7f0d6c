//! [`Image`]: a memory image, opened.

use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use vmc::{Architecture, PhysAddr, PhysError, PhysMemory, Region, Registers, VcpuError, Vcpus};

use crate::detect::{Content, detect};
use crate::elf_core;
use crate::error::OpenError;
use crate::map::map;
use crate::segments::{Segment, Segments};
use crate::unpack::unpack;

/// What kind of image a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// A flat file: an offset is a physical address.
    Raw,
    /// An ELF core of a whole machine.
    ElfCore,
}

impl Format {
    /// The name that is printed.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::ElfCore => "elf-core",
        }
    }
}

/// How to open an image.
pub struct OpenOptions<'p> {
    /// Where unpacked images are kept; without it they are unpacked into an unnamed file that goes with the process.
    pub cache_dir: Option<PathBuf>,
    /// An image that unpacks to more than this many bytes is refused.
    pub unpacked_limit: u64,
    /// Called while an image is unpacked: bytes read of the file, and its size.
    pub progress: Option<&'p mut dyn FnMut(u64, u64)>,
}

impl std::fmt::Debug for OpenOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenOptions")
            .field("cache_dir", &self.cache_dir)
            .field("unpacked_limit", &self.unpacked_limit)
            .finish_non_exhaustive()
    }
}

impl Default for OpenOptions<'_> {
    fn default() -> Self {
        // The largest machines have some TiB of memory.
        Self { cache_dir: None, unpacked_limit: 32 << 40, progress: None }
    }
}

/// A memory image.
#[derive(Debug)]
pub struct Image {
    map: Mmap,
    segments: Segments,
    vcpus: Vec<Registers>,
    format: Format,
    architecture: Option<Architecture>,
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
            Content::Zstd => {
                let unpacked = unpack(path, &file, &bytes, options)?;
                let bytes = map(&unpacked).map_err(io)?;
                let content = detect(path, &bytes)?;
                if content == Content::Zstd {
                    return Err(OpenError::Unsupported {
                        path: path.to_path_buf(),
                        found: "compressed twice",
                        advice: "unpack it first",
                    });
                }
                Self::from_map(path, bytes, content, true)
            }
            content => Self::from_map(path, bytes, content, false),
        }
    }

    fn from_map(path: &Path, map: Mmap, content: Content, compressed: bool) -> Result<Self, OpenError> {
        if content == Content::Elf {
            let core = elf_core::parse(path, &map)?;
            return Ok(Self {
                map,
                segments: Segments::new(core.segments),
                vcpus: core.vcpus,
                format: Format::ElfCore,
                architecture: Some(core.architecture),
                warnings: core.warnings,
                compressed,
            });
        }
        let whole = Segment { start: PhysAddr::new(0), len: map.len() as u64, offset: 0 };
        Ok(Self {
            map,
            segments: Segments::new(vec![whole]),
            vcpus: Vec::new(),
            format: Format::Raw,
            architecture: None,
            warnings: Vec::new(),
            compressed,
        })
    }

    /// The format.
    #[must_use]
    pub const fn format(&self) -> Format {
        self.format
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

    /// The size of RAM in bytes: all memory but the firmware below 4 GiB.
    #[must_use]
    pub fn ram_bytes(&self) -> u64 {
        let four_gib = 1u64 << 32;
        let ram = self.regions().iter().filter(|region| {
            !(region.end().get() == four_gib && region.len <= FIRMWARE && self.regions().len() > 1)
        });
        ram.fold(0, |sum, region| sum.saturating_add(region.len))
    }
}

impl PhysMemory for Image {
    fn regions(&self) -> &[Region] {
        self.segments.regions()
    }

    fn read(&self, addr: PhysAddr, buf: &mut [u8]) -> Result<(), PhysError> {
        buf.copy_from_slice(self.segments.slice(&self.map, addr, buf.len())?);
        Ok(())
    }

    fn slice(&self, addr: PhysAddr, len: usize) -> Option<&[u8]> {
        self.segments.slice(&self.map, addr, len).ok()
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
