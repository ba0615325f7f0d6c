//! The kernel's log before 5.10: one buffer of records, each with its length in front.
//!
//! Source: `struct printk_log` and `log_from_idx()` in `kernel/printk/printk.c` (3.5 to 5.9). From `log_first_idx` on one record
//! follows another up to `log_next_idx`; a record of length zero means that the next one lies at the buffer's start.

use alloc::vec::Vec;

use vmc::bytes::{u8_at, u16_at, u64_at};
use vmc::layout::{LayoutError, Types};
use vmc::text::lossless;
use vmc::view::{LogRecord, RowErrors};
use vmc::{ReadExt, VirtAddr, VirtualMemory};

use crate::error::LinuxError;
use crate::kernel::Linux;

/// The largest buffer: its size is an `int`.
const LARGEST: u64 = 1 << 31;

/// Where a record has what.
#[derive(Clone, Copy, Debug)]
struct Layout {
    size: usize,
    time: usize,
    len: usize,
    text_len: usize,
    /// The byte with the flags; the level is in its three highest bits.
    flags: usize,
}

impl Layout {
    fn of(types: &impl Types) -> Result<Self, LayoutError> {
        // It was called otherwise until 3.11.
        let name = if types.size_of("printk_log").is_ok() { "printk_log" } else { "log" };
        let at = |member: &str| types.member(name, member).map(|member| member.offset as usize);
        Ok(Self {
            size: types.size_of(name)? as usize,
            time: at("ts_nsec")?,
            len: at("len")?,
            text_len: at("text_len")?,
            flags: at("level")?,
        })
    }
}

impl Linux<'_> {
    /// The records of a log before 5.10, oldest first.
    pub(super) fn old_log(&self) -> Result<Vec<LogRecord>, LinuxError> {
        let (space, known) = (self.space(), &self.known);
        let read = LinuxError::read("the kernel's log");
        let number = |name, at: Option<VirtAddr>| {
            space.read_value::<u32>(self.need(name, at)?).map(u64::from).map_err(&read)
        };
        let layout = Layout::of(self.types())?;
        let at = space.read_pointer(self.need("log_buf", known.log_buffer)?).map_err(&read)?;
        let len = number("log_buf_len", known.log_buffer_len)?;
        let first = number("log_first_idx", known.log_first)?;
        let next = number("log_next_idx", known.log_next)?;
        if len > LARGEST || first > len || next > len {
            let reason = "its size is not to be believed";
            return Err(LinuxError::Broken { what: "the kernel's log", at, reason });
        }
        let sequence = known.log_first_sequence.and_then(|at| space.read_u64(at).ok()).unwrap_or(0);
        let limits = self.limits();
        let read_len = (len as usize).min(limits.log_bytes);
        let (buffer, broken) = space.read_part(at, read_len);
        let (mut found, cut) = records(&buffer, first as usize, next as usize, layout, limits.log_records);
        for (record, number) in found.iter_mut().zip(sequence..) {
            record.sequence = number;
        }
        if let Some(cut) = cut {
            let why = match broken {
                Some(why) if cut == Cut::Short => read(why),
                None if cut == Cut::Short && (len as usize) > read_len => {
                    LinuxError::TooMany { what: "the bytes of the kernel's log", limit: limits.log_bytes }
                }
                _ if cut == Cut::Limit => {
                    LinuxError::TooMany { what: "the records of the kernel's log", limit: limits.log_records }
                }
                _ => {
                    let reason = "its records do not follow one another to their end";
                    LinuxError::Broken { what: "the kernel's log", at, reason }
                }
            };
            // What is there is shown, and behind it why there is no more.
            let Some(last) = found.last_mut() else { return Err(why) };
            last.errors.push(limits, "what follows", &why);
        }
        Ok(found)
    }
}

/// Why records end before the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// The next one lies where there are no bytes.
    Short,
    /// They no longer follow each other.
    Chain,
    /// There are more than the limit.
    Limit,
}

