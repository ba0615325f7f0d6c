//! The head of the list of modules (`modules`), by a module that it leads to.
//!
//! Source: `kernel/module/main.c`: the list is circular, and a module's `mkobj.mod` is the module itself.

use vmc::bytes::u64_at;
use vmc::layout::{Field, Types};
use vmc::{ReadExt, VirtAddr};

use crate::error::LinuxError;
use crate::kernel::Linux;

/// Where the upper half of the address space begins, of which Linux' own pointers are.
const UPPER_HALF: u64 = 1 << 63;

impl Linux<'_> {
    /// Where the list of modules begins; nothing where no list in the image leads to a module.
    pub(crate) fn find_module_list(&self) -> Result<Option<VirtAddr>, LinuxError> {
        let types = self.types();
        let offset = self.module()?.list.address(VirtAddr::new(0)).get();
        let back: Field<u64> = Field::new(types, "module", "mkobj.mod")?;
        let name = types.member("module", "name")?;
        let (space, image) = (self.space(), self.image());
        let is_module = |at: VirtAddr| {
            let name = space.read_cstr(at.wrapping_add(name.offset), usize::try_from(name.size).unwrap_or(0));
            back.pointer(space, at) == Ok(at)
                && name.is_ok_and(|name| !name.is_empty() && name.iter().all(u8::is_ascii_graphic))
        };
        Ok(image.find_words(space, |head, bytes| {
            let (next, before) = (u64_at(bytes, 0)?, u64_at(bytes, 8)?);
            let plausible =
                |word: u64| word >= UPPER_HALF && word % 8 == 0 && !image.spans(VirtAddr::new(word));
            if !plausible(next) || !plausible(before) {
                return None;
            }
            let (next, before) = (VirtAddr::new(next), VirtAddr::new(before));
            let closed = space.read_pointer(next.wrapping_add(8)) == Ok(head)
                && space.read_pointer(before) == Ok(head);
            let ends = [next, before];
            (closed && ends.iter().all(|link| link.checked_sub(offset).is_some_and(is_module)))
                .then_some(head)
        }))
    }
}
