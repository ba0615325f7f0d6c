//! Layouts of a kernel's structures: what the kernel tells of itself, and files where it tells nothing.
//!
//! # What it gives
//! [`Btf`] (what a kernel carries), [`DwarfTypes`] (what compilers write, `vmlinux` with debug information), [`IsfTypes`]
//! (volatility3's symbol files) and, with the feature `pdb`, `PdbTypes` (Microsoft's program databases), all as
//! [`vmc::layout::Layouts`]: members by path, sizes, whole structures. ISFs and PDBs give their symbols, too.
//!
//! # What it needs
//! Bytes: it opens no file (`no_std`). Whether a file is of the kernel that is looked at, the caller decides.
//!
//! # What it is not for
//! Types of programs: names are taken for C's, and of several structures with one name the first counts.
//!
//! # Why it is fast
//! Of DWARF only the outermost entries are gone through to see which structures there are, and an ISF is gone through once for where
//! what stands; members are read when they are asked for. The ISF of a Windows kernel (6 MB) takes 6 ms.
//!
//! # Hostile input
//! Files are no more trusted than guests: depths and counts are bounded by [`vmc::Limits`].
//!
//! # Example
//! ```
//! use vmc::layout::Types;
//! use vmc_types::IsfTypes;
//!
//! let file = br#"{"base_types": {"int": {"size": 4, "kind": "int"}}, "enums": {}, "symbols": {},
//!     "user_types": {"task": {"kind": "struct", "size": 8,
//!         "fields": {"pid": {"offset": 4, "type": {"kind": "base", "name": "int"}}}}}}"#;
//! let isf = IsfTypes::parse(file, &vmc::Limits::default())?;
//! assert_eq!(isf.member("task", "pid").map(|member| (member.offset, member.size)), Ok((4, 4)));
//! # Ok::<(), vmc_types::TypesError>(())
//! ```
#![no_std]

extern crate alloc;
#[cfg(feature = "pdb")]
extern crate std;

mod btf;
mod bytes;
#[cfg(feature = "dwarf")]
mod dwarf;
mod error;
#[cfg(any(feature = "dwarf", feature = "isf", feature = "pdb"))]
mod graph;
#[cfg(feature = "isf")]
mod isf;
#[cfg(feature = "pdb")]
mod owned;
#[cfg(feature = "pdb")]
mod pdb;

pub use btf::Btf;
pub use bytes::Bytes;
#[cfg(feature = "dwarf")]
pub use dwarf::{DwarfTypes, Sections};
pub use error::TypesError;
#[cfg(feature = "isf")]
pub use isf::{IsfPdb, IsfSymbol, IsfTypes};
#[cfg(feature = "pdb")]
pub use pdb::{PdbTypes, reading_pdb};

/// FNV-1a: short names, no key to keep.
fn hash(name: &[u8]) -> u64 {
    name.iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}
