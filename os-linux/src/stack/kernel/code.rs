//! [`KernelCode`]: what describes the code of the kernel and of its modules, and what it is called.
//!
//! Source: `arch/x86/kernel/unwind_orc.c`, `include/asm-generic/vmlinux.lds.h` (`ORC_UNWIND_TABLE`).

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use once_cell::race::OnceBox;
use vmc::layout::{Field, LayoutError, Types};
use vmc::text::lossless;
use vmc::view::{BuildId, FrameModule, FrameSymbol};
use vmc::{Architecture, ReadExt, VirtAddr};
use vmc_unwind::orc::{OrcLayout, OrcTable, OrcTables, SavedRegisters};
use vmc_unwind::{CodeAddress, NoTable};

use super::aarch64;
use super::module::ModuleCode;
use crate::error::LinuxError;
use crate::kernel::Linux;

/// Where the kernel's image, its modules and the code that it makes at run time lie: the last 2 GiB
/// (`Documentation/arch/x86/x86_64/mm.rst`).
const CODE: u64 = 0xffff_ffff_8000_0000;

/// The largest image of a kernel (`KERNEL_IMAGE_SIZE`).
const IMAGE_BYTES: u64 = 1 << 30;

/// Bytes of `.orc_header`.
const HEADER_BYTES: usize = 20;

/// The code of the kernel and of its modules.
#[derive(Debug)]
pub(in crate::stack) struct KernelCode<'k, 'm> {
    linux: &'k Linux<'m>,
    pub(in crate::stack) rules: Rules<'k>,
    image: Range<VirtAddr>,
    module: Arc<FrameModule>,
    /// Listed when an address outside the image is first met.
    modules: OnceBox<Modules>,
}

/// What x86_64's frames are followed by.
#[derive(Debug)]
pub(in crate::stack) struct OrcRules<'k> {
    /// Nothing where the kernel was built with frame pointers.
    table: Option<OrcTable<'k>>,
    /// How the modules' rules are built, too.
    layout: Option<OrcLayout>,
    /// How registers are stored on each way into the kernel.
    pub(in crate::stack) saved: SavedRegisters,
}

/// How the kernel's frames are followed.
#[derive(Debug)]
pub(in crate::stack) enum Rules<'k> {
    /// x86_64.
    Orc(Box<OrcRules<'k>>),
    /// aarch64: by frame records.
    Records(vmc_unwind::aarch64::kernel::SavedRegisters),
}

/// Modules, and their areas in the order of addresses, with the module's place.
#[derive(Debug, Default)]
struct Modules {
    modules: Vec<ModuleCode>,
    areas: Vec<(Range<VirtAddr>, usize)>,
}

impl<'k, 'm> KernelCode<'k, 'm> {
    /// The code of this kernel.
    ///
    /// # Errors
    /// [`LinuxError`] where its types do not tell how it stores registers, or how its tables are built.
    pub(in crate::stack) fn new(linux: &'k Linux<'m>) -> Result<Self, LinuxError> {
        let image = linux.kernel_range();
        let rules = match linux.tables().architecture() {
            Architecture::X86_64 => {
                let table = kernel_table(linux)?;
                let layout = table.as_ref().map(OrcTable::layout);
                let rules = OrcRules { table, layout, saved: saved_registers(linux)? };
                Rules::Orc(Box::new(rules))
            }
            Architecture::Aarch64 => Rules::Records(aarch64::saved_registers(linux)?),
        };
        let start = image.start;
        let build_id = linux.identity().build_id.clone().map(|id| BuildId(id.into()));
        Ok(Self {
            linux,
            rules,
            image,
            module: Arc::new(FrameModule {
                path: String::from("kernel"),
                base: start,
                build_id,
                debug_link: None,
            }),
            modules: OnceBox::new(),
        })
    }

    pub(super) const fn linux(&self) -> &'k Linux<'m> {
        self.linux
    }

    /// Does `address` lie in the kernel's image, freed parts included?
    pub(super) fn in_image(&self, address: VirtAddr) -> bool {
        self.image.contains(&address)
    }

    fn modules(&self) -> &Modules {
        self.modules.get_or_init(|| Box::new(Modules::list(self.linux)))
    }

