//! [`Bits`]: a bit field, or a whole member, of up to 64 bits, at the place that the types tell.

use vmc::layout::StructLayout;
use vmc::{Limits, ReadError, ReadExt, VirtAddr, VirtualMemory};

use crate::types::KernelTypes;

/// Some bits of a structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bits {
    /// The first byte that has some of them.
    byte: u64,
    /// Bits of that byte that come before.
    shift: u32,
    /// How many they are.
    pub width: u32,
}

impl Bits {
    /// The member `name` of a structure; nothing where it has none, or one that is too wide.
    pub(crate) fn of(layout: &StructLayout, name: &str) -> Option<Self> {
        let member = layout.members.iter().find(|member| member.name == name)?;
        let shift = (member.bit_offset % 8) as u32;
        let width = u32::try_from(member.bit_size).ok().filter(|width| *width > 0 && shift + *width <= 64)?;
        Some(Self { byte: member.bit_offset / 8, shift, width })
    }

    /// The bits, out of the structure's bytes.
    pub(crate) fn get(&self, bytes: &[u8]) -> Option<u64> {
        let begin = usize::try_from(self.byte).ok()?;
        let len = (self.shift + self.width).div_ceil(8) as usize;
        let mut word = [0; 8];
        word.get_mut(..len)?.copy_from_slice(bytes.get(begin..begin.checked_add(len)?)?);
        let mask = if self.width == 64 { u64::MAX } else { (1 << self.width) - 1 };
        Some(u64::from_le_bytes(word) >> self.shift & mask)
    }

    /// The bits, of the structure at `base`.
    pub(crate) fn read<V: VirtualMemory + ?Sized>(
        &self,
        memory: &V,
        base: VirtAddr,
    ) -> Result<u64, ReadError> {
        let len = u64::from((self.shift + self.width).div_ceil(8));
        let bytes = memory.read_vec(base.wrapping_add(self.byte), len, 8)?;
        Ok(Self { byte: 0, ..*self }.get(&bytes).unwrap_or_default())
    }

    /// The same, of the structure `structure`.
    pub(crate) fn in_type(types: &KernelTypes, structure: &str, name: &str, limits: &Limits) -> Option<Self> {
        Self::of(&types.layout(structure, limits).ok()?, name)
    }

    /// The bits, out of a word that is the whole structure; 0 where they lie outside.
    pub(crate) fn in_word(&self, word: u64) -> u64 {
        self.get(&word.to_le_bytes()).unwrap_or_default()
    }

    /// The same number with the sign of its highest bit: pointers are kept with 48 of their bits.
    pub(crate) fn signed_in_word(&self, word: u64) -> u64 {
        let unused = 64_u32.saturating_sub(self.width);
        (self.in_word(word).wrapping_shl(unused).cast_signed() >> unused).cast_unsigned()
    }

    /// The largest number that they hold.
    pub(crate) const fn most(&self) -> u64 {
        u64::MAX >> 64_u32.saturating_sub(self.width)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use vmc::layout::StructMember;

    #[test]
    fn bits_lie_where_the_types_say() {
        let member = |name: &str, bit_offset, bit_size| StructMember {
            name: name.into(),
            bit_offset,
            bit_size,
            type_name: "u64".into(),
        };
        let members = vec![member("pointer", 20, 44), member("access", 64, 25), member("all", 0, 64)];
        let layout = StructLayout { name: "entry".into(), size: 16, members };
        let mut entry = [0u8; 16];
        entry[..8].copy_from_slice(&(0x0fff_1234_5678u64 << 20 | 0xabcde).to_le_bytes());
        entry[8..].copy_from_slice(&0x021f_0003u64.to_le_bytes());
        assert_eq!(Bits::of(&layout, "pointer").unwrap().get(&entry), Some(0x0fff_1234_5678));
        assert_eq!(Bits::of(&layout, "access").unwrap().get(&entry), Some(0x1f_0003));
        assert_eq!(Bits::of(&layout, "all").unwrap().get(&entry[..4]), None);
        assert_eq!(Bits::of(&layout, "none"), None);
    }

    #[test]
    fn words_are_cut_and_keep_their_sign() {
        let member = StructMember {
            name: "ProtoAddress".into(),
            bit_offset: 16,
            bit_size: 48,
            type_name: "long long".into(),
        };
        let layout = StructLayout { name: "entry".into(), size: 8, members: vec![member] };
        let bits = Bits::of(&layout, "ProtoAddress").unwrap();
        assert_eq!(bits.in_word(0xf28d_9724_5040_0400), 0xf28d_9724_5040);
        assert_eq!(bits.signed_in_word(0xf28d_9724_5040_0400), 0xffff_f28d_9724_5040);
        assert_eq!(bits.in_word(0xffff_ffff_ffff_0000), bits.most());
    }
}
