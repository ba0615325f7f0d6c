//! [`Bits`]: a bit field of a word, out of the types.

use vmc::Limits;
use vmc::layout::StructLayout;

use crate::types::KernelTypes;

/// Some bits of a word of 64 bits or less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bits {
    shift: u32,
    mask: u64,
}

impl Bits {
    /// The member `name` of a structure that fits a word.
    pub(crate) fn of(layout: &StructLayout, name: &str) -> Option<Self> {
        let member = layout.members.iter().find(|member| member.name == name)?;
        let (shift, width) = (u32::try_from(member.bit_offset).ok()?, u32::try_from(member.bit_size).ok()?);
        let fits = shift.checked_add(width).is_some_and(|end| end <= 64) && width > 0;
        fits.then(|| Self { shift, mask: u64::MAX >> (64 - width) })
    }

    /// The same, of the structure `structure`.
    pub(crate) fn in_type(types: &KernelTypes, structure: &str, name: &str, limits: &Limits) -> Option<Self> {
        Self::of(&types.layout(structure, limits).ok()?, name)
    }

    /// What they say in `word`.
    pub(crate) const fn get(self, word: u64) -> u64 {
        (word >> self.shift) & self.mask
    }

    /// Is any of them set?
    pub(crate) const fn any(self, word: u64) -> bool {
        self.get(word) != 0
    }

    /// The same number with the sign of its highest bit: pointers are kept with 48 of their bits.
    pub(crate) const fn signed(self, word: u64) -> u64 {
        let unused = self.mask.leading_zeros();
        ((self.get(word) << unused).cast_signed() >> unused).cast_unsigned()
    }

    /// Are all of them set?
    pub(crate) const fn all(self, word: u64) -> bool {
        self.get(word) == self.mask
    }

    /// The largest number that they hold.
    pub(crate) const fn most(self) -> u64 {
        self.mask
    }

    /// How many they are.
    pub(crate) const fn width(self) -> u32 {
        self.mask.count_ones()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use alloc::vec;
    use vmc::layout::StructMember;

    #[test]
    fn fields_are_cut_out_and_keep_their_sign() {
        let member =
            StructMember { name: "A".into(), bit_offset: 16, bit_size: 48, type_name: String::new() };
        let long = StructMember { name: "B".into(), bit_offset: 60, bit_size: 8, type_name: String::new() };
        let layout = StructLayout { name: "S".into(), size: 8, members: vec![member, long] };
        let bits = Bits::of(&layout, "A").unwrap();
        assert_eq!(bits.get(0xf28d_9724_5040_0400), 0xf28d_9724_5040);
        assert_eq!(bits.signed(0xf28d_9724_5040_0400), 0xffff_f28d_9724_5040);
        assert!(bits.all(0xffff_ffff_ffff_0000) && !bits.any(0xffff));
        assert_eq!((Bits::of(&layout, "B"), Bits::of(&layout, "C")), (None, None));
    }
}
