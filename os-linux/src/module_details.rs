//! Kernel modules in detail: sections, taints, users, as sysfs and `/proc/modules` show them.
//!
//! Source: `kernel/module/sysfs.c`, `kernel/module/procfs.c`, `module_flags_taint()` in `kernel/module/main.c`, `taint_flags` in
//! `kernel/panic.c`.

use alloc::string::String;
use alloc::vec::Vec;

use vmc::layout::Types;
use vmc::text::lossless;
use vmc::view::{ModuleDetails, ModuleSection, RowErrors};
use vmc::{ReadExt, VirtAddr, VirtualMemory};

use crate::error::LinuxError;
use crate::kernel::Linux;
use crate::lists::ListWalk;

/// Letters of the taints, by their bits.
const TAINTS: &[u8; 20] = b"PFSRMBUDAWCIOELKXTNJ";
/// Those that a module can have itself: proprietary, forced, staging, out of tree, unsigned, live patch, auxiliary,
/// randomised, test, fwctl.
const OF_MODULES: u64 =
    1 | 1 << 1 | 1 << 10 | 1 << 12 | 1 << 13 | 1 << 15 | 1 << 16 | 1 << 17 | 1 << 18 | 1 << 19;

/// The letters of a set of taints.
fn letters(taints: u64) -> String {
    let set = TAINTS.iter().enumerate().filter(|(bit, _)| taints >> bit & 1 != 0);
    set.map(|(_, letter)| char::from(*letter)).collect()
}

impl Linux<'_> {
    /// What the kernel was tainted by: the number of `/proc/sys/kernel/tainted`, and its letters.
    ///
    /// # Errors
    /// [`LinuxError`] where that cannot be read.
    pub fn tainted(&self) -> Result<(u64, String), LinuxError> {
        let at = match self.known.tainted_mask {
            Some(at) => Some(at),
            None => *self.found.taints.get(|| self.find_taints())?,
        };
        let at = self.need("tainted_mask", at)?;
        let taints = self.space().read_u64(at).map_err(LinuxError::read("tainted_mask"))?;
        Ok((taints, letters(taints)))
    }

    /// The module whose `struct module` is at `at` (a row's `object`) in detail; what cannot be read is absent, and `errors`
    /// says why.
    #[must_use]
    pub fn module_details(&self, at: VirtAddr) -> ModuleDetails {
        let (space, limits) = (self.space(), self.limits());
        let mut errors = RowErrors::default();
        let Some(fields) = errors.keep(limits, "module", self.module_details_fields()) else {
            return ModuleDetails { errors, ..ModuleDetails::default() };
        };
        let mut text = |what, field: Option<_>| {
            let text = errors.keep(limits, what, self.text_at(field?, at)).flatten();
            text.map(|text| lossless(&text))
        };
        let mut row = ModuleDetails {
            args: text("args", fields.args),
            version: text("version", fields.version),
            source_version: text("srcversion", fields.source_version),
            ..ModuleDetails::default()
        };
        let taints = errors.keep(limits, "taints", fields.taints.read(space, at));
        row.taints = taints.map(|taints| letters(taints & OF_MODULES));
        // One is the module's own.
        let references =
            fields.references.and_then(|field| errors.keep(limits, "refcount", field.read(space, at)));
        row.references = references.map(|count| count.cast_signed().wrapping_sub(1));
        if let Some(field) = fields.users {
            let users = self.module_users(at, field.address(at), &mut row.used_by);
            errors.keep(limits, "used_by", users);
        }
        if let Some(field) = fields.sections {
            let sections = field.pointer(space, at).map_err(LinuxError::read("sect_attrs"));
            let sections = sections.and_then(|at| self.module_sections(at));
            row.sections = errors.keep(limits, "sections", sections).unwrap_or_default();
        }
        row.errors = errors;
        row
    }

    /// The names of the modules on a list of those that use one.
    fn module_users(
        &self,
        module: VirtAddr,
        head: VirtAddr,
        names: &mut Vec<String>,
    ) -> Result<(), LinuxError> {
        let fields = self.module_use()?;
        let offset = fields.link.address(VirtAddr::new(0)).get();
        for entry in ListWalk::new(self, "the users of a module", head, offset, self.limits().modules) {
            let (at, read) = (entry?, LinuxError::read("module_use"));
            // Each use is one module's: many that share a list must not each go through all of it.
            if fields.used.pointer(self.space(), at).map_err(&read)? != module {
                let (what, reason) = ("the users of a module", "the list holds a use of another module");
                return Err(LinuxError::Broken { what, at, reason });
            }
            let user = fields.user.pointer(self.space(), at).map_err(&read)?;
            names.push(self.module_name(user)?);
        }
        Ok(())
    }

    /// The sections that a `struct module_sect_attrs` tells of.
    fn module_sections(&self, at: VirtAddr) -> Result<Vec<ModuleSection>, LinuxError> {
        const WHAT: &str = "a module's sections";
        if at.is_null() {
            return Ok(Vec::new());
        }
        let (space, limit, read) = (self.space(), self.limits().module_sections, LinuxError::read(WHAT));
        let too_many = || LinuxError::Broken { what: WHAT, at, reason: "there are more than the limit" };
        let section = |name: VirtAddr, address: VirtAddr| {
            let name = space.read_cstr(name, self.limits().string_bytes).map_err(&read)?;
            Ok::<_, LinuxError>(ModuleSection { name: lossless(&name), address })
        };
        if let (Ok(all), Ok(one)) = (self.sections(), self.section()) {
            let count = u64::from(all.count.read(space, at).map_err(&read)?);
            if count > limit as u64 {
                return Err(too_many());
            }
            let first = at.wrapping_add(self.types().member("module_sect_attrs", "attrs")?.offset);
            let size = self.types().size_of("module_sect_attr")?;
            return (0..count)
                .map(|index| {
                    let at = first.wrapping_add(index * size);
                    section(
                        one.name.pointer(space, at).map_err(&read)?,
                        one.address.pointer(space, at).map_err(&read)?,
                    )
                })
                .collect();
        }
        let attribute = self.bin_attribute()?;
        let list = self.section_list()?.attributes.pointer(space, at).map_err(&read)?;
        let mut found = Vec::new();
        for index in 0.. {
            let at = space.read_pointer(list.wrapping_add(index * 8)).map_err(&read)?;
            if at.is_null() {
                break;
            }
            if found.len() >= limit {
                return Err(too_many());
            }
            found.push(section(
                attribute.name.pointer(space, at).map_err(&read)?,
                attribute.private.pointer(space, at).map_err(&read)?,
            )?);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taints_have_the_letters_of_the_kernel() {
        // Out of tree and unsigned; proprietary; a warning, which is the kernel's alone.
        assert_eq!(letters(1 << 12 | 1 << 13), "OE");
        assert_eq!(
            (letters(1), letters(1 << 9), letters(1 << 9 & OF_MODULES)),
            ("P".into(), "W".into(), "".into())
        );
    }
}
