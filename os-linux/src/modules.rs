//! Kernel modules, as `/proc/modules` shows them.
//!
//! Source: `m_show()` in `kernel/module/procfs.c`: the base is that of the text, the size the sum of all parts.

use alloc::vec::Vec;

use vmc::layout::{Field, Types};
use vmc::text::lossless;
use vmc::view::{BuildId, Module, RowErrors};
use vmc::{ReadExt, VirtAddr};

use crate::error::LinuxError;
use crate::kernel::Linux;
use crate::lists::ListWalk;

/// `enum module_state`: a module that is being set up is not shown.
const UNFORMED: u32 = 3;

impl Linux<'_> {
    /// The kernel's modules. An error is the last thing that comes.
    ///
    /// # Errors
    /// [`LinuxError`] where the list is not to be found.
    pub fn modules(&self) -> Result<impl Iterator<Item = Result<Module, LinuxError>>, LinuxError> {
        Ok(self.module_objects()?.filter_map(|at| match at {
            Ok(at) => self.module_row(at).map(Ok),
            Err(why) => Some(Err(why)),
        }))
    }

    /// A module as a row; nothing for one that is only being set up.
    pub(crate) fn module_row(&self, at: VirtAddr) -> Option<Module> {
        let limits = self.limits();
        let mut errors = RowErrors::default();
        let state =
            self.module().ok().and_then(|f| errors.keep(limits, "state", f.state.read(self.space(), at)));
        if state == Some(UNFORMED) {
            return None;
        }
        let name = errors.keep(limits, "name", self.module_name(at)).unwrap_or_default();
        let (base, size) = errors.keep(limits, "base, size", self.module_extent(at)).unwrap_or_default();
        let build_id = self.module().ok().and_then(|fields| fields.build_id);
        let build_id =
            build_id.and_then(|field| errors.keep(limits, "build_id", field.read(self.space(), at)));
        Some(Module {
            name,
            path: None,
            base,
            size,
            state: match state {
                Some(0) => Some("Live"),
                Some(1) => Some("Loading"),
                Some(2) => Some("Unloading"),
                _ => None,
            },
            build_id: build_id
                .filter(|id| id.iter().any(|byte| *byte != 0))
                .map(|id| BuildId(id.as_slice().into())),
            object: at,
            errors,
        })
    }

    pub(crate) fn module_name(&self, at: VirtAddr) -> Result<alloc::string::String, LinuxError> {
        let member = self.types().member("module", "name")?;
        let limit = usize::try_from(member.size).unwrap_or(0).min(self.limits().string_bytes);
        let text = self
            .space()
            .read_cstr(at.wrapping_add(member.offset), limit)
            .map_err(LinuxError::read("a module's name"))?;
        Ok(lossless(&text))
    }

    /// The `struct module`s of the kernel. An error is the last thing that comes.
    pub(crate) fn module_objects(
        &self,
    ) -> Result<impl Iterator<Item = Result<VirtAddr, LinuxError>>, LinuxError> {
        let found = || self.found.modules.get(|| self.find_module_list()).copied();
        let head = match self.known.modules {
            Some(head) => Some(head),
            None => found()?,
        };
        let head = self.need("modules", head)?;
        let offset = self.module()?.list.address(VirtAddr::new(0)).get();
        Ok(ListWalk::new(self, "the list of modules", head, offset, self.limits().modules))
    }

    /// The areas of a module's memory: address and size.
    pub(crate) fn module_areas(&self, at: VirtAddr) -> Result<Vec<(VirtAddr, u64)>, LinuxError> {
        let read = LinuxError::read("a module's memory");
        let fields = self.module()?;
        if let (Some(base), Some(size)) = (fields.core_base, fields.core_size) {
            let area = |base: Field<u64>, size: Field<u32>| {
                let base = base.pointer(self.space(), at).map_err(&read)?;
                Ok::<_, LinuxError>((base, u64::from(size.read(self.space(), at).map_err(&read)?)))
            };
            let core = area(base, size)?;
            return match (fields.init_base, fields.init_size) {
                (Some(base), Some(size)) => Ok(Vec::from([core, area(base, size)?])),
                _ => Ok(Vec::from([core])),
            };
        }
        self.module_parts(at)
    }

    /// Where its text begins, and the size of all its parts.
    fn module_extent(&self, at: VirtAddr) -> Result<(VirtAddr, u64), LinuxError> {
        let space = self.space();
        let read = LinuxError::read("a module's extent");
        let fields = self.module()?;
        if let (Some(base), Some(core), Some(init)) = (fields.core_base, fields.core_size, fields.init_size) {
            let base = base.pointer(space, at).map_err(&read)?;
            let core = core.read(space, at).map_err(&read)?;
            let init = init.read(space, at).map_err(&read)?;
            return Ok((base, u64::from(core) + u64::from(init)));
        }
        let parts = self.module_parts(at)?;
        let base = parts.first().map(|(base, _)| *base).unwrap_or_default();
        Ok((base, parts.iter().fold(0, |sum, (_, size)| sum + size)))
    }

    /// The areas of a module since 6.4, in the order of `enum mod_mem_type`: text comes first.
    fn module_parts(&self, at: VirtAddr) -> Result<Vec<(VirtAddr, u64)>, LinuxError> {
        let types = self.types();
        let memory = types.member("module", "mem")?;
        let part = types.size_of("module_memory")?.max(1);
        let fields = self.module_memory()?;
        let read = LinuxError::read("a module's memory");
        // Seven kinds of areas are known; a damaged type must not make more than a few of them.
        let count = (memory.size / part).min(16);
        (0..count)
            .map(|index| {
                let at = at.wrapping_add(memory.offset + index * part);
                let base = fields.base.pointer(self.space(), at).map_err(&read)?;
                Ok((base, u64::from(fields.size.read(self.space(), at).map_err(&read)?)))
            })
            .collect()
    }
}
