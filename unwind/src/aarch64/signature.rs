//! [`Signature`]: which bits of a code address are its signature.
//!
//! Source: Arm Architecture Reference Manual, D8.10 (pointer authentication); `arch/arm64/include/asm/pointer_auth.h`,
//! `Documentation/arch/arm64/pointer-authentication.rst`. Bit 55 tells the half of the address space that the address lies in;
//! the bits between it and the address proper are the signature, and the top byte where it is not a tag.

/// Bit 55: set in addresses of the upper half.
const UPPER: u64 = 1 << 55;

/// The bits of a code address that may hold a signature (PAC) or a tag.
///
/// ```
/// use vmc_unwind::aarch64::Signature;
///
/// let signature = Signature::of_address_bits(48);
/// assert_eq!(signature.strip(0x003a_ffff_8123_4560), 0xffff_8123_4560);
/// assert_eq!(signature.strip(0xa5d2_8000_0812_3458), 0xffff_8000_0812_3458);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Signature {
    mask: u64,
}

impl Signature {
    /// All bits above an address of so many bits (what `VA_BITS` says, or `NUMBER(TCR_EL1_T1SZ)` subtracted from 64), without
    /// bit 55. Too large a number makes them none.
    #[must_use]
    pub const fn of_address_bits(bits: u32) -> Self {
        Self::of_mask(match u64::MAX.checked_shl(bits) {
            Some(mask) => mask,
            None => 0,
        })
    }

    /// The bits that are set in `mask`; bit 55 is none of them.
    #[must_use]
    pub const fn of_mask(mask: u64) -> Self {
        Self { mask: mask & !UPPER }
    }

    /// The bits.
    #[must_use]
    pub const fn mask(self) -> u64 {
        self.mask
    }

    /// The address without its signature: an address of the upper half gets ones, others zeros. One that has none stays.
    #[must_use]
    pub const fn strip(self, address: u64) -> u64 {
        if address & UPPER == 0 { address & !self.mask } else { address | self.mask }
    }
}

impl Default for Signature {
    /// That of addresses of 48 bits.
    fn default() -> Self {
        Self::of_address_bits(48)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_half_of_the_address_tells_what_stood_there() {
        let signature = Signature::default();
        assert_eq!(signature.mask(), 0xff7f_0000_0000_0000);
        for (signed, plain) in [
            (0x0000_aaaa_1234_5678, 0x0000_aaaa_1234_5678),
            (0xff7f_aaaa_1234_5678, 0x0000_aaaa_1234_5678),
            (0x0080_8000_0000_1000, 0xffff_8000_0000_1000),
            (0xffff_8000_0000_1000, 0xffff_8000_0000_1000),
            (0, 0),
        ] {
            assert_eq!(signature.strip(signed), plain);
            assert_eq!(signature.strip(plain), plain);
        }
    }

    #[test]
    fn larger_addresses_leave_less_room() {
        assert_eq!(Signature::of_address_bits(52).strip(0x007f_8765_0000_0000), 0x000f_8765_0000_0000);
        assert_eq!(Signature::of_address_bits(39).strip(0x007f_ff81_0000_0000), 0x0000_0001_0000_0000);
        assert_eq!(Signature::of_address_bits(64).mask(), 0);
        assert_eq!(Signature::of_mask(u64::MAX).mask(), !UPPER);
    }
}
