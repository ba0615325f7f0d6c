//! Compressed images, unpacked once.
//!
//! The cache holds whole files only: one is written under another name and renamed when it is complete. Its name is made
//! of numbers; nothing of a guest or of the image's own name gets into it. Runs of zeros become holes.

mod avml;
mod cache;
mod decoders;

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::detect::Packing;
use crate::error::OpenError;
use crate::image::OpenOptions;
use crate::sparse::{self, Budget, SparseWriter};
use cache::Target;
use decoders::{Source, decoder};

/// How many bytes an image may unpack to for each of its own, where nothing else is said: the largest idle guests have some
/// thousand (a kernel describes each page of 4096 bytes in 64, which shrink to one or two).
const MOST_EXPANSION: u64 = 1 << 14;
/// What any image may unpack to.
const SMALLEST_LIMIT: u64 = 4 << 30;
/// The largest machines have some TiB of memory.
const LARGEST_LIMIT: u64 = 32 << 40;

/// An image, unpacked.
#[derive(Debug)]
pub(crate) struct Unpacked {
    pub(crate) file: File,
    /// Why it is not all, where it is not, and how many bytes there are.
    pub(crate) cut: Option<(u64, String)>,
}

/// The content of the compressed `file`, whose bytes are `packed`, in a file of its own.
///
/// Where the compressed data is damaged or cut short, what came out before is given and not kept in the cache.
pub(crate) fn unpack(
    path: &Path,
    file: &File,
    packed: &[u8],
    packing: Packing,
    options: &mut OpenOptions<'_>,
) -> Result<Unpacked, OpenError> {
    let io = |source| OpenError::Io { path: path.to_path_buf(), source };
    let unmade = |why: io::Error| OpenError::Unpack {
        path: path.to_path_buf(),
        done: 0,
        reason: format!("no file for it can be made in the cache or temporary directory: {why}"),
    };
    let target = match Target::of(file, packed, options.cache_dir.as_deref()).map_err(unmade)? {
        Target::Known(file) => return Ok(Unpacked { file, cut: None }),
        Target::New(target) => target,
    };
    let by_size = (packed.len() as u64).saturating_mul(MOST_EXPANSION).clamp(SMALLEST_LIMIT, LARGEST_LIMIT);
    let limit = options.unpacked_limit.unwrap_or(by_size);
    let mut writer = SparseWriter::new(target.file(), limit);
    let (done, cut) = match write_out(packed, packing, &mut writer, options) {
        Ok(done) => (done, None),
        Err(Stopped::TooLarge) => {
            return Err(OpenError::TooLarge { path: path.to_path_buf(), limit });
        }
        Err(Stopped::NoSpace { free }) => {
            return Err(OpenError::NoSpace { path: path.to_path_buf(), done: writer.position(), free });
        }
        Err(Stopped::Because(reason)) => (writer.position(), Some(reason)),
    };
    let broken = |reason: String| OpenError::Unpack { path: path.to_path_buf(), done, reason };
    if let (0, Some(reason)) = (done, &cut) {
        return Err(broken(reason.clone()));
    }
    writer.finish().map_err(|why| broken(why.to_string()))?;
    match cut {
        None => Ok(Unpacked { file: target.keep().map_err(io)?, cut: None }),
        Some(reason) => Ok(Unpacked { file: target.let_go().map_err(io)?, cut: Some((done, reason)) }),
    }
}

/// Why unpacking ended before its end.
#[derive(Debug)]
enum Stopped {
    /// More came out than is allowed.
    TooLarge,
    /// The disk would be full.
    NoSpace { free: u64 },
    /// The data is damaged, or the file could not be written.
    Because(String),
}

impl From<io::Error> for Stopped {
    fn from(why: io::Error) -> Self {
        Self::Because(why.to_string())
    }
}

impl From<Budget> for Stopped {
    fn from(why: Budget) -> Self {
        match why {
            Budget::TooLarge => Self::TooLarge,
            Budget::NoSpace { free } => Self::NoSpace { free },
            Budget::Write(why) => why.into(),
        }
    }
}

/// Unpacks everything; an AVML image, be it as it is or in another packing, becomes a LiME image.
fn write_out(
    packed: &[u8],
    packing: Packing,
    writer: &mut SparseWriter<'_>,
    options: &mut OpenOptions<'_>,
) -> Result<u64, Stopped> {
    let at = Cell::new(0);
    let source = Source::new(packed, &at);
    let mut reader = decoder(packing, source);
    let mut told = |_: u64| {
        if let Some(progress) = options.progress.as_mut() {
            progress(at.get() as u64, packed.len() as u64);
        }
    };
    let mut head = [0; 8];
    let had = fill(&mut reader, &mut head);
    // What came before an error is part of the image.
    let (had, ended) = match had {
        Ok(had) => (had, None),
        Err((had, why)) => (had, Some(why)),
    };
    let head = head.get(..had).unwrap_or_default();
    // A decoder that failed is not asked again: what it says then is of no use.
    if let Some(why) = ended {
        copy(&mut &*head, writer, u64::MAX, &mut told)?;
        return Err(why.into());
    }
    if head == avml::START {
        avml::unpack(&mut head.chain(reader), writer, &mut told)?;
    } else {
        copy(&mut head.chain(reader), writer, u64::MAX, &mut told)?;
    }
    Ok(writer.position())
}

/// Copies up to `most` bytes; says how many there were. What came before an error is written.
fn copy(
    reader: &mut impl Read,
    writer: &mut SparseWriter<'_>,
    most: u64,
    told: &mut impl FnMut(u64),
) -> Result<u64, Stopped> {
    let mut block = vec![0; sparse::BLOCK];
    let mut done = 0;
    while done < most {
        let want = usize::try_from(most - done).unwrap_or(usize::MAX).min(block.len());
        let room = block.get_mut(..want).unwrap_or_default();
        let (got, ended) = match fill(reader, room) {
            Ok(got) => (got, None),
            Err((got, why)) => (got, Some(why)),
        };
        writer.write(room.get(..got).unwrap_or_default())?;
        done += got as u64;
        told(done);
        if let Some(why) = ended {
            return Err(why.into());
        }
        if got < want {
            break;
        }
    }
    Ok(done)
}

/// Reads until `room` is full or nothing comes any more.
fn fill(reader: &mut impl Read, room: &mut [u8]) -> Result<usize, (usize, io::Error)> {
    let mut had = 0;
    while let Some(rest) = room.get_mut(had..).filter(|rest| !rest.is_empty()) {
        match reader.read(rest) {
            Ok(0) => break,
            Ok(got) => had += got,
            Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
            Err(why) => return Err((had, why)),
        }
    }
    Ok(had)
}
