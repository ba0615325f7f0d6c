//! Addresses: physical and virtual ones are types of their own, so that they cannot be mixed up.
//!
//! Arithmetic is checked: an address comes from a guest, and a guest may have written any number.

use core::fmt;

macro_rules! address {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(u64);

        impl $name {
            /// The address with this number.
            #[must_use]
            pub const fn new(address: u64) -> Self {
                Self(address)
            }

            /// The number.
            #[must_use]
            pub const fn get(self) -> u64 {
                self.0
            }

            /// Is this address zero?
            #[must_use]
            pub const fn is_null(self) -> bool {
                self.0 == 0
            }

            /// `bytes` further on, or nothing where the address space ends before.
            #[must_use]
            pub const fn checked_add(self, bytes: u64) -> Option<Self> {
                match self.0.checked_add(bytes) {
                    Some(sum) => Some(Self(sum)),
                    None => None,
                }
            }

            /// `bytes` before, or nothing where that is below zero.
            #[must_use]
            pub const fn checked_sub(self, bytes: u64) -> Option<Self> {
                match self.0.checked_sub(bytes) {
                    Some(difference) => Some(Self(difference)),
                    None => None,
                }
            }

            /// `bytes` further on, around the end of the address space if it must be: what a CPU's adder does.
            #[must_use]
            pub const fn wrapping_add(self, bytes: u64) -> Self {
                Self(self.0.wrapping_add(bytes))
            }

            /// How many bytes `earlier` lies before this address, if it does.
            #[must_use]
            pub const fn offset_from(self, earlier: Self) -> Option<u64> {
                self.0.checked_sub(earlier.0)
            }

            /// The start of the block of `size` bytes (a power of two) that this address lies in.
            #[must_use]
            pub const fn align_down(self, size: u64) -> Self {
                Self(self.0 & !(size.wrapping_sub(1)))
            }

            /// How far this address lies into its block of `size` bytes (a power of two).
            #[must_use]
            pub const fn offset_in(self, size: u64) -> u64 {
                self.0 & (size.wrapping_sub(1))
            }

            /// Is the address a multiple of `size` (a power of two)?
            #[must_use]
            pub const fn is_aligned(self, size: u64) -> bool {
                self.offset_in(size) == 0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:#x})"), self.0)
            }
        }

        impl fmt::LowerHex for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::LowerHex::fmt(&self.0, f)
            }
        }

        impl From<u64> for $name {
            fn from(address: u64) -> Self {
                Self(address)
            }
        }
    };
}

address! {
    /// An address in the guest's physical memory.
    PhysAddr
}

address! {
    /// An address in a guest's virtual memory: only meaningful together with a page table root.
    VirtAddr
}

/// Bytes of the smallest page of the architectures that are known here, and of Linux' and Windows' bookkeeping.
pub const PAGE_SIZE: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_ends_where_the_address_space_ends() {
        let last = VirtAddr::new(u64::MAX);
        assert_eq!(last.checked_add(1), None);
        assert_eq!(last.wrapping_add(1), VirtAddr::new(0));
        assert_eq!(VirtAddr::new(0).checked_sub(1), None);
        assert_eq!(VirtAddr::new(4).offset_from(VirtAddr::new(5)), None);
    }

    #[test]
    fn blocks_are_powers_of_two() {
        let address = PhysAddr::new(0x1234_5678);
        assert_eq!(address.align_down(0x1000), PhysAddr::new(0x1234_5000));
        assert_eq!(address.offset_in(0x20_0000), 0x14_5678);
        assert!(PhysAddr::new(0x20_0000).is_aligned(0x20_0000));
    }
}