/// The records from `first` up to `next`, and why not all, where the walk ended before that.
fn records(
    buffer: &[u8],
    first: usize,
    next: usize,
    layout: Layout,
    most: usize,
) -> (Vec<LogRecord>, Option<Cut>) {
    let mut found = Vec::new();
    let (mut at, mut wrapped) = (first, false);
    while at != next {
        if found.len() >= most {
            return (found, Some(Cut::Limit));
        }
        let Some(record) = buffer.get(at..) else { return (found, Some(Cut::Short)) };
        let Some(len) = u16_at(record, layout.len).map(usize::from) else {
            return (found, Some(Cut::Short));
        };
        if len == 0 {
            // Once: a buffer of nothing has no end.
            if wrapped {
                return (found, Some(Cut::Chain));
            }
            (at, wrapped) = (0, true);
            continue;
        }
        let fields =
            (u64_at(record, layout.time), u16_at(record, layout.text_len), u8_at(record, layout.flags));
        let (Some(time), Some(text_len), Some(flags)) = fields else {
            return (found, Some(Cut::Short));
        };
        let end = layout.size.saturating_add(usize::from(text_len));
        if len < layout.size || (wrapped && at < next && at + len > next) {
            return (found, Some(Cut::Chain));
        }
        let text = record.get(layout.size..end.min(len));
        found.push(LogRecord {
            sequence: 0,
            time,
            level: flags >> 5,
            message: text.map(lossless),
            errors: RowErrors::default(),
        });
        if text.is_none() {
            return (found, Some(Cut::Short));
        }
        at += len;
    }
    (found, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;

    const LAYOUT: Layout = Layout { size: 16, time: 0, len: 8, text_len: 10, flags: 15 };

    fn record(time: u64, level: u8, text: &str) -> Vec<u8> {
        let len = (16 + text.len()).next_multiple_of(8) as u16;
        let mut bytes = Vec::from(time.to_le_bytes());
        bytes.extend(len.to_le_bytes());
        bytes.extend((text.len() as u16).to_le_bytes());
        bytes.extend([0, 0, 0, level << 5 | 6]);
        bytes.extend(text.bytes());
        bytes.resize(usize::from(len), 0);
        bytes
    }

    fn texts(buffer: &[u8], first: usize, next: usize) -> Vec<(u64, u8, String)> {
        let (found, _) = records(buffer, first, next, LAYOUT, 100);
        found.into_iter().map(|r| (r.time, r.level, r.message.unwrap_or_default())).collect()
    }

    #[test]
    fn records_follow_each_other_and_go_round() {
        let parts = [record(1, 6, "one"), record(2, 3, ""), record(30, 7, "a third, longer")];
        let whole = parts.concat();
        let all = [(1, 6, "one".into()), (2, 3, String::new()), (30, 7, "a third, longer".into())];
        assert_eq!(texts(&whole, 0, whole.len()), all);
        // The newest at the start; behind the oldest, the mark of the end.
        let round = [&parts[2][..], &[0; 8], &parts[0], &parts[1], &[0; 16]].concat();
        let first = parts[2].len() + 8;
        assert_eq!(texts(&round, first, parts[2].len()), all);
        assert_eq!(texts(&whole, 0, 0), []);
    }

    #[test]
    fn a_log_that_was_cut_says_why() {
        let whole = [record(1, 6, "one"), record(2, 3, "two")].concat();
        let cut = |buffer: &[u8], first, next, most| {
            let (found, cut) = records(buffer, first, next, LAYOUT, most);
            (found.len(), cut)
        };
        let all = whole.len();
        assert_eq!(cut(&whole, 0, all, 2), (2, None));
        assert_eq!(cut(&whole, 0, all, 1), (1, Some(Cut::Limit)));
        assert_eq!(cut(&whole[..all / 2], 0, all, 9), (1, Some(Cut::Short)));
        assert_eq!(cut(&[0; 64], 8, 32, 9), (0, Some(Cut::Chain)));
        let mut damaged = whole.clone();
        damaged[all / 2 + LAYOUT.len] = 3;
        assert_eq!(cut(&damaged, 0, all, 9), (1, Some(Cut::Chain)));
    }

    #[test]
    fn damaged_records_end_the_log() {
        let whole = [record(1, 6, "one"), record(2, 3, "two")].concat();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0xff;
            assert!(texts(&damaged, 0, whole.len()).len() <= 100);
            assert!(texts(&whole[..at], 0, whole.len()).len() <= 2);
        }
        assert_eq!(texts(&[0; 64], 8, 32), []);
        assert_eq!(texts(&whole, 1000, 32), []);
    }
}
