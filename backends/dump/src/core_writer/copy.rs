//! Memory into a file: large reads, and where one fails, page by page.

use std::time::{Duration, Instant};

use vmc::{PhysAddr, PhysError, PhysMemory, Region};

use super::WriteError;
use crate::sparse::SparseWriter;

/// What is read at once: from here on the memory of other processes is read as fast as it goes.
const CHUNK: u64 = 2 << 20;
/// What is read at once where that failed.
const PAGE: usize = 4096;
/// How long reads may take that give nothing: a peer that is silent takes its time for each.
const PATIENCE: Duration = Duration::from_secs(10);

/// What could not be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unread {
    /// How many bytes: zeros stand for them.
    pub bytes: u64,
    /// Why the first of them could not be.
    pub first: Option<PhysError>,
}

/// Copies memory.
pub(super) struct Copy<'m> {
    memory: &'m dyn PhysMemory,
    buffer: Vec<u8>,
    unread: Unread,
    /// Nothing of the chunk before could be read.
    lost: bool,
    /// What reads that failed took, and may take.
    waited: Duration,
    patience: Duration,
}

impl<'m> Copy<'m> {
    pub(super) fn of(memory: &'m dyn PhysMemory) -> Self {
        Self {
            memory,
            buffer: Vec::new(),
            unread: Unread::default(),
            lost: false,
            waited: Duration::ZERO,
            patience: PATIENCE,
        }
    }

    pub(super) const fn unread(&self) -> Unread {
        self.unread
    }

    /// Writes all of `region`; calls `told` with the bytes of each part.
    pub(super) fn region(
        &mut self,
        region: Region,
        writer: &mut SparseWriter<'_>,
        told: &mut dyn FnMut(u64),
    ) -> Result<(), WriteError> {
        let mut done = 0;
        while done < region.len {
            let at = region.start.wrapping_add(done);
            let len = (CHUNK - at.offset_in(CHUNK)).min(region.len - done);
            // Less than a chunk.
            let size = len as usize;
            match self.memory.slice(at, size) {
                Some(lent) => writer.write(lent),
                None => {
                    self.fill(at, size)?;
                    writer.write(&self.buffer)
                }
            }
            .map_err(|why| WriteError::of(why, writer.position()))?;
            done += len;
            told(len);
        }
        Ok(())
    }

    /// Fills the buffer from `at` on, with zeros where nothing can be read.
    fn fill(&mut self, at: PhysAddr, size: usize) -> Result<(), WriteError> {
        self.buffer.resize(size, 0);
        let mut buffer = std::mem::take(&mut self.buffer);
        let filled = self.fill_pages(at, &mut buffer);
        self.buffer = buffer;
        filled
    }

    fn fill_pages(&mut self, at: PhysAddr, buffer: &mut [u8]) -> Result<(), WriteError> {
        if self.read(at, buffer)?.is_ok() {
            self.lost = false;
            return Ok(());
        }
        // Behind a chunk of which there was nothing, one page tells.
        let only_first = std::mem::take(&mut self.lost);
        let mut got = false;
        let mut pages = buffer.chunks_mut(PAGE);
        let mut page_at = at;
        while let Some(page) = pages.next() {
            match self.read(page_at, page)? {
                Ok(()) => got = true,
                Err(why) => {
                    let mut missing = page.len() as u64;
                    page.fill(0);
                    if only_first && !got {
                        for page in pages.by_ref() {
                            page.fill(0);
                            missing += page.len() as u64;
                        }
                    }
                    self.unread.bytes = self.unread.bytes.saturating_add(missing);
                    self.unread.first = self.unread.first.or(Some(why));
                }
            }
            page_at = page_at.wrapping_add(PAGE as u64);
        }
        self.lost = !got;
        Ok(())
    }

