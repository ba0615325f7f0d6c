//! Type layouts: where a kernel keeps which member, checked when a field is made, not when it is read.
//!
//! A source of types ([`Types`]: BTF, DWARF, PDB, …) is asked once for each member that is needed; what comes back is a
//! [`Field`] that knows its offset and its Rust type, and whose size was compared with the guest's.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;

use bytemuck::Pod;

use crate::addr::VirtAddr;
use crate::limits::Limits;
use crate::virt::{ReadError, ReadExt, VirtualMemory};

/// Why a layout is not to be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// No type of that name.
    #[error("the guest's types have no {name}")]
    NoType {
        /// The name.
        name: String,
    },
    /// The type has no such member.
    #[error("{structure} has no member {member}")]
    NoMember {
        /// The type.
        structure: String,
        /// The member, or the path to it.
        member: String,
    },
    /// The member has another size than it is to be read with.
    #[error("{structure}.{member} has {found} bytes, not {expected}")]
    Size {
        /// The type.
        structure: String,
        /// The member.
        member: String,
        /// Its size in the guest.
        found: u64,
        /// The size of what it was to be read as.
        expected: u64,
    },
    /// The type information contradicts itself.
    #[error("the guest's type information is damaged: {reason} (type {id})")]
    Damaged {
        /// The number of the type.
        id: u32,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// A member, found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its distance from the start of the structure, in bytes.
    pub offset: u64,
    /// Its size in bytes.
    pub size: u64,
}

/// A whole structure, as `pahole` would show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StructLayout {
    /// Its name.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its members in their order; those of anonymous structures and unions are listed as its own.
    pub members: Vec<StructMember>,
}

/// A member of a [`StructLayout`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StructMember {
    /// Its name.
    pub name: String,
    /// Its distance from the start of the structure, in bits.
    pub bit_offset: u64,
    /// Its size in bits.
    pub bit_size: u64,
    /// Its type, in C.
    pub type_name: String,
}

/// A source of type layouts.
pub trait Types {
    /// The member at `path` (`a.b` goes into members that are structures themselves) of a structure or union.
    /// Anonymous members are searched through.
    ///
    /// # Errors
    /// [`LayoutError`] where the type or the member is not there.
    fn member(&self, structure: &str, path: &str) -> Result<Member, LayoutError>;

    /// The size of a structure or union in bytes.
    ///
    /// # Errors
    /// [`LayoutError`] where there is no such type.
    fn size_of(&self, structure: &str) -> Result<u64, LayoutError>;
}

/// A source of type layouts that shows whole structures, too.
pub trait Layouts: Types {
    /// The whole structure or union `name`.
    ///
    /// # Errors
    /// [`LayoutError`] where there is no such type, or it is damaged.
    fn layout(&self, name: &str, limits: &Limits) -> Result<StructLayout, LayoutError>;
}

/// A member that is read as a `T`.
pub struct Field<T> {
    offset: u64,
    kind: PhantomData<fn() -> T>,
}

impl<T> Clone for Field<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Field<T> {}

impl<T> fmt::Debug for Field<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "+{:#x}: {}", self.offset, core::any::type_name::<T>())
    }
}

impl<T: Pod> Field<T> {
    /// The member at `path`, which has to have the size of a `T`.
    ///
    /// # Errors
    /// [`LayoutError`] where it is not there or has another size.
    pub fn new(types: &impl Types, structure: &str, path: &str) -> Result<Self, LayoutError> {
        let member = types.member(structure, path)?;
        let expected = size_of::<T>() as u64;
        if member.size != expected {
            return Err(LayoutError::Size {
                structure: structure.to_string(),
                member: path.to_string(),
                found: member.size,
                expected,
            });
        }
        Ok(Self { offset: member.offset, kind: PhantomData })
    }

    /// The first of several members that is there: kernels rename and move what they keep.
    ///
    /// # Errors
    /// The error for the last of them.
    pub fn first(types: &impl Types, structure: &str, paths: &[&str]) -> Result<Self, LayoutError> {
        let mut error = LayoutError::NoMember { structure: structure.to_string(), member: String::new() };
        for path in paths {
            match Self::new(types, structure, path) {
                Ok(field) => return Ok(field),
                Err(why) => error = why,
            }
        }
        Err(error)
    }

    /// A member that no types tell of and that is known to lie at `offset`.
    #[must_use]
    pub const fn at(offset: u64) -> Self {
        Self { offset, kind: PhantomData }
    }

    /// Where the field of the structure at `base` lies.
    #[must_use]
    pub const fn address(&self, base: VirtAddr) -> VirtAddr {
        base.wrapping_add(self.offset)
    }

    /// The field of the structure at `base`.
    ///
    /// # Errors
    /// As [`VirtualMemory::read`].
    pub fn read<M: VirtualMemory + ?Sized>(&self, memory: &M, base: VirtAddr) -> Result<T, ReadError> {
        memory.read_value(self.address(base))
    }
}

impl Field<u64> {
    /// The pointer in the structure at `base`.
    ///
    /// # Errors
    /// As [`VirtualMemory::read`].
    pub fn pointer<M: VirtualMemory + ?Sized>(
        &self,
        memory: &M,
        base: VirtAddr,
    ) -> Result<VirtAddr, ReadError> {
        memory.read_pointer(self.address(base))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct OneType;

    impl Types for OneType {
        fn member(&self, structure: &str, path: &str) -> Result<Member, LayoutError> {
            match (structure, path) {
                ("task", "pid") => Ok(Member { offset: 8, size: 4 }),
                _ => {
                    Err(LayoutError::NoMember { structure: structure.to_string(), member: path.to_string() })
                }
            }
        }

        fn size_of(&self, _: &str) -> Result<u64, LayoutError> {
            Ok(16)
        }
    }

    #[test]
    fn a_field_of_another_size_is_refused() {
        assert!(Field::<u32>::new(&OneType, "task", "pid").is_ok());
        let error = Field::<u64>::new(&OneType, "task", "pid").unwrap_err();
        assert_eq!(error.to_string(), "task.pid has 4 bytes, not 8");
    }

    #[test]
    fn the_first_member_that_is_there_is_taken() {
        let field = Field::<u32>::first(&OneType, "task", &["tid", "pid"]).unwrap();
        assert_eq!(field.address(VirtAddr::new(0x100)), VirtAddr::new(0x108));
        let error = Field::<u32>::first(&OneType, "task", &["tid", "id"]).unwrap_err();
        assert_eq!(error.to_string(), "task has no member id");
    }
}
