//! [`Table`]: a handle table (`_HANDLE_TABLE`) of one to three levels. The table of process and thread ids is one, too.

use alloc::vec::Vec;

use hashbrown::HashSet;
use vmc::{ReadExt, VirtAddr, VirtualMemory};

use crate::error::WindowsError;
use crate::fields::TableFields;
use crate::windows::Windows;

/// Bytes of a page.
const PAGE_SIZE: u64 = 4096;
/// Pointers on a page of the upper levels.
const POINTERS: u64 = PAGE_SIZE / 8;
/// Handles count by fours.
const STEP: u64 = 4;

/// A place of a table that is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub handle: u32,
    /// The address that the entry holds: an object's header, in the table of ids its body.
    pub object: VirtAddr,
    pub access: Option<u32>,
}

/// Goes through a table's entries that are taken. An error costs the page that it is about; the table goes on behind it.
pub(crate) struct Table<'w> {
    windows: &'w Windows<'w>,
    fields: &'w TableFields,
    root: VirtAddr,
    levels: u64,
    /// The page of entries that is read next, counted from 0, and the first that is not.
    next: u64,
    end: u64,
    /// Pages met so far: one that is met again is a circle.
    pages: HashSet<VirtAddr>,
    /// The page of entries that is gone through, and the entry in it.
    page: Vec<u8>,
    first: u64,
    index: u64,
    left: usize,
}

impl<'w> Table<'w> {
    /// The table at `table`.
    pub(crate) fn new(windows: &'w Windows<'w>, table: VirtAddr) -> Result<Self, WindowsError> {
        let fields = windows.table_fields()?;
        let memory = windows.kernel();
        let code = fields.code.read(memory, table).map_err(WindowsError::read("TableCode"))?;
        let broken = |reason| WindowsError::Broken { what: "a handle table", at: table, reason };
        let (levels, root) = (code & 7, VirtAddr::new(code & !7));
        if levels > 2 {
            return Err(broken("it claims more than three levels"));
        }
        let per_page = PAGE_SIZE.checked_div(fields.entry_size).filter(|count| *count > 0);
        let per_page = per_page.ok_or_else(|| broken("its entries have no size"))?;
        let most = POINTERS.pow(levels as u32);
        // Where it ends, in handles; a table of ids may be said to end nowhere.
        let claimed = match fields.limit {
            Some(field) => {
                u64::from(field.read(memory, table).map_err(WindowsError::read("a handle table"))?)
            }
            None => 0,
        };
        let pages = (claimed / STEP).div_ceil(per_page);
        let end = if pages == 0 { most } else { pages.min(most) };
        Ok(Self {
            windows,
            fields,
            root,
            levels,
            next: 0,
            end: if root.is_null() { 0 } else { end },
            pages: HashSet::new(),
            page: Vec::new(),
            first: 0,
            index: 0,
            left: windows.limits().open_files,
        })
    }

    /// The address of a page of entries; nothing where there is none. Steps over what is missing.
    fn leaf(&mut self) -> Result<Option<VirtAddr>, WindowsError> {
        let (number, memory) = (self.next, self.windows.kernel());
        self.next += 1;
        let mut at = self.root;
        for level in (0..self.levels).rev() {
            let below = POINTERS.pow(level as u32);
            let place = at.wrapping_add(8 * (number / below % POINTERS));
            let pointer = memory.read_pointer(place);
            if !matches!(&pointer, Ok(pointer) if !pointer.is_null()) {
                // Nothing below: go on behind it.
                self.next = (number / below + 1).saturating_mul(below);
            }
            at = pointer.map_err(WindowsError::read("a page of a handle table"))?;
            if at.is_null() {
                return Ok(None);
            }
            let again = number % below == 0 && !self.pages.insert(at);
            if again || at == self.root {
                self.next = self.end;
                return Err(self.circle(at));
            }
        }
        Ok(Some(at))
    }

    fn circle(&self, at: VirtAddr) -> WindowsError {
        WindowsError::Broken { what: "a handle table", at, reason: "one page of it stands in two places" }
    }
}

