//! The kernel's log: the ring buffer of `printk`.
//!
//! Source: `kernel/printk/printk_ringbuffer.h` and `.c` (5.10 and later): a ring of descriptors, a ring of what is known of each
//! record, and a ring of texts, in which a record's block begins with the number of its descriptor. [`records`] reads older ones.

mod records;

use alloc::vec::Vec;

use vmc::text::lossless;
use vmc::view::{LogRecord, RowErrors};
use vmc::{ReadExt, VirtAddr};

use crate::error::LinuxError;
use crate::fields::{LogDescriptorFields, LogInfoFields};
use crate::kernel::Linux;

/// The two highest bits of a descriptor's state say what it is for, the others which record it holds.
const STATE_SHIFT: u32 = 62;
const ID_MASK: u64 = (1 << STATE_SHIFT) - 1;
/// Whole, but the next text may still be added to it; whole for ever. (Others are being written, or are free.)
const READABLE: [u64; 2] = [1, 2];
/// A place in the ring of texts that is odd is none: no text was kept (1), or the record is empty (3).
const NO_PLACE: u64 = 1;
const EMPTY: u64 = 3;
/// What a block begins with: the number of its descriptor.
const BLOCK_HEADER: u64 = 8;

/// The ring buffer.
#[derive(Clone, Copy, Debug)]
struct Ring<'k, 'm> {
    linux: &'k Linux<'m>,
    descriptor: &'k LogDescriptorFields,
    info: &'k LogInfoFields,
    descriptors: VirtAddr,
    infos: VirtAddr,
    descriptor_size: u64,
    info_size: u64,
    count_bits: u32,
    data: VirtAddr,
    size_bits: u32,
}

impl<'m> Linux<'m> {
    /// The records of the kernel's log, oldest first. Records that are being written are left out.
    ///
    /// # Errors
    /// [`LinuxError`] where the ring buffer is not to be found, or contradicts itself.
    pub fn log(&self) -> Result<impl Iterator<Item = LogRecord> + use<'_, 'm>, LinuxError> {
        let old = self.known.prb.is_none() && self.known.log_first.is_some();
        let (ring, records) =
            if old { (None, self.old_log()?) } else { (Some(self.ring_log()?), Vec::new()) };
        Ok(ring.into_iter().flatten().chain(records))
    }

    /// The records of a log of 5.10 and later.
    fn ring_log(&self) -> Result<impl Iterator<Item = LogRecord> + use<'_, 'm>, LinuxError> {
        let at = self.need("prb", self.known.prb)?;
        let space = self.space();
        let read = LinuxError::read("the kernel's log");
        let broken = |at, reason| LinuxError::Broken { what: "the kernel's log", at, reason };
        let at = space.read_pointer(at).map_err(&read)?;
        let fields = self.log_fields()?;
        let types = self.types();
        let ring = Ring {
            linux: self,
            descriptor: self.log_descriptor()?,
            info: self.log_info()?,
            descriptors: fields.descriptors.pointer(space, at).map_err(&read)?,
            infos: fields.infos.pointer(space, at).map_err(&read)?,
            descriptor_size: vmc::layout::Types::size_of(types, "prb_desc")?,
            info_size: vmc::layout::Types::size_of(types, "printk_info")?,
            count_bits: fields.count_bits.read(space, at).map_err(&read)?,
            data: fields.data.pointer(space, at).map_err(&read)?,
            size_bits: fields.size_bits.read(space, at).map_err(&read)?,
        };
        // The log's size is an `int`: 2^31 bytes at the most, a descriptor for each 32 of them.
        if ring.count_bits > 31 || ring.size_bits > 31 {
            return Err(broken(at, "its size is not to be believed"));
        }
        let head = fields.head.read(space, at).map_err(&read)? & ID_MASK;
        let tail = fields.tail.read(space, at).map_err(&read)? & ID_MASK;
        let most = (1u64 << ring.count_bits).min(self.limits().log_records as u64);
        // More than the ring has places: the newest.
        let count = (head.wrapping_sub(tail) & ID_MASK).saturating_add(1).min(most);
        let first = head.wrapping_sub(count - 1);
        Ok((0..count).filter_map(move |index| ring.record(first.wrapping_add(index) & ID_MASK)))
    }
}

