//! The export table of an image.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use vmc::addr::PAGE_SIZE;
use vmc::bytes::{u16_at, u32_at};
use vmc::{Limits, ReadError, ReadExt, VirtAddr, VirtualMemory};

use super::Image;

/// Functions and names of one table: ordinals have 16 bits.
const ENTRIES: u32 = 1 << 16;

/// What an image exports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// Its place, from the image's base.
    pub rva: u32,
    /// Its number.
    pub ordinal: u32,
    /// Its name; some have a number alone, and a name's page may be missing.
    pub name: Option<String>,
}

/// The export table of an image, read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exports {
    /// What the table calls the image.
    name: Option<String>,
    /// Ascending by place; those that stand for another image's are left out.
    by_place: Vec<Export>,
    /// Places in `by_place`, ascending by name.
    by_name: Vec<u32>,
}

impl Exports {
    /// What the table calls the image (`ntoskrnl.exe`).
    #[must_use]
    pub fn image_name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// All of them, ascending by place.
    #[must_use]
    pub fn all(&self) -> &[Export] {
        &self.by_place
    }

    /// The last one that begins at or before `rva`, one with a name where several begin there.
    #[must_use]
    pub fn at(&self, rva: u32) -> Option<&Export> {
        let behind = self.by_place.partition_point(|export| export.rva <= rva);
        let last = self.by_place.get(behind.checked_sub(1)?)?;
        let first = self.by_place.partition_point(|export| export.rva < last.rva);
        let same = self.by_place.get(first..behind)?;
        Some(same.iter().find(|export| export.name.is_some()).unwrap_or(last))
    }

    /// The one of that name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Export> {
        let place = |index: &u32| self.by_place.get(*index as usize);
        let found = self.by_name.binary_search_by(|index| {
            place(index).and_then(|export| export.name.as_deref()).unwrap_or_default().cmp(name)
        });
        place(self.by_name.get(found.ok()?)?)
    }
}

impl Image {
    /// The name that the export table has for the image, without reading the rest. None where it has no such table.
    ///
    /// # Errors
    /// [`ReadError`] where it is not in memory.
    pub fn export_name<V: VirtualMemory + ?Sized>(&self, memory: &V) -> Result<Option<String>, ReadError> {
        let Some((rva, _)) = self.directory(0) else { return Ok(None) };
        let name: u32 = memory.read_value(self.base.wrapping_add(u64::from(rva) + 12))?;
        let Some(at) = self.address(name) else { return Ok(None) };
        Ok(Some(String::from_utf8_lossy(&memory.read_cstr(at, 256)?).into_owned()))
    }

    /// The export table; empty where there is none. Entries whose pages are missing are left out, or lack their names.
    ///
    /// # Errors
    /// [`ReadError`] where its head is not in memory.
    pub fn exports<V: VirtualMemory + ?Sized>(
        &self,
        memory: &V,
        limits: &Limits,
    ) -> Result<Exports, ReadError> {
        let Some((rva, bytes)) = self.directory(0) else { return Ok(Exports::default()) };
        let head = super::bytes::<40, V>(memory, self.base.wrapping_add(u64::from(rva)))?;
        let field = |offset| u32_at(&head, offset).unwrap_or_default();
        let (first_ordinal, functions, names) = (field(16), field(20).min(ENTRIES), field(24).min(ENTRIES));
        let functions = self.table(memory, field(28), functions, 4);
        let (name_places, name_ordinals) =
            (self.table(memory, field(32), names, 4), self.table(memory, field(36), names, 2));
        let mut budget = limits.symbol_bytes;
        let mut all: Vec<(u32, Option<String>)> = vec![(0, None); functions.len() / 4];
        for (index, (place, _)) in all.iter_mut().enumerate() {
            *place = u32_at(&functions, index * 4).unwrap_or_default();
        }
        // A forwarded function's place is text within the table.
        let own = |place: u32| {
            place != 0 && place < self.size && place.checked_sub(rva).is_none_or(|at| at >= bytes)
        };
        let mut exports = Vec::new();
        for index in 0..(name_places.len() / 4).min(name_ordinals.len() / 2) {
            let (Some(place), Some(ordinal)) =
                (u32_at(&name_places, index * 4), u16_at(&name_ordinals, index * 2))
            else {
                break;
            };
            let Some((function, _)) = all.get(usize::from(ordinal)) else { continue };
            if !own(*function) || place == 0 {
                continue;
            }
            let most = limits.demangled_bytes.min(budget);
            let name = self.address(place).and_then(|at| memory.read_cstr(at, most).ok());
            let Some(name) = name.filter(|name| !name.is_empty() && name.len() < most) else { continue };
            budget = budget.saturating_sub(name.len());
            let name = String::from_utf8_lossy(&name).into_owned();
            let (function, known) = match all.get_mut(usize::from(ordinal)) {
                Some(entry) => entry,
                None => continue,
            };
            if known.is_none() {
                *known = Some(name);
            } else {
                // A second name of the same function.
                let ordinal = first_ordinal.wrapping_add(u32::from(ordinal));
                exports.push(Export { rva: *function, ordinal, name: Some(name) });
            }
        }
        for (index, (place, name)) in all.into_iter().enumerate() {
            if own(place) {
                exports.push(Export { rva: place, ordinal: first_ordinal.wrapping_add(index as u32), name });
            }
        }
        exports.sort_by_key(|export| (export.rva, export.ordinal));
        let mut by_name: Vec<u32> =
            (0..).zip(&exports).filter(|(_, e)| e.name.is_some()).map(|(i, _)| i).collect();
        let name = |index: &u32| exports.get(*index as usize).and_then(|export| export.name.as_deref());
        by_name.sort_by(|a, b| name(a).cmp(&name(b)));
        Ok(Exports { name: self.export_name(memory).unwrap_or_default(), by_place: exports, by_name })
    }

    /// `count` entries of `width` bytes at `rva`, as many as lie in the image; zeros where pages are missing.
    fn table<V: VirtualMemory + ?Sized>(&self, memory: &V, rva: u32, count: u32, width: u32) -> Vec<u8> {
        let Some(start) = self.address(rva).filter(|_| rva != 0) else { return Vec::new() };
        let count = count.min((self.size - rva) / width);
        let mut bytes = vec![0; (count * width) as usize];
        fill_pages(memory, start, &mut bytes);
        bytes
    }
}

/// Reads page by page; what is missing stays as it is.
fn fill_pages<V: VirtualMemory + ?Sized>(memory: &V, start: VirtAddr, bytes: &mut [u8]) {
    let mut at = start;
    let mut rest = bytes;
    while !rest.is_empty() {
        let in_page = ((PAGE_SIZE - at.offset_in(PAGE_SIZE)) as usize).min(rest.len());
        let (page, behind) = rest.split_at_mut(in_page);
        if memory.read(at, page).is_err() {
            page.fill(0);
        }
        rest = behind;
        at = at.wrapping_add(in_page as u64);
    }
}