    /// Reads once. Reads that fail may take some time together, but not any.
    fn read(&mut self, at: PhysAddr, buffer: &mut [u8]) -> Result<Result<(), PhysError>, WriteError> {
        let since = Instant::now();
        let read = self.memory.read(at, buffer);
        if let Err(source) = read {
            self.waited = self.waited.saturating_add(since.elapsed());
            if self.waited > self.patience {
                return Err(WriteError::Silent { seconds: self.waited.as_secs(), source });
            }
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Read;

    /// Memory of which some pages cannot be read; each byte says which page it is of.
    struct Torn {
        regions: Vec<Region>,
        missing: fn(u64) -> bool,
        slow: Duration,
    }

    impl PhysMemory for Torn {
        fn regions(&self) -> &[Region] {
            &self.regions
        }

        fn read(&self, addr: PhysAddr, buf: &mut [u8]) -> Result<(), PhysError> {
            for (offset, byte) in buf.iter_mut().enumerate() {
                let page = addr.get().wrapping_add(offset as u64) / PAGE as u64;
                if (self.missing)(page) {
                    std::thread::sleep(self.slow);
                    return Err(PhysError::Failed { addr, reason: "torn" });
                }
                *byte = (page % 251) as u8 + 1;
            }
            Ok(())
        }
    }

    fn copied(memory: &Torn) -> (Vec<u8>, Unread, Result<(), WriteError>) {
        let mut file = tempfile();
        let mut writer = SparseWriter::new(&file, u64::MAX);
        let mut copy = Copy { patience: Duration::from_millis(200), ..Copy::of(memory) };
        let mut told = 0;
        let done = copy.region(memory.regions[0], &mut writer, &mut |len| told += len);
        assert!(done.is_err() || told == memory.regions[0].len);
        writer.finish().unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        (bytes, copy.unread(), done)
    }

    fn tempfile() -> File {
        let path = std::env::temp_dir().join(format!(
            "vmc-copy-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        ));
        let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        file
    }

    #[test]
    fn what_cannot_be_read_is_zero_and_counted() {
        let start = PhysAddr::new(0x3000);
        let len = (5 << 20) + 100;
        let missing = |page: u64| page == 5 || (1000..1010).contains(&page);
        let memory = Torn { regions: vec![Region { start, len }], missing, slow: Duration::ZERO };
        let (bytes, unread, done) = copied(&memory);
        done.unwrap();
        assert_eq!(unread.bytes, 11 * 4096);
        assert_eq!(unread.first, Some(PhysError::Failed { addr: PhysAddr::new(0x5000), reason: "torn" }));
        assert_eq!(bytes.len() as u64, len);
        for (offset, byte) in bytes.iter().enumerate() {
            let page = (start.get() + offset as u64) / 4096;
            let told = if missing(page) { 0 } else { (page % 251) as u8 + 1 };
            assert_eq!(*byte, told, "page {page}");
        }
    }

    #[test]
    fn large_parts_that_are_lost_take_few_reads_and_what_follows_is_there() {
        let len = 20 << 20;
        let missing = |page: u64| (512..512 * 9).contains(&page);
        let regions = vec![Region { start: PhysAddr::new(0), len }];
        let (bytes, unread, done) = copied(&Torn { regions, missing, slow: Duration::ZERO });
        done.unwrap();
        assert_eq!(unread.bytes, 16 << 20);
        assert!(bytes[2 << 20..18 << 20].iter().all(|byte| *byte == 0));
        assert!(bytes[..2 << 20].iter().chain(&bytes[18 << 20..]).all(|byte| *byte != 0));
    }

    #[test]
    fn a_silent_peer_is_not_waited_for_without_end() {
        let regions = vec![Region { start: PhysAddr::new(0), len: 64 << 20 }];
        let since = Instant::now();
        let memory = Torn { regions, missing: |_| true, slow: Duration::from_millis(80) };
        let (_, _, done) = copied(&memory);
        assert!(matches!(done, Err(WriteError::Silent { .. })), "{done:?}");
        assert!(since.elapsed() < Duration::from_secs(2));
    }
}
