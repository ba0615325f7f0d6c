//! The encodings of kallsyms' addresses.

use alloc::borrow::Cow;

use vmc::VirtAddr;

use super::word;

/// How a 32-bit offset becomes an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    /// base + offset (5.x arm64, x86_64 since 6.15).
    Base(u64),
    /// Absolute where the offset is not negative (per-CPU symbols), else base - 1 - offset (x86_64 before 6.15).
    AbsolutePerCpu(u64),
    /// The address of the table's own entry + offset (7.0 and later).
    Place(u64),
}

impl Encoding {
    fn decode(self, offset: u32, index: usize) -> u64 {
        let signed = i64::from(offset.cast_signed());
        match self {
            Self::Base(base) => base.wrapping_add(u64::from(offset)),
            Self::AbsolutePerCpu(_) if signed >= 0 => u64::from(offset),
            Self::AbsolutePerCpu(base) => base.wrapping_sub(1).wrapping_add_signed(-signed),
            Self::Place(table) => table.wrapping_add(index as u64 * 4).wrapping_add_signed(signed),
        }
    }
}

/// The addresses of all symbols.
#[derive(Debug)]
pub(super) struct Addresses<'m> {
    offsets: Cow<'m, [u8]>,
    encoding: Encoding,
}

impl<'m> Addresses<'m> {
    /// The offsets, in the encoding that gives symbol number `known` a `right` address.
    pub(super) fn new(
        offsets: Cow<'m, [u8]>,
        table: VirtAddr,
        base: Option<u64>,
        known: usize,
        right: impl Fn(VirtAddr) -> bool,
    ) -> Option<Self> {
        let offset = word(&offsets, known)?;
        let relative =
            base.into_iter().flat_map(|base| [Encoding::AbsolutePerCpu(base), Encoding::Base(base)]);
        let mut encodings = relative.chain([Encoding::Place(table.get())]);
        let encoding = encodings.find(|encoding| right(VirtAddr::new(encoding.decode(offset, known))))?;
        Some(Self { offsets, encoding })
    }

    /// The address of symbol number `index`.
    pub(super) fn get(&self, index: usize) -> Option<VirtAddr> {
        Some(VirtAddr::new(self.encoding.decode(word(&self.offsets, index)?, index)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(offsets: &[i32], base: Option<u64>, known: usize, at: u64) -> Option<[u64; 3]> {
        let bytes = offsets.iter().flat_map(|offset| offset.to_le_bytes()).collect();
        let table = VirtAddr::new(0xffff_ffff_8200_0000);
        let found = Addresses::new(Cow::Owned(bytes), table, base, known, |found| found.get() == at)?;
        Some([0, 1, 2].map(|index| found.get(index).unwrap().get()))
    }

    #[test]
    fn the_encoding_is_the_one_that_fits() {
        let base = 0xffff_ffff_8100_0000;
        assert_eq!(addresses(&[0x100, -1, -0x11], Some(base), 1, base), Some([0x100, base, base + 0x10]));
        assert_eq!(
            addresses(&[0, 0x10, 0x20], Some(base), 1, base + 0x10),
            Some([base, base + 0x10, base + 0x20])
        );
        let table = 0xffff_ffff_8200_0000u64;
        let expected = [table - 0x100_0000, table + 4, table + 8 + 4];
        assert_eq!(addresses(&[-0x100_0000, 0, 4], None, 0, table - 0x100_0000), Some(expected));
        assert_eq!(addresses(&[1, 2, 3], Some(base), 0, 5), None);
    }
}
