//! The types that a module brought: BTF on top of the kernel's, kept for as long as the module is there.
//!
//! Source: `btf_module_notify()` in `kernel/bpf/btf.c`.

use alloc::borrow::Cow;

use vmc::layout::{LayoutError, Types};
use vmc::{ReadExt, VirtAddr};
use vmc_types::Btf;

use crate::error::LinuxError;
use crate::kernel::Linux;
use crate::lists::ListWalk;
use crate::types::KernelTypes;

/// Bytes of a module's name: `MODULE_NAME_LEN` is 56.
const NAME: usize = 64;

impl Linux<'_> {
    /// What `look` finds in the types of the module `name`; `otherwise` where they are not to be had.
    pub(crate) fn with_module_types<T>(
        &self,
        name: &str,
        otherwise: LayoutError,
        look: impl FnOnce(&Btf<'_>) -> Result<T, LayoutError>,
    ) -> Result<T, LayoutError> {
        #[allow(irrefutable_let_patterns, reason = "types may come from elsewhere than BTF")]
        let KernelTypes::Btf(kernel) = self.types() else { return Err(otherwise) };
        let Ok(Some(data)) = self.module_btf(name) else { return Err(otherwise) };
        match kernel.split(Cow::Owned(data), self.limits()) {
            Ok(types) => look(&types),
            Err(reason) => Err(LayoutError::Damaged { id: 0, reason }),
        }
    }

    /// The bytes of a module's BTF.
    fn module_btf(&self, name: &str) -> Result<Option<alloc::vec::Vec<u8>>, LinuxError> {
        const WHAT: &str = "the list of modules' types";
        let head = match self.known.btf_modules {
            Some(head) => Some(head),
            None => *self.found.module_types.get(|| self.find_module_types())?,
        };
        let head = self.need("btf_modules", head)?;
        let (modules, objects) = (self.btf_module()?, self.btf_object()?);
        let offset = modules.list.address(VirtAddr::new(0)).get();
        let (space, limits, read) = (self.space(), self.limits(), LinuxError::read(WHAT));
        for at in ListWalk::new(self, WHAT, head, offset, limits.modules) {
            let object = modules.btf.pointer(space, at?).map_err(&read)?;
            let called = object.wrapping_add(self.types().member("btf", "name")?.offset);
            if space.read_cstr(called, NAME).map_err(&read)? == name.as_bytes() {
                let data = objects.data.pointer(space, object).map_err(&read)?;
                let size = objects.size.read(space, object).map_err(&read)?;
                return space.read_vec(data, u64::from(size), limits.btf_bytes).map(Some).map_err(&read);
            }
        }
        Ok(None)
    }
}