/// The address and the access mask that an entry holds; nothing of a free one.
fn decode(fields: &TableFields, bytes: &[u8]) -> Option<(VirtAddr, Option<u32>)> {
    let value = fields.object.get(bytes)?;
    let address = match fields.object_shift {
        0 => value & !7,
        // 48 bits of an address, whose sign goes on above.
        shift => ((value << shift << 16).cast_signed() >> 16).cast_unsigned(),
    };
    let access = fields.access.and_then(|bits| bits.get(bytes)).map(|access| access as u32);
    // Free entries link to one another and hold no kernel address.
    (address >> 47 == 0x1_ffff).then_some((VirtAddr::new(address), access))
}

impl Iterator for Table<'_> {
    type Item = Result<Entry, WindowsError>;

    fn next(&mut self) -> Option<Self::Item> {
        let size = self.fields.entry_size;
        loop {
            while let Some(bytes) = usize::try_from(self.index * size)
                .ok()
                .and_then(|begin| self.page.get(begin..begin.checked_add(usize::try_from(size).ok()?)?))
            {
                let number = self.first + self.index;
                let decoded = decode(self.fields, bytes);
                self.index += 1;
                // The first entry of a page is the table's own.
                let handle = u32::try_from(number * STEP).ok().filter(|_| self.index > 1);
                if let (Some(handle), Some((object, access))) = (handle, decoded) {
                    return Some(Ok(Entry { handle, object, access }));
                }
            }
            self.page.clear();
            if self.next >= self.end {
                return None;
            }
            let Some(left) = self.left.checked_sub(1) else {
                self.next = self.end;
                let reason = "it has more pages than the limit";
                return Some(Err(WindowsError::Broken { what: "a handle table", at: self.root, reason }));
            };
            self.left = left;
            let number = self.next;
            match self.leaf() {
                Ok(Some(at)) => {
                    let mut page = alloc::vec![0; PAGE_SIZE as usize];
                    match self.windows.kernel().read(at, &mut page) {
                        Ok(()) => {
                            self.page = page;
                            self.first = number * (PAGE_SIZE / size);
                            self.index = 0;
                        }
                        Err(source) => {
                            return Some(Err(WindowsError::Read {
                                what: "a page of a handle table",
                                source,
                            }));
                        }
                    }
                }
                Ok(None) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bits::Bits;
    use alloc::vec;
    use vmc::layout::{Field, StructLayout, StructMember};

    fn fields(members: [(&str, u64, u64); 2], object_shift: u32) -> TableFields {
        let [object, access] = members.map(|(name, bit_offset, bit_size)| {
            let member = StructMember { name: name.into(), bit_offset, bit_size, type_name: "u64".into() };
            let layout = StructLayout { name: "entry".into(), size: 16, members: vec![member] };
            Bits::of(&layout, name)
        });
        TableFields {
            code: Field::at(8),
            limit: None,
            entry_size: 16,
            object: object.unwrap(),
            object_shift,
            access,
        }
    }

    fn entry(low: u64, high: u64) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&low.to_le_bytes());
        bytes[8..].copy_from_slice(&high.to_le_bytes());
        bytes
    }

    #[test]
    fn entries_are_pointers_with_flags_or_packed_bits() {
        let header = VirtAddr::new(0xffff_8d8e_12a3_3010);
        let seven = fields([("Object", 0, 64), ("GrantedAccess", 64, 32)], 0);
        assert_eq!(decode(&seven, &entry(header.get() | 1, 0x1f_0003)), Some((header, Some(0x1f_0003))));
        // Free: the number of the next free handle.
        assert_eq!(decode(&seven, &entry(0, 0x24)), None);
        let ten = fields([("ObjectPointerBits", 20, 44), ("GrantedAccessBits", 64, 25)], 4);
        let packed = (header.get() >> 4) << 20 | 0xfffe << 1 | 1;
        assert_eq!(decode(&ten, &entry(packed, 0xfe1f_0003)), Some((header, Some(0x1f_0003))));
        assert_eq!(decode(&ten, &entry(0, 0x24)), None);
    }
}
