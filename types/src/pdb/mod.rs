//! Types and public symbols out of PDB files (Microsoft's program databases).
//!
//! The container and its records are read by the `pdb2` crate. A PDB may come from anywhere, and that crate takes some damaged records
//! for impossible, and some counts for true: what it is given was looked at first (`guard`), records whose counts it believes are
//! not given to it, and should it panic, that is caught and is an error like others. What is not checked beforehand are the records
//! themselves; what is copied out of them grows with the file.

mod guard;
mod records;

use core::cell::Cell;
use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::string::ToString;

use pdb2::{FallibleIterator, PDB, SymbolData};
use vmc::Limits;
use vmc::layout::{LayoutError, Layouts, Member, StructLayout, Types};
use vmc::symbols::{SymbolTable, SymbolTableBuilder};

use crate::error::TypesError;
use crate::graph;
use crate::owned::Owned;

/// The kinds of records that are public symbols: `S_PUB32`, and as older linkers wrote it.
const PUBLIC: [u16; 2] = [0x110e, 0x1009];

/// Types and public symbols out of a PDB, as Microsoft's linker writes it and symbol servers hand it out.
///
/// # What it gives
/// Structures and unions as [`Layouts`], by the names that C has for them; public [symbols](Self::symbols) with addresses from the
/// image's base (those of functions and of data, without sizes); the [GUID](Self::guid) and [age](Self::age) by which an image
/// names its PDB.
///
/// # What it needs
/// The file's bytes, whole, and the standard library. Whether it is the PDB of the image that is looked at, the caller decides, by
/// GUID and age.
///
/// # What it is not for
/// Lines, local variables and private symbols are not read, and of several structures with one name the first counts.
///
/// # Hostile input
/// A file may come from anywhere. The container is checked before the `pdb2` crate sees it, records whose counts that crate would
/// believe are kept from it, types and symbols are bounded by [`Limits`]. Should it panic all the same, that is caught and becomes a
/// [`TypesError`]: a program that is built with `panic = "abort"` ends there. [`reading_pdb`] tells a panic hook of such a moment.
///
/// # Example
/// ```no_run
/// use vmc::layout::Types;
/// use vmc_types::PdbTypes;
///
/// let pdb = PdbTypes::parse(&std::fs::read("ntkrnlmp.pdb")?, &vmc::Limits::default())?;
/// let member = pdb.member("_EPROCESS", "UniqueProcessId")?;
/// println!("{} bytes at {:#x}", member.size, member.offset);
/// for symbol in pdb.symbols().named(b"PsActiveProcessHead") {
///     println!("the list of processes: the image's base and {:#x}", symbol.address);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct PdbTypes {
    graph: Owned,
    symbols: SymbolTable,
    guid: [u8; 16],
    age: u32,
}

std::thread_local! {
    static READING: Cell<bool> = const { Cell::new(false) };
}

/// Is a PDB being read by this thread? A panic that comes then is caught: who has a panic hook need not tell of it.
#[must_use]
pub fn reading_pdb() -> bool {
    READING.get()
}

fn bad(why: &pdb2::Error) -> TypesError {
    TypesError::Pdb { reason: why.to_string() }
}

impl PdbTypes {
    /// The types and symbols in the file whose bytes these are.
    ///
    /// # Errors
    /// [`TypesError`] where it is no PDB, or has more types than the limit. One without types (stripped of them, as those of many
    /// libraries are) is read all the same.
    pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Self, TypesError> {
        guard::check(bytes).map_err(|reason| TypesError::Pdb { reason: reason.to_string() })?;
        READING.set(true);
        let read = catch_unwind(AssertUnwindSafe(|| Self::read(bytes, limits)));
        READING.set(false);
        read.unwrap_or_else(|_| Err(TypesError::Pdb { reason: "a record is damaged".to_string() }))
    }

    fn read(bytes: &[u8], limits: &Limits) -> Result<Self, TypesError> {
        let mut file = PDB::open(Cursor::new(bytes)).map_err(|why| bad(&why))?;
        let information = file.pdb_information().map_err(|why| bad(&why))?;
        let guid = information.guid.to_bytes_le();
        let debug = file.debug_information().map_err(|why| bad(&why))?;
        let age = debug.age().unwrap_or(information.age);
        let graph = match file.type_information() {
            Ok(types) => records::graph(&types, limits)?,
            Err(pdb2::Error::StreamNotFound(_)) => Owned::new(limits),
            Err(why) => return Err(bad(&why)),
        };
        let symbols = symbols(&mut file, limits).map_err(|why| bad(&why))?;
        Ok(Self { graph, symbols, guid, age })
    }

    /// The GUID of the file, as it lies in the image's CodeView record.
    #[must_use]
    pub const fn guid(&self) -> [u8; 16] {
        self.guid
    }

    /// The age that the image's record has, too.
    #[must_use]
    pub const fn age(&self) -> u32 {
        self.age
    }

    /// The public symbols, by their addresses from the image's base.
    #[must_use]
    pub const fn symbols(&self) -> &SymbolTable {
        &self.symbols
    }

    /// The same, to keep.
    #[must_use]
    pub fn into_symbols(self) -> SymbolTable {
        self.symbols
    }

    /// The names of the structures and unions that are described, in no order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.graph.named.keys().map(alloc::string::String::as_str)
    }
}

fn symbols<'s>(file: &mut PDB<'s, Cursor<&'s [u8]>>, limits: &Limits) -> Result<SymbolTable, pdb2::Error> {
    let mut builder = SymbolTableBuilder::default();
    let table = file.global_symbols()?;
    let places = file.address_map()?;
    let mut records = table.iter();
    let mut left = limits.symbols;
    while let Some(record) = records.next()? {
        // Other records are not parsed: `pdb2` makes room for as many functions as one says it lists. A damaged one takes no others
        // with it.
        if PUBLIC.contains(&record.raw_kind())
            && let Ok(SymbolData::Public(public)) = record.parse()
            && let Some(place) = public.offset.to_rva(&places)
        {
            let Some(fewer) = left.checked_sub(1) else { break };
            left = fewer;
            let kind = if public.function || public.code { 'T' } else { 'D' };
            builder.push(public.name.as_bytes(), place.0.into(), 0, kind);
        }
    }
    Ok(builder.build())
}

impl Types for PdbTypes {
    fn member(&self, structure: &str, path: &str) -> Result<Member, LayoutError> {
        graph::member(&self.graph, structure, path)
    }

    fn size_of(&self, structure: &str) -> Result<u64, LayoutError> {
        graph::size_of(&self.graph, structure)
    }
}

impl Layouts for PdbTypes {
    fn layout(&self, name: &str, limits: &Limits) -> Result<StructLayout, LayoutError> {
        graph::layout(&self.graph, name, limits)
    }
}
