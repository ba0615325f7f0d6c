//! Targets: what a user names, opened.

use std::path::PathBuf;

use vmc::{LiveGuest, PhysAddr, PhysMemory, Vcpus, VirtualMemory};
use vmc_dump::{CrashFacts, Format, Image, OpenOptions};

use crate::args::Common;
use crate::failure::Failure;
use crate::live::{self, Named};
use crate::notes::Notes;

/// What is looked at.
pub(crate) enum Target {
    /// A memory image.
    Image(Box<Image>),
    /// A guest that may run.
    Live(Box<dyn LiveGuest>),
}

impl Target {
    /// Its memory.
    pub(crate) fn memory(&self) -> &dyn PhysMemory {
        match self {
            Self::Image(image) => &**image,
            Self::Live(guest) => guest.as_memory(),
        }
    }

    /// Its vCPUs.
    pub(crate) fn vcpus(&self) -> &dyn Vcpus {
        match self {
            Self::Image(image) => &**image,
            Self::Live(guest) => guest.as_vcpus(),
        }
    }

    /// It as a live guest.
    pub(crate) fn live(&self) -> Option<&dyn LiveGuest> {
        match self {
            Self::Image(_) => None,
            Self::Live(guest) => Some(&**guest),
        }
    }

    /// What a Windows crash dump says of itself, where it is one.
    pub(crate) fn crash(&self) -> Option<&CrashFacts> {
        match self {
            Self::Image(image) => image.crash(),
            Self::Live(_) => None,
        }
    }

    /// The ranges of virtual memory that a triage dump has in place of physical memory.
    pub(crate) fn virtual_memory(&self) -> Option<&dyn VirtualMemory> {
        match self {
            Self::Image(image) => image.virtual_memory(),
            Self::Live(_) => None,
        }
    }

    /// The size of RAM in bytes.
    pub(crate) fn ram_bytes(&self) -> u64 {
        match self {
            Self::Image(image) => image.ram_bytes(),
            Self::Live(guest) => guest.facts().ram_bytes,
        }
    }

    /// A raw image, whose memory may begin anywhere.
    pub(crate) fn flat(&self) -> bool {
        matches!(self, Self::Image(image) if image.format() == Format::Raw)
    }

    /// Says where the memory of a raw image begins.
    pub(crate) fn place_at(&mut self, base: PhysAddr) {
        if let Self::Image(image) = self {
            image.place_at(base);
        }
    }

    /// What its user should know, a line each.
    pub(crate) fn warnings(&self) -> Vec<String> {
        match self {
            Self::Image(image) => image.warnings().to_vec(),
            Self::Live(guest) => guest.facts().warnings,
        }
    }
}

/// Is it a live guest that was named?
pub(crate) fn is_live(name: &str) -> bool {
    Named::parse(name).is_some()
}

/// Opens the target that was named.
pub(crate) fn open(name: &str, common: &Common, notes: &Notes) -> Result<Target, Failure> {
    match Named::parse(name) {
        Some(Ok(named)) => return live::open(name, &named, &common.live).map(Target::Live),
        Some(Err(why)) => return Err(Failure::Said(why)),
        None => {}
    }
    let bar = notes.progress("unpacking");
    let mut progress = |done: u64, total: u64| {
        bar.set_length(total);
        bar.set_position(done);
    };
    let mut options = OpenOptions {
        cache_dir: cache_dir(common),
        unpacked_limit: common.unpacked_limit,
        ram_base: common.ram_base.map(PhysAddr::new),
        progress: Some(&mut progress),
    };
    let opened = Image::open_with(name, &mut options);
    bar.finish_and_clear();
    Ok(Target::Image(Box::new(opened?)))
}

/// Where files may be kept, if anything may be.
pub(crate) fn cache_dir(common: &Common) -> Option<PathBuf> {
    if common.no_cache { None } else { common.cache_dir.clone().or_else(default_cache_dir) }
}

/// `$XDG_CACHE_HOME/vmc`, or `~/.cache/vmc`.
fn default_cache_dir() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CACHE_HOME").filter(|path| path.is_absolute());
    base.or_else(|| set("HOME").map(|home| home.join(".cache"))).map(|base| base.join("vmc"))
}
