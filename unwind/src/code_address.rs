//! [`CodeAddress`]: where a frame stands, and the one rule that goes with it.

use vmc::VirtAddr;

/// An address in code, as a walk meets it.
///
/// A return address is the one *behind* a call. The call may be the last instruction of its function (it never returns),
/// or the last one before the unwind rules change, so what is looked up is the byte before. An instruction pointer, of the
/// innermost frame or of one that a signal interrupted, is looked up as it is: it may be a function's first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CodeAddress {
    /// The instruction that is executed next.
    InstructionPointer(VirtAddr),
    /// Where a callee will return to.
    ReturnAddress(VirtAddr),
}

impl CodeAddress {
    /// The address as the guest has it, and as it is printed.
    #[must_use]
    pub const fn address(self) -> VirtAddr {
        match self {
            Self::InstructionPointer(address) | Self::ReturnAddress(address) => address,
        }
    }

    /// The address by which unwind rules, functions and lines are looked up.
    #[must_use]
    pub const fn address_for_lookup(self) -> VirtAddr {
        match self {
            Self::InstructionPointer(address) => address,
            Self::ReturnAddress(address) => VirtAddr::new(address.get().saturating_sub(1)),
        }
    }

    /// Is it a return address?
    #[must_use]
    pub const fn is_return_address(self) -> bool {
        matches!(self, Self::ReturnAddress(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_return_addresses_are_looked_up_one_before() {
        let at = VirtAddr::new(0x1000);
        assert_eq!(CodeAddress::InstructionPointer(at).address_for_lookup(), at);
        assert_eq!(CodeAddress::ReturnAddress(at).address_for_lookup(), VirtAddr::new(0xfff));
        assert_eq!(CodeAddress::ReturnAddress(VirtAddr::new(0)).address_for_lookup(), VirtAddr::new(0));
        assert_eq!(CodeAddress::ReturnAddress(at).address(), at);
    }
}
