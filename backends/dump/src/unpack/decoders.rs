//! Decompressors, as readers of what is in the file.
//!
//! None takes more memory by the file's word than its constant here says.

use std::cell::Cell;
use std::io::{self, BufRead, Read};

use flate2::bufread::MultiGzDecoder;
use lzma_rust2::{Action, Status, XzStream};
use ruzstd::decoding::StreamingDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};

use crate::detect::Packing;

/// The largest window of a zstd frame: that of `zstd --ultra -22` and `--long=27`, also the bound of `zstd -d`.
const ZSTD_WINDOW: u64 = 128 << 20;
/// The largest memory for an xz block, in KiB: `xz -9` takes 65 MiB.
const XZ_MEMORY_KIB: u32 = 256 << 10;

/// A file's bytes and how many of them have been read; all its copies read on from the same place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source<'p> {
    packed: &'p [u8],
    at: &'p Cell<usize>,
}

impl<'p> Source<'p> {
    pub(super) const fn new(packed: &'p [u8], at: &'p Cell<usize>) -> Self {
        Self { packed, at }
    }

    fn rest(&self) -> &'p [u8] {
        self.packed.get(self.at.get()..).unwrap_or_default()
    }
}

impl Read for Source<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let got = self.rest().read(buf)?;
        self.consume(got);
        Ok(got)
    }
}

impl BufRead for Source<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        Ok(self.rest())
    }

    fn consume(&mut self, amount: usize) {
        self.at.set(self.at.get().saturating_add(amount).min(self.packed.len()));
    }
}

/// What is packed in `source`.
pub(super) fn decoder<'p>(packing: Packing, source: Source<'p>) -> Box<dyn Read + 'p> {
    match packing {
        Packing::Zstd => Box::new(Zstd { source, frame: None }),
        Packing::Gzip => Box::new(MultiGzDecoder::new(source)),
        Packing::Xz => {
            Box::new(Xz { source, stream: XzStream::new_mem_limit(true, XZ_MEMORY_KIB), ended: false })
        }
        Packing::Avml => Box::new(source),
    }
}

/// zstd frames, one after the other.
struct Zstd<'p> {
    source: Source<'p>,
    frame: Option<StreamingDecoder<Source<'p>, ruzstd::decoding::FrameDecoder>>,
}

impl Read for Zstd<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(frame) = &mut self.frame {
                let got = frame.read(buf)?;
                if got > 0 || buf.is_empty() {
                    return Ok(got);
                }
                self.frame = None;
            }
            if self.source.rest().is_empty() {
                return Ok(0);
            }
            match StreamingDecoder::new_with_max_window_size(self.source, ZSTD_WINDOW) {
                Ok(frame) => self.frame = Some(frame),
                // Frames that hold something else, such as a table for seeking.
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => self.source.consume(length as usize),
                Err(why) => return Err(io::Error::other(why.to_string())),
            }
        }
    }
}

/// xz streams, one after the other.
struct Xz<'p> {
    source: Source<'p>,
    stream: XzStream,
    ended: bool,
}

impl Read for Xz<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while !self.ended && !buf.is_empty() {
            let input = self.source.rest();
            // Bounded, so that progress can be told.
            let input = input.get(..1 << 20).unwrap_or(input);
            let action = if input.len() == self.source.rest().len() { Action::Finish } else { Action::Run };
            let step = self.stream.process(input, buf, action);
            let step = step.map_err(|why| io::Error::other(format!("xz: {why:?}")))?;
            self.source.consume(step.bytes_consumed);
            self.ended = step.status == Status::StreamEnd;
            if step.bytes_produced > 0 {
                return Ok(step.bytes_produced);
            }
            if step.bytes_consumed == 0 && !self.ended {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(0)
    }
}