    fn module_at(&self, address: VirtAddr) -> Option<&ModuleCode> {
        self.modules().at(address)
    }

    /// What an address stands in: the kernel or a module of it, and the function there.
    pub(in crate::stack) fn named(
        &self,
        address: CodeAddress,
    ) -> (Option<Arc<FrameModule>>, Option<FrameSymbol>) {
        let (at, ip) = (address.address_for_lookup(), address.address());
        let symbol = |name: &[u8], start: VirtAddr| FrameSymbol {
            name: lossless(name),
            offset: ip.get().wrapping_sub(start.get()),
            start,
        };
        if self.image.contains(&at) {
            let found =
                self.linux.kernel_symbols().at(at).filter(|found| self.image.contains(&found.address));
            return (Some(Arc::clone(&self.module)), found.map(|found| symbol(&found.name, found.address)));
        }
        let Some(module) = self.module_at(at) else { return (None, None) };
        let found = module.symbols(self.linux).at(at.get());
        let found = found.map(|found| symbol(found.name, VirtAddr::new(found.address)));
        (Some(Arc::clone(&module.module)), found)
    }
}

impl OrcTables for KernelCode<'_, '_> {
    fn find(&self, address: VirtAddr) -> Result<&OrcTable<'_>, NoTable> {
        let Rules::Orc(rules) = &self.rules else { return Err(NoTable::None) };
        if self.image.contains(&address) {
            return rules.table.as_ref().ok_or(NoTable::None);
        }
        let layout = rules.layout.ok_or(NoTable::None)?;
        let module = self.module_at(address).ok_or(NoTable::None)?;
        module.table(self.linux, layout)
    }

    fn is_code(&self, address: VirtAddr) -> bool {
        address.get() >= CODE && self.linux.space().translate(address).is_ok()
    }

    fn frame_pointers(&self) -> bool {
        !matches!(&self.rules, Rules::Orc(rules) if rules.table.is_some())
    }
}

/// A symbol of a kernel module.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ModuleSymbol {
    /// The module's name.
    pub module: String,
    /// The symbol's.
    pub name: String,
    /// Where it begins.
    pub address: VirtAddr,
    /// Its kind, as `nm` writes it.
    pub kind: char,
}

impl Linux<'_> {
    /// The kernel's image, freed parts included; up to the largest that there may be where its end is not known.
    #[must_use]
    pub fn kernel_range(&self) -> Range<VirtAddr> {
        let start = self.kernel_base();
        let end = match self.tables().architecture() {
            Architecture::X86_64 => None,
            Architecture::Aarch64 => self.image().end(),
        };
        let end = end.or(self.known.end).filter(|end| *end > start);
        start..end.unwrap_or(start.wrapping_add(IMAGE_BYTES))
    }

    /// The symbol of a kernel module that `address` lies in. Nothing where it lies in no module, or the module has no symbols
    /// that can be read.
    #[must_use]
    pub fn module_symbol_at(&self, address: VirtAddr) -> Option<ModuleSymbol> {
        let modules = Modules::list(self);
        let code = modules.at(address)?;
        let symbol = code.symbols(self).at(address.get())?;
        Some(ModuleSymbol {
            module: code.module.path.clone(),
            name: lossless(symbol.name),
            address: VirtAddr::new(symbol.address),
            kind: symbol.kind,
        })
    }
}

impl Modules {
    /// The module that `address` lies in.
    fn at(&self, address: VirtAddr) -> Option<&ModuleCode> {
        let behind = self.areas.partition_point(|(area, _)| area.start <= address);
        let (area, index) = self.areas.get(behind.checked_sub(1)?)?;
        self.modules.get(*index).filter(|_| area.contains(&address))
    }

    /// As far as the list goes: what lies in a module that is not on it has no name and no rule.
    fn list(linux: &Linux<'_>) -> Self {
        let mut list = Self::default();
        let Ok(objects) = linux.module_objects() else { return list };
        for at in objects.map_while(Result::ok) {
            let Some(row) = linux.module_row(at) else { continue };
            let index = list.modules.len();
            for (base, size) in linux.module_areas(at).unwrap_or_default() {
                if size > 0
                    && let Some(end) = base.checked_add(size)
                {
                    list.areas.push((base..end, index));
                }
            }
            list.modules.push(ModuleCode::new(row));
        }
        list.areas.sort_unstable_by_key(|(area, _)| area.start);
        list
    }
}

