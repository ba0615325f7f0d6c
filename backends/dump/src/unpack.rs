//! Compressed images, unpacked once.
//!
//! The cache holds whole files only: one is written under another name and renamed when it is complete. Its name is made
//! of numbers; nothing of a guest or of the image's own name gets into it. Runs of zeros become holes.

use std::fs::{self, DirBuilder, File};
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, BufRead, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use ruzstd::decoding::StreamingDecoder;

use crate::error::OpenError;
use crate::image::OpenOptions;

const BLOCK: usize = 1 << 16;

/// The content of the compressed `file`, whose bytes are `packed`, in a file of its own.
pub(crate) fn unpack(
    path: &Path,
    file: &File,
    packed: &[u8],
    options: &mut OpenOptions<'_>,
) -> Result<File, OpenError> {
    let io = |source| OpenError::Io { path: path.to_path_buf(), source };
    if let Some(dir) = options.cache_dir.clone()
        && private_dir(&dir).is_ok()
    {
        let cached = dir.join(format!("image-{:016x}.mem", identity(file, packed).map_err(io)?));
        if let Ok(known) = File::open(&cached) {
            return Ok(known);
        }
        let partial = dir.join(partial_name());
        let target = PartialFile::create(partial).map_err(io)?;
        write_out(path, packed, &target.file, options)?;
        return target.keep_as(&cached).map_err(io);
    }
    let partial = std::env::temp_dir().join(partial_name());
    let target = PartialFile::create(partial).map_err(io)?;
    write_out(path, packed, &target.file, options)?;
    // Dropping it takes the name away; the open file stays.
    target.file.try_clone().map_err(io)
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
    hasher.write_u64(meta.len());
    hasher.write_i64(meta.mtime());
    hasher.write_i64(meta.mtime_nsec());
    let ends = packed.len().min(BLOCK);
    hasher.write(packed.get(..ends).unwrap_or_default());
    hasher.write(packed.get(packed.len() - ends..).unwrap_or_default());
    Ok(hasher.finish())
}

/// A file under a name that is taken away unless it is kept.
struct PartialFile {
    file: File,
    path: PathBuf,
}

impl PartialFile {
    fn create(path: PathBuf) -> io::Result<Self> {
        // A file of a process that had this number before and was killed.
        let _ = fs::remove_file(&path);
        let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Self { file, path })
    }

    fn keep_as(self, name: &Path) -> io::Result<File> {
        fs::rename(&self.path, name)?;
        self.file.try_clone()
    }
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        // After `keep_as` there is nothing of this name any more.
        let _ = fs::remove_file(&self.path);
    }
}

fn write_out(
    path: &Path,
    packed: &[u8],
    mut target: &File,
    options: &mut OpenOptions<'_>,
) -> Result<(), OpenError> {
    let total = packed.len() as u64;
    let mut rest = packed;
    let mut done = 0u64;
    let failed = |done, reason: String| OpenError::Unpack { path: path.to_path_buf(), done, reason };
    let mut block = vec![0u8; BLOCK];
    // A file may consist of several frames.
    while !rest.fill_buf().map_err(|e| failed(done, e.to_string()))?.is_empty() {
        let mut decoder = StreamingDecoder::new(&mut rest).map_err(|e| failed(done, e.to_string()))?;
        loop {
            let got = decoder.read(&mut block).map_err(|e| failed(done, e.to_string()))?;
            if got == 0 {
                break;
            }
            let bytes = block.get(..got).unwrap_or_default();
            write_sparse(&mut target, bytes).map_err(|e| failed(done, e.to_string()))?;
            done += got as u64;
            if done > options.unpacked_limit {
                return Err(OpenError::TooLarge { path: path.to_path_buf(), limit: options.unpacked_limit });
            }
            if let Some(progress) = options.progress.as_mut() {
                progress(total - decoder.get_ref().len() as u64, total);
            }
        }
    }
    target.set_len(done).map_err(|e| failed(done, e.to_string()))
}

/// Writes `bytes`, or leaves a hole where they are all zero.
fn write_sparse(target: &mut &File, bytes: &[u8]) -> io::Result<()> {
    if bytes.iter().all(|byte| *byte == 0) {
        target.seek(SeekFrom::Current(bytes.len().cast_signed() as i64)).map(|_| ())
    } else {
        target.write_all(bytes)
    }
}