impl Ring<'_, '_> {
    /// The record `id`; nothing where there is none that is whole.
    fn record(&self, id: u64) -> Option<LogRecord> {
        let (space, limits) = (self.linux.space(), self.linux.limits());
        let place = id & ((1 << self.count_bits) - 1);
        let descriptor = self.descriptors.wrapping_add(place.wrapping_mul(self.descriptor_size));
        let info = self.infos.wrapping_add(place.wrapping_mul(self.info_size));
        let state = self.descriptor.state.read(space, descriptor).ok()?;
        if state & ID_MASK != id || !READABLE.contains(&(state >> STATE_SHIFT)) {
            return None;
        }
        let mut errors = RowErrors::default();
        let sequence = errors.keep(limits, "sequence", self.info.sequence.read(space, info));
        let time = errors.keep(limits, "time", self.info.time.read(space, info));
        let level = errors.keep(limits, "level", self.info.level.read(space, info));
        let message = match self.text(id, descriptor, info) {
            // Its text found no room: the kernel does not show it either.
            Ok(None) => return None,
            message => errors.keep(limits, "message", message).flatten(),
        };
        Some(LogRecord {
            sequence: sequence.unwrap_or_default(),
            time: time.unwrap_or_default(),
            level: level.unwrap_or_default() >> 5,
            message: message.map(|message| lossless(&message)),
            errors,
        })
    }

    /// The text of the record `id`; nothing where none was kept.
    fn text(&self, id: u64, descriptor: VirtAddr, info: VirtAddr) -> Result<Option<Vec<u8>>, LinuxError> {
        let space = self.linux.space();
        let read = LinuxError::read("a record's text");
        let broken = |reason| LinuxError::Broken { what: "a record of the log", at: descriptor, reason };
        let begin = self.descriptor.begin.read(space, descriptor).map_err(&read)?;
        let next = self.descriptor.next.read(space, descriptor).map_err(&read)?;
        let length = u64::from(self.info.length.read(space, info).map_err(&read)?);
        if begin & NO_PLACE != 0 && next & NO_PLACE != 0 {
            return Ok((begin == EMPTY && next == EMPTY).then(Vec::new));
        }
        let Some(size) = block(begin, next, self.size_bits) else {
            return Err(broken("its text lies nowhere"));
        };
        let at = self.data.wrapping_add(size.start);
        if space.read_pointer(at).map_err(&read)?.get() != id {
            return Err(broken("its text belongs to another record"));
        }
        let room = (size.end - size.start).saturating_sub(BLOCK_HEADER);
        let text = at.wrapping_add(BLOCK_HEADER);
        // Never more than 65 535 bytes: the length is a 16-bit number.
        space.read_vec(text, length.min(room), usize::from(u16::MAX)).map(Some).map_err(&read)
    }
}

/// Where in the ring a block lies whose logical places are `begin` and `next`. What would pass the ring's end lies at its start.
fn block(begin: u64, next: u64, size_bits: u32) -> Option<core::ops::Range<u64>> {
    let size = 1u64 << size_bits;
    let (wrap, last_wrap) = (begin >> size_bits, next.wrapping_sub(1) >> size_bits);
    let start = if wrap == last_wrap {
        begin & (size - 1)
    } else if wrap.wrapping_add(1) & (u64::MAX >> size_bits) == last_wrap {
        0
    } else {
        return None;
    };
    let end = (next.wrapping_sub(1) & (size - 1)) + 1;
    (start < end).then_some(start..end)
}

#[cfg(test)]
mod tests {
    use super::block;

    #[test]
    fn blocks_lie_in_the_ring() {
        assert_eq!(block(0x10, 0x30, 8), Some(0x10..0x30));
        // In the second round; ending exactly with the ring; passing its end.
        assert_eq!(block(0x110, 0x130, 8), Some(0x10..0x30));
        assert_eq!(block(0x1e0, 0x200, 8), Some(0xe0..0x100));
        assert_eq!(block(0x1f0, 0x220, 8), Some(0..0x20));
        // Numbers wrap as well.
        assert_eq!(block(u64::MAX - 15, 0x20, 8), Some(0..0x20));
    }

    #[test]
    fn blocks_that_end_before_they_begin_are_none() {
        assert_eq!(block(0x30, 0x10, 8), None);
        assert_eq!(block(0x30, 0x30, 8), None);
        assert_eq!(block(0, 0x300, 8), None);
        assert_eq!(block(0x30, 0, 8), None);
    }
}