/// How the kernel's rules are built: as its types say, or else as the header of its tables does. The numbers of registers
/// are in no type: there the header counts, or else the `rules` themselves.
fn layout(linux: &Linux<'_>, rules: &[u8]) -> Option<OrcLayout> {
    let types = linux.types().layout("orc_entry", linux.limits()).ok();
    let by_types = types.and_then(|types| {
        OrcLayout::from_members(types.size, |name| {
            let member = types.members.iter().find(|member| member.name == name)?;
            Some((member.bit_offset, member.bit_size))
        })
    });
    let header = linux.known.orc_header;
    let header = header.and_then(|at| linux.space().read_value::<[u8; HEADER_BYTES]>(at).ok());
    let by_header = header.and_then(|header| OrcLayout::from_header(&header));
    match (by_types, by_header) {
        // Both at one: then the numbers are the header's.
        (Some(types), Some(header)) if types.same_bits(&header) => Some(header),
        (Some(types), _) => Some(types.numbered_by(rules)),
        (None, header) => header,
    }
}

/// Tables of the kernel's image that memory did not lend: read once, since they never change.
#[derive(Debug)]
pub(crate) struct OrcCopy {
    rules: Vec<u8>,
    places: Vec<u8>,
}

/// The tables of the kernel's image, lent where memory is; nothing where it has none.
fn kernel_table<'k>(linux: &'k Linux<'_>) -> Result<Option<OrcTable<'k>>, LinuxError> {
    let known = &linux.known;
    let (Some(places), Some(places_end), Some(rules), Some(rules_end)) =
        (known.start_orc_places, known.stop_orc_places, known.start_orc, known.stop_orc)
    else {
        return Ok(None);
    };
    let limit = linux.limits().unwind_bytes;
    let len = |start: VirtAddr, end: VirtAddr| end.offset_from(start).unwrap_or(0);
    let lent = |start, end| {
        let len = usize::try_from(len(start, end)).ok().filter(|len| *len <= limit);
        len.and_then(|len| linux.space().slice(start, len)).map(Cow::Borrowed)
    };
    let (rules_bytes, places_bytes) = match (lent(rules, rules_end), lent(places, places_end)) {
        (Some(rules), Some(places)) => (rules, places),
        _ => {
            let read = |start, end| linux.space().read_vec(start, len(start, end), limit);
            let copy = linux.orc.get(|| {
                let copy =
                    || Ok(OrcCopy { rules: read(rules, rules_end)?, places: read(places, places_end)? });
                copy().map_err(LinuxError::read("the kernel's ORC tables"))
            })?;
            (Cow::Borrowed(copy.rules.as_slice()), Cow::Borrowed(copy.places.as_slice()))
        }
    };
    let layout = layout(linux, &rules_bytes).ok_or(LayoutError::NoType { name: "orc_entry".into() })?;
    Ok(Some(OrcTable::new(places_bytes, places, rules_bytes, layout)))
}

/// Where `struct pt_regs` has which register.
fn saved_registers(linux: &Linux<'_>) -> Result<SavedRegisters, LinuxError> {
    let fields = linux.pt_regs()?;
    let offset = |field: Field<u64>| field.address(VirtAddr::new(0)).get();
    let cs = fields.cs.map(|field| field.address(VirtAddr::new(0)).get());
    let missing = |member: &str| LayoutError::NoMember { structure: "pt_regs".into(), member: member.into() };
    let cs = cs.or_else(|| fields.cs_word.map(offset)).ok_or_else(|| missing("cs"))?;
    // The order of DWARF's numbers.
    let general = [
        fields.rax, fields.rdx, fields.rcx, fields.rbx, fields.rsi, fields.rdi, fields.rbp, fields.rsp,
        fields.r8, fields.r9, fields.r10, fields.r11, fields.r12, fields.r13, fields.r14, fields.r15,
    ];
    let size = linux.types().size_of("pt_regs")?;
    let saved = SavedRegisters::new(size, general.map(offset), offset(fields.rip), cs);
    saved.ok_or_else(|| LayoutError::Damaged { id: 0, reason: "registers lie outside of pt_regs" }.into())
}
