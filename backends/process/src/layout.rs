//! Where in a process the guest's physical memory lies.

use std::fmt;

use vmc::{PhysAddr, Region};

use crate::error::LayoutError;
use crate::parse;

/// KVM's own bound on memory slots (`KVM_USER_MEM_SLOTS`): no monitor has more.
const MOST_PIECES: usize = 32_767;

/// Guest-physical memory that lies in one piece in the monitor's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Its first guest-physical address.
    pub guest: PhysAddr,
    /// Its length in bytes.
    pub len: u64,
    /// Its address in the process.
    pub host: u64,
}

/// A guest's physical memory in the monitor's process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// The pieces; none overlaps another.
    pub pieces: Vec<Piece>,
    /// How it is known, in words for people: `the host kernel's memory slots`.
    pub how: String,
    /// RAM in bytes: the pieces without firmware and other read-only memory.
    pub ram_bytes: u64,
}

impl Layout {
    /// A layout of `pieces`, all of them RAM, in ascending order.
    ///
    /// # Errors
    /// [`LayoutError`] where pieces are empty, overlap or pass the end of an address space.
    pub fn new(pieces: Vec<Piece>, how: impl Into<String>) -> Result<Self, LayoutError> {
        let mut layout = Self { pieces, how: how.into(), ram_bytes: 0 };
        layout.check()?;
        layout.ram_bytes = layout.total();
        Ok(layout)
    }

    /// A layout in words: pieces `GPA+SIZE@HVA` with commas between them, all taken for RAM. Numbers are hexadecimal with `0x`,
    /// else decimal; sizes may end in `K`, `M`, `G` or `T`.
    ///
    /// # Errors
    /// [`LayoutError`] where a piece is not of that form, or they cannot be together.
    pub fn parse(text: &str) -> Result<Self, LayoutError> {
        let pieces = text.split(',').map(|piece| {
            parse::piece(piece.trim()).ok_or_else(|| LayoutError::Malformed { text: piece.trim().to_owned() })
        });
        Self::new(pieces.collect::<Result<_, _>>()?, "the layout that was given")
    }

    /// Puts the pieces in ascending order and looks whether they can be together.
    ///
    /// # Errors
    /// [`LayoutError`] where pieces are empty, overlap or pass the end of an address space.
    pub fn check(&mut self) -> Result<(), LayoutError> {
        if self.pieces.is_empty() {
            return Err(LayoutError::Empty);
        }
        if self.pieces.len() > MOST_PIECES {
            return Err(LayoutError::TooMany { count: self.pieces.len(), most: MOST_PIECES });
        }
        self.pieces.sort_by_key(|piece| piece.guest);
        let mut end = 0;
        for piece in &self.pieces {
            let (guest, len, host) = (piece.guest.get(), piece.len, piece.host);
            let behind = guest.checked_add(len).filter(|_| len > 0 && host.checked_add(len).is_some());
            let Some(behind) = behind else { return Err(LayoutError::NoRoom { guest, len, host }) };
            if guest < end {
                return Err(LayoutError::Overlap { guest });
            }
            end = behind;
        }
        Ok(())
    }

    /// The bytes of all pieces.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.pieces.iter().fold(0, |sum, piece| sum.saturating_add(piece.len))
    }

    /// The guest-physical memory, in ascending order; pieces that touch are one region.
    #[must_use]
    pub fn regions(&self) -> Vec<Region> {
        let mut sorted: Vec<_> = self.pieces.iter().map(|p| Region { start: p.guest, len: p.len }).collect();
        sorted.sort_by_key(|region| region.start);
        let mut regions: Vec<Region> = Vec::new();
        for next in sorted {
            match regions.last_mut().filter(|last| last.end() == next.start) {
                Some(last) => last.len = last.len.saturating_add(next.len),
                None => regions.push(next),
            }
        }
        regions
    }
}

/// As [`Layout::parse`] reads it.
impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, piece) in self.pieces.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{:#x}+{:#x}@{:#x}", piece.guest.get(), piece.len, piece.host)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(guest: u64, len: u64, host: u64) -> Piece {
        Piece { guest: PhysAddr::new(guest), len, host }
    }

    #[test]
    fn layouts_are_read_as_they_are_written() {
        let layout = Layout::parse("4294967296+1G@0x7f00c0000000, 0x0+3G@0x7f0000000000").unwrap();
        let low = piece(0, 3 << 30, 0x7f00_0000_0000);
        assert_eq!(layout.pieces, [low, piece(4 << 30, 1 << 30, 0x7f00_c000_0000)]);
        assert_eq!(layout.ram_bytes, 4 << 30);
        assert_eq!(layout.to_string(), "0x0+0xc0000000@0x7f0000000000,0x100000000+0x40000000@0x7f00c0000000");
        assert_eq!(Layout::parse(&layout.to_string()), Ok(layout));
    }

    #[test]
    fn what_is_no_layout_is_refused() {
        for text in
            ["", "0+0x1000", "0@0x1000", "0x+1@2", "0+1Q@2", "0+99999999999G@0", "-1+1@1", "0+1@1,", "é+1K@0"]
        {
            assert!(matches!(Layout::parse(text), Err(LayoutError::Malformed { .. })), "{text}");
        }
        assert_eq!(
            Layout::parse("0x0+0x2000@0x5000,0x1fff+1@0x9000"),
            Err(LayoutError::Overlap { guest: 0x1fff })
        );
        for text in ["0+0@0x1000", "0xffffffffffffffff+2@0", "0+2@0xffffffffffffffff"] {
            assert!(matches!(Layout::parse(text), Err(LayoutError::NoRoom { .. })), "{text}");
        }
        assert_eq!(Layout::new(Vec::new(), ""), Err(LayoutError::Empty));
    }

    #[test]
    fn pieces_that_touch_are_one_region() {
        let layout =
            Layout::new(vec![piece(0x3000, 0x1000, 9), piece(0, 0x1000, 7), piece(0x1000, 0x1000, 1)], "");
        let regions = layout.unwrap().regions();
        let region = |start, len| Region { start: PhysAddr::new(start), len };
        assert_eq!(regions, [region(0, 0x2000), region(0x3000, 0x1000)]);
    }
}
