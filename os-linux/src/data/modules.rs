//! The heads of the lists of modules (`modules`, `btf_modules`), by what they lead to.
//!
//! Source: `kernel/module/main.c`: the list is circular, and a module's `mkobj.mod` is the module itself.

use alloc::vec::Vec;

use vmc::bytes::u64_at;
use vmc::layout::{Field, Types};
use vmc::{ReadExt, VirtAddr};

use crate::error::LinuxError;
use crate::kernel::Linux;

/// Where the upper half of the address space begins, of which Linux' own pointers are.
const UPPER_HALF: u64 = 1 << 63;
/// Names of modules have at most 64 bytes, with the NUL.
const LONGEST_NAME: usize = 64;

impl Linux<'_> {
    /// Where the list of modules begins; nothing where no list in the image leads to a module.
    pub(crate) fn find_module_list(&self) -> Result<Option<VirtAddr>, LinuxError> {
        let offset = self.module()?.list.address(VirtAddr::new(0)).get();
        let back: Field<u64> = Field::new(self.types(), "module", "mkobj.mod")?;
        Ok(self.find_list(offset, |at| {
            let named = self.name_in("module", at).is_some_and(|name| name.iter().all(u8::is_ascii_graphic));
            named && back.pointer(self.space(), at) == Ok(at)
        }))
    }

    /// Where the list of modules' types begins (`btf_modules` in `kernel/bpf/btf.c`): those are called as their modules are.
    pub(crate) fn find_module_types(&self) -> Result<Option<VirtAddr>, LinuxError> {
        let fields = self.btf_module()?;
        let module: Field<u64> = Field::new(self.types(), "btf_module", "module")?;
        let offset = fields.list.address(VirtAddr::new(0)).get();
        Ok(self.find_list(offset, |at| {
            let pointer = |field: Field<u64>| field.pointer(self.space(), at).ok();
            let names = pointer(fields.btf).zip(pointer(module)).and_then(|(types, module)| {
                Some((self.name_in("btf", types)?, self.name_in("module", module)?))
            });
            names.is_some_and(|(types, module)| types == module)
        }))
    }

    /// The name that a structure begins its member `name` with, if there is one.
    fn name_in(&self, structure: &str, at: VirtAddr) -> Option<Vec<u8>> {
        let member = self.types().member(structure, "name").ok()?;
        let length = usize::try_from(member.size).ok()?.min(LONGEST_NAME);
        let name = self.space().read_cstr(at.wrapping_add(member.offset), length).ok()?;
        Some(name).filter(|name| !name.is_empty())
    }

    /// The head of a list in the image whose first and last entry are what is looked for, and do not lie in the image
    /// themselves.
    fn find_list(&self, offset: u64, accept: impl Fn(VirtAddr) -> bool) -> Option<VirtAddr> {
        let (space, image) = (self.space(), self.image());
        image.find_words(space, |head, bytes| {
            let (next, before) = (u64_at(bytes, 0)?, u64_at(bytes, 8)?);
            let plausible =
                |word: u64| word >= UPPER_HALF && word.is_multiple_of(8) && !image.spans(VirtAddr::new(word));
            if !plausible(next) || !plausible(before) {
                return None;
            }
            let (next, before) = (VirtAddr::new(next), VirtAddr::new(before));
            let closed = space.read_pointer(next.wrapping_add(8)) == Ok(head)
                && space.read_pointer(before) == Ok(head);
            let accepts = |link: &VirtAddr| link.checked_sub(offset).is_some_and(&accept);
            (closed && [next, before].iter().all(accepts)).then_some(head)
        })
    }
}
