//! What can be wrong with a file of types.

use alloc::string::String;

/// Why a file of types cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TypesError {
    /// Its debug information is damaged.
    #[error("its DWARF cannot be read: {reason} (unit {unit})")]
    Dwarf {
        /// The number of the unit.
        unit: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// It is no ISF.
    #[error("it is no volatility3 ISF: {reason}")]
    Isf {
        /// What is wrong with it.
        reason: String,
    },
    /// It is no PDB, or a damaged one.
    #[error("its PDB cannot be read: {reason}")]
    Pdb {
        /// What is wrong with it.
        reason: String,
    },
    /// It has nothing.
    #[error("it describes no structure")]
    Empty,
}
