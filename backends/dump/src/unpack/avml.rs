//! AVML images: snappy-compressed ranges, unpacked to a LiME image.
//!
//! Source: AVML's `src/image.rs` and `src/io/snappy.rs`: a header like LiME's with the magic `AVML` and version 2, a stream in
//! snappy's framing format that unpacks to the range, then eight bytes: the stream's size. Ranges are cut into blocks of
//! 16 MiB, and a block that is all zeros is left out without a word.

use std::io::Read;

use snap::read::FrameDecoder;

use super::{Stopped, copy, fill};
use crate::lime::{FROM_AVML, HEADER, Header};
use crate::sparse::SparseWriter;

/// What an image begins with: magic and version.
pub(super) const START: [u8; 8] = *b"AVML\x02\0\0\0";
const MAGIC: [u8; 4] = *b"AVML";
/// The blocks that ranges are cut into.
const WHOLE_BLOCK: u64 = 16 << 20;
/// A gap is taken for blocks of zeros up to this length. A longer one may be a hole in the machine's memory.
const MOST_ZEROS: u64 = 4 << 30;
/// The zeros of all gaps together, for each byte that was unpacked.
const MOST_EXPANSION: u64 = 1 << 10;

/// A range in the making.
struct Range {
    header: Header,
    /// Where its header stands.
    at: u64,
    last_block: u64,
}

impl Range {
    const fn end(&self) -> u64 {
        self.header.start.saturating_add(self.header.len)
    }

    /// How many zeros lie between it and a block that begins at `start`, if that block goes on where it ends.
    fn gap_before(&self, start: u64, most: u64) -> Option<u64> {
        let gap = start.checked_sub(self.end())?;
        let left_out = gap.is_multiple_of(WHOLE_BLOCK)
            && self.last_block == WHOLE_BLOCK
            && gap <= MOST_ZEROS
            && gap <= most;
        (gap == 0 || left_out).then_some(gap)
    }
}

/// Unpacks the image that `reader` gives.
pub(super) fn unpack(
    reader: &mut impl Read,
    writer: &mut SparseWriter<'_>,
    told: &mut impl FnMut(u64),
) -> Result<(), Stopped> {
    let mut open: Option<Range> = None;
    let ended = blocks(reader, writer, told, &mut open);
    // The last range is as long as what came of it, also where the image breaks off.
    match &open {
        Some(range) if range.header.len == 0 => writer.back_to(range.at),
        Some(range) => writer.replace(range.at, &range.header.bytes())?,
        None => {}
    }
    ended
}

fn blocks(
    reader: &mut impl Read,
    writer: &mut SparseWriter<'_>,
    told: &mut impl FnMut(u64),
    open: &mut Option<Range>,
) -> Result<(), Stopped> {
    let (mut unpacked, mut zeros) = (0u64, 0u64);
    loop {
        let mut header = [0; HEADER];
        match fill(reader, &mut header) {
            Ok(0) => return Ok(()),
            Ok(HEADER) => {}
            Ok(_) => return Err(Stopped::Because("it ends within a block's header".into())),
            Err((_, why)) => return Err(why.into()),
        }
        let block = Header::parse(&header, MAGIC, 2);
        let block = block.ok_or_else(|| Stopped::Because("no block's header where one should be".into()))?;
        let most = unpacked.saturating_mul(MOST_EXPANSION).saturating_sub(zeros);
        match open.as_mut().map(|range| (range.gap_before(block.start, most), range)) {
            Some((Some(gap), range)) => {
                writer.skip(gap)?;
                zeros += gap;
                range.header.len += gap;
            }
            closed => {
                if let Some((None, range)) = closed {
                    writer.replace(range.at, &range.header.bytes())?;
                }
                let header = Header { start: block.start, len: 0, reserved: FROM_AVML };
                *open = Some(Range { header, at: writer.position(), last_block: 0 });
                writer.write(&header.bytes())?;
            }
        }
        let before = writer.position();
        let ended = stream(reader, writer, block.len, told);
        let had = writer.position() - before;
        if let Some(range) = open {
            range.header.len += had;
            range.last_block = had;
        }
        unpacked += had;
        ended?;
    }
}

/// One block's stream, and its size behind it.
fn stream(
    reader: &mut impl Read,
    writer: &mut SparseWriter<'_>,
    len: u64,
    told: &mut impl FnMut(u64),
) -> Result<(), Stopped> {
    let mut counted = Counted { reader, count: 0 };
    let had = copy(&mut FrameDecoder::new(&mut counted), writer, len, told)?;
    if had < len {
        return Err(Stopped::Because("it ends within a block".into()));
    }
    let count = counted.count;
    let mut size = [0; 8];
    match fill(reader, &mut size) {
        Ok(8) if u64::from_le_bytes(size) == count => Ok(()),
        Ok(8) => Err(Stopped::Because("a block's size is not that of its stream".into())),
        Ok(_) => Err(Stopped::Because("it ends within a block's size".into())),
        Err((_, why)) => Err(why.into()),
    }
}

/// Counts what is read through it.
struct Counted<'r, R> {
    reader: &'r mut R,
    count: u64,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let got = self.reader.read(buf)?;
        self.count += got as u64;
        Ok(got)
    }
}
