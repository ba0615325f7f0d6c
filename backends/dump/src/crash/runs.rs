//! Full dumps: behind the header the pages of all runs of physical memory, one run after the other.

use super::header::{Header, SIZE, page_start};
use crate::segments::Segment;

/// The runs of a full dump.
pub(crate) fn full(header: &Header<'_>, warnings: &mut Vec<String>) -> Result<Vec<Segment>, String> {
    let (runs, pages) = header.runs()?.ok_or("its header lists no physical memory")?;
    let mut offset = SIZE as u64;
    let mut segments = Vec::with_capacity(runs.len());
    for run in &runs {
        // At most 42 runs of 2^52 bytes.
        segments.push(Segment::whole(page_start(run.first), run.count << 12, offset));
        offset += run.count << 12;
    }
    let listed: u64 = runs.iter().map(|run| run.count).sum();
    if listed != pages {
        warnings
            .push(format!("the header counts {pages} pages, its runs have {listed}: the runs are believed"));
    }
    cut(header, offset, warnings);
    Ok(segments)
}

/// Warns where the pages go on behind the file's end.
pub(crate) fn cut(header: &Header<'_>, end: u64, warnings: &mut Vec<String>) {
    let len = header.file.len() as u64;
    if end > len {
        warnings
            .push(format!("the image is cut short: its last page ends at byte {end}, the file has {len}"));
    }
}
