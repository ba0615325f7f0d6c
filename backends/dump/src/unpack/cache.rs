//! Where an unpacked image is kept.

use std::fs::{self, DirBuilder, File};
use std::hash::{DefaultHasher, Hasher};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// How much of a file's ends tells it from others.
const END: usize = 1 << 16;
/// Raised when the same file is unpacked to something else than before.
const GENERATION: u8 = 2;

/// Where an image is unpacked to.
pub(super) enum Target {
    /// It has been unpacked before.
    Known(File),
    /// A new file.
    New(PartialFile),
}

impl Target {
    /// The place of the compressed `file`, in the cache if there is one that can be written to.
    pub(super) fn of(file: &File, packed: &[u8], cache_dir: Option<&Path>) -> io::Result<Self> {
        if let Some(dir) = cache_dir.filter(|dir| private_dir(dir).is_ok()) {
            let cached = dir.join(format!("image-{:016x}.mem", identity(file, packed)?));
            if let Ok(known) = File::open(&cached) {
                return Ok(Self::Known(known));
            }
            // It may be there and not be writable.
            if let Ok(new) = PartialFile::create(dir.join(partial_name()), Some(cached)) {
                return Ok(Self::New(new));
            }
        }
        Ok(Self::New(PartialFile::create(std::env::temp_dir().join(partial_name()), None)?))
    }
}

/// A name for a file in the making: no other process and no other thread has it.
fn partial_name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("vmc-unpacking-{}-{}.tmp", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A directory that only its owner looks into: memory holds secrets.
fn private_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// A number for the very file: size, time of change, and its ends.
fn identity(file: &File, packed: &[u8]) -> io::Result<u64> {
    let meta = file.metadata()?;
    let mut hasher = DefaultHasher::new();
    hasher.write_u8(GENERATION);
    hasher.write_u64(meta.len());
    hasher.write_i64(meta.mtime());
    hasher.write_i64(meta.mtime_nsec());
    let ends = packed.len().min(END);
    hasher.write(packed.get(..ends).unwrap_or_default());
    hasher.write(packed.get(packed.len() - ends..).unwrap_or_default());
    Ok(hasher.finish())
}

/// A file under a name that is taken away unless it is kept.
pub(super) struct PartialFile {
    file: File,
    path: PathBuf,
    name: Option<PathBuf>,
}

impl PartialFile {
    fn create(path: PathBuf, name: Option<PathBuf>) -> io::Result<Self> {
        // A file of a process that had this number before and was killed.
        let _ = fs::remove_file(&path);
        let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Self { file, path, name })
    }

    pub(super) const fn file(&self) -> &File {
        &self.file
    }

    /// The complete file, under its name in the cache.
    pub(super) fn keep(self) -> io::Result<File> {
        if let Some(name) = &self.name {
            fs::rename(&self.path, name)?;
        }
        self.let_go()
    }

    /// The file without its name: it goes with the process.
    pub(super) fn let_go(self) -> io::Result<File> {
        self.file.try_clone()
    }
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        // After `keep` there is nothing of this name any more.
        let _ = fs::remove_file(&self.path);
    }
}
