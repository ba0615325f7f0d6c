//! The kernel's modules: ntoskrnl, its libraries and drivers, by `PsLoadedModuleList`.

use alloc::string::String;
use alloc::vec::Vec;

use vmc::VirtAddr;
use vmc::layout::{Field, LayoutError, Types};
use vmc::view::RowErrors;

use crate::error::WindowsError;
use crate::identity::{CodeView, LoadedModule};
use crate::lists::both_ways;
use crate::pe::Image;
use crate::rows::ModuleRow;
use crate::text::unicode_string;
use crate::windows::Windows;

/// The loader's entries: since 6.0 the kernel has its own type, older PDBs have that of user mode, which begins like it.
const ENTRIES: [&str; 2] = ["_KLDR_DATA_TABLE_ENTRY", "_LDR_DATA_TABLE_ENTRY"];

/// Where the members of a loader's entry lie.
#[derive(Clone, Copy, Debug)]
struct Fields {
    links: u64,
    base: Field<u64>,
    size: Field<u32>,
    name: u64,
    path: u64,
    timestamp: Option<Field<u32>>,
}

impl Fields {
    fn new(types: &impl Types) -> Result<Self, LayoutError> {
        let [kernel, user] = ENTRIES;
        let place = |member: &str| types.member(kernel, member).or_else(|_| types.member(user, member));
        let base = Field::new(types, kernel, "DllBase").or_else(|_| Field::new(types, user, "DllBase"));
        let size =
            Field::new(types, kernel, "SizeOfImage").or_else(|_| Field::new(types, user, "SizeOfImage"));
        Ok(Self {
            links: place("InLoadOrderLinks")?.offset,
            base: base?,
            size: size?,
            name: place("BaseDllName")?.offset,
            path: place("FullDllName")?.offset,
            // User mode's entries have it elsewhere: it counts only where the type is the list's.
            timestamp: if types.size_of(kernel).is_ok() {
                Field::new(types, kernel, "TimeDateStamp").ok()
            } else {
                Field::new(types, user, "TimeDateStamp").ok()
            },
        })
    }
}

impl Windows<'_> {
    /// The kernel's modules, in the order in which they were loaded. Where the list breaks, those behind the break follow from its other
    /// end, and the error comes last.
    ///
    /// # Errors
    /// [`WindowsError`] where the symbol or the types are missing; of the iterator, where the list breaks.
    pub fn modules(
        &self,
    ) -> Result<impl Iterator<Item = Result<ModuleRow, WindowsError>> + '_, WindowsError> {
        let told = self.hints().loaded_module_list;
        let head = self.symbol("PsLoadedModuleList").or_else(|why| told.ok_or(why))?;
        let fields = Fields::new(self.types())?;
        let (entries, mut broken) = self.module_entries(head, &fields);
        // A triage dump lacks the list and brings one of its own.
        let told = if entries.is_empty() { self.hints().modules.as_slice() } else { &[] };
        if !told.is_empty() {
            broken = None;
        }
        let rows = entries.into_iter().map(move |entry| Ok(self.module_row(entry, &fields)));
        Ok(rows.chain(told.iter().map(|module| Ok(self.told_module(module)))).chain(broken.map(Err)))
    }

    fn told_module(&self, module: &LoadedModule) -> ModuleRow {
        let name = module.name.rsplit('\\').next().unwrap_or_default();
        ModuleRow {
            name: name.into(),
            path: (name.len() < module.name.len()).then(|| module.name.clone()),
            base: module.base,
            size: module.size,
            timestamp: module.timestamp,
            pdb: self.code_view_at(module.base),
            ..ModuleRow::default()
        }
    }

    fn code_view_at(&self, base: VirtAddr) -> Option<CodeView> {
        Image::read(self.kernel(), base).ok()?.code_view(self.kernel()).ok()?
    }

    fn module_entries(&self, head: VirtAddr, fields: &Fields) -> (Vec<VirtAddr>, Option<WindowsError>) {
        let (what, limit) = ("the list of kernel modules", self.limits().modules);
        let (mut entries, broken) = both_ways(self.kernel(), what, head, fields.links, limit);
        // An entry that cannot be read is none: a wild pointer leads to it.
        entries.retain(|entry| fields.base.read(self.kernel(), *entry).is_ok());
        (entries, broken)
    }

    fn module_row(&self, entry: VirtAddr, fields: &Fields) -> ModuleRow {
        let (kernel, limits) = (self.kernel(), self.limits());
        let mut errors = RowErrors::default();
        let text = |offset: u64| unicode_string(kernel, entry.wrapping_add(offset), limits);
        let name = errors.keep(limits, "name", text(fields.name)).unwrap_or_else(String::new);
        let path = errors.keep(limits, "path", text(fields.path)).filter(|path| !path.is_empty());
        let base = errors.keep(limits, "base", fields.base.pointer(kernel, entry)).unwrap_or_default();
        let size = errors.keep(limits, "size", fields.size.read(kernel, entry)).unwrap_or_default();
        let timestamp =
            fields.timestamp.and_then(|field| field.read(kernel, entry).ok()).filter(|time| *time != 0);
        ModuleRow {
            name,
            path,
            base,
            size: size.into(),
            timestamp,
            wow64: false,
            pdb: self.code_view_at(base),
            object: entry,
            errors,
        }
    }
}
