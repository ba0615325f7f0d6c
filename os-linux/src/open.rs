//! What follows when a kernel was found: its symbols and its types, its own or those of files, and what they tell of it.

use alloc::boxed::Box;
use alloc::vec::Vec;

use vmc::layout::{Field, Layouts, Types};
use vmc::symbols::SymbolTable;
use vmc::{AddressSpace, Limits, PageTables, ReadExt, VirtAddr};

use crate::elf::build_id;
use crate::error::LinuxError;
use crate::files::{Checks, GivenSymbols, KernelFiles};
use crate::find::without::{banner_of, banners};
use crate::find::{BANNER, names_at};
use crate::identity::KernelIdentity;
use crate::image::Image;
use crate::kallsyms::Kallsyms;
use crate::kernel::TLB_ENTRIES;
use crate::known::Known;
use crate::symbols::{KernelSymbols, addresses_of, moved};
use crate::types::KernelTypes;

/// Files, if there are some.
type Files<'f, 'g> = &'f mut Option<&'g mut dyn KernelFiles>;

/// How many symbols of a table are held against the kernel's own, and how many of those have to agree.
const COMPARED: usize = 1000;
const AGREEING: usize = 950;
/// The first task.
const NEEDED: &str = "init_task";

/// The kernel's symbols: its own, or those of a file; and those of them that are asked for again and again.
pub(crate) fn load_symbols<'m>(
    space: &AddressSpace<'m>,
    identity: &mut KernelIdentity,
    limits: &Limits,
    files: Files<'_, '_>,
) -> Result<(KernelSymbols<'m>, Known), LinuxError> {
    let own = match identity.vmcoreinfo {
        Some(_) => Kallsyms::load(space, identity, limits),
        None => Kallsyms::search(space, &Image::of(space, None), None, limits),
    };
    let own = own.map(|own| {
        let symbols = KernelSymbols::Kallsyms(own);
        let known = Known::find(&symbols);
        (symbols, known)
    });
    // Without data nothing is found: a kernel whose kallsyms lack it (CONFIG_KALLSYMS_ALL) tells functions alone.
    let lacking = own.as_ref().map_or(true, |(_, known)| known.init_task.is_none());
    if lacking && let Some(files) = files {
        let image = Image::of(space, Some(identity.stext));
        if identity.banner.is_none() {
            identity.banner = banner_of(space, &image, identity.names);
        }
        let release = identity.release.clone();
        let fits = |table: &SymbolTable| slide(space, &image, &release, table).is_some();
        if let Some(given) = files.symbols(identity, &fits)
            && let Some(slide) = slide(space, &image, &release, &given.table)
        {
            identity.kaslr_offset = identity.kaslr_offset.or(Some(slide));
            let table = moved(&given.table, slide);
            let symbols = KernelSymbols::Given(GivenSymbols { source: given.source, table });
            let known = Known::find(&symbols);
            return Ok((symbols, known));
        }
    }
    own
}

/// How far KASLR moved the kernel away from the addresses of a symbol table, if that is this kernel's: its banner has to be
/// where the table has it, its code where there is code, its names where they are.
fn slide(space: &AddressSpace<'_>, image: &Image, release: &str, table: &SymbolTable) -> Option<u64> {
    let [told, start, names] = addresses_of(table, &["linux_banner", "_stext", "init_uts_ns"]);
    let fits = |at: VirtAddr| {
        let slide = at.get().wrapping_sub(told?.get());
        let start = start?.wrapping_add(slide);
        let code = image.part_at(start).is_some_and(|part| part.executable);
        let named = names.is_none_or(|at| names_at(space, at.wrapping_add(slide), release).is_some());
        // The image is moved by whole pages.
        (slide.is_multiple_of(4096) && code && named).then_some(slide)
    };
    banners(space, image).into_iter().find_map(|(at, _)| fits(at))
}

/// What symbols tell of a kernel that VMCOREINFO has not told.
pub(crate) fn complete(
    identity: &mut KernelIdentity,
    space: &AddressSpace<'_>,
    known: &Known,
    limits: &Limits,
) {
    if identity.vmcoreinfo.is_none()
        && let Some(stext) = known.stext
    {
        identity.stext = stext;
        // There may be more of its kind: those that the image was made with.
        let names = known.init_uts_ns.and_then(|at| names_at(space, at, &identity.release));
        identity.names = names.unwrap_or(identity.names);
    }
    if identity.build_id.is_none()
        && let (Some(start), Some(stop)) = (known.start_notes, known.stop_notes)
        && let Some(len) = stop.offset_from(start)
        && let Ok(notes) = space.read_vec(start, len, limits.note_bytes)
    {
        identity.build_id = build_id(&notes).map(<[u8]>::to_vec);
    }
}

/// The same address space by the kernel's own page table, in place of the one that it was found by: processes come and go.
pub(crate) fn kernels_own<'m>(space: AddressSpace<'m>, known: &Known) -> AddressSpace<'m> {
    let (PageTables::X86_64(tables), Some(at)) = (space.tables(), known.init_top_pgt) else { return space };
    let Ok(root) = space.translate(at) else { return space };
    let own = PageTables::X86_64(tables.with_root(root));
    let own = AddressSpace::with_tlb(space.memory(), own, TLB_ENTRIES);
    // A symbol may mean something else than it is thought to.
    if own.translate(at) == Ok(root) { own } else { space }
}

/// Types out of a file that is of this very kernel.
pub(crate) fn given_types<'m>(
    space: &AddressSpace<'_>,
    identity: &mut KernelIdentity,
    symbols: &KernelSymbols<'_>,
    files: Files<'_, '_>,
) -> Result<KernelTypes<'m>, LinuxError> {
    if identity.banner.is_none() {
        let image = Image::of(space, Some(identity.stext));
        let [told] = symbols.addresses_of(&["linux_banner"]);
        let text = told.and_then(|at| space.read_cstr(at, 1024).ok()).filter(|text| text.starts_with(BANNER));
        let text = text.map(|text| vmc::text::lossless(text.trim_ascii_end()));
        identity.banner = text.or_else(|| banner_of(space, &image, identity.names));
    }
    let fits = |table: &SymbolTable| agree(table, symbols);
    let [task] = symbols.addresses_of(&[NEEDED]);
    let holds =
        |types: &dyn Layouts| task.is_some_and(|task| first_task_is_there(space, types, task) == Some(true));
    let checks = Checks { symbols: &fits, types: &holds };
    let given = files.as_mut().and_then(|files| files.types(identity, &checks));
    given.map(KernelTypes::Given).ok_or_else(|| LinuxError::NoTypes {
        release: identity.release.clone(),
        banner: identity.banner.clone(),
    })
}

/// Does a file's symbol table agree with the kernel's own, but for the distance of KASLR? Names that are there more than once
/// are passed over.
fn agree(table: &SymbolTable, symbols: &KernelSymbols<'_>) -> bool {
    let own: Box<SymbolTable> = Box::new(symbols.table());
    let by_name = |table: &SymbolTable| {
        let mut places: hashbrown::HashMap<Vec<u8>, Option<u64>> = hashbrown::HashMap::new();
        for symbol in table.iter().filter(|symbol| symbol.address >> 63 == 1) {
            let place = places.entry(symbol.name.to_vec()).or_insert(Some(symbol.address));
            if *place != Some(symbol.address) {
                *place = None;
            }
        }
        places
    };
    let (own, theirs) = (by_name(&own), by_name(table));
    let once = |name: &[u8]| Some(own.get(name).copied()??.wrapping_sub(theirs.get(name).copied()??));
    let Some(slide) = once(b"_stext") else { return false };
    let shared: Vec<u64> = own.keys().filter_map(|name| once(name)).take(COMPARED).collect();
    let agreeing = shared.iter().filter(|found| **found == slide).count();
    agreeing.saturating_mul(COMPARED) >= shared.len().saturating_mul(AGREEING)
        && agreeing >= AGREEING.min(shared.len())
        && shared.len() >= 100
}

/// Do types describe the kernel's first task as it is: its name, its number, a list of tasks that leads to process 1 and back?
fn first_task_is_there(space: &AddressSpace<'_>, types: &dyn Layouts, task: VirtAddr) -> Option<bool> {
    let types = &DynTypes(types);
    let name: Field<[u8; 16]> = Field::new(types, "task_struct", "comm").ok()?;
    let number: Field<u32> = Field::new(types, "task_struct", "pid").ok()?;
    let list: Field<[u64; 2]> = Field::new(types, "task_struct", "tasks").ok()?;
    let [next, _] = list.read(space, task).ok()?;
    let first = VirtAddr::new(next.checked_sub(list.address(VirtAddr::new(0)).get())?);
    let [_, back] = list.read(space, first).ok()?;
    let named = name.read(space, task).ok()?.starts_with(b"swapper");
    let numbered = number.read(space, task).ok()? == 0 && number.read(space, first).ok()? == 1;
    Some(named && numbered && back == list.address(task).get())
}

/// Types of any kind, as fields are looked up in them.
struct DynTypes<'t>(&'t dyn Layouts);

impl Types for DynTypes<'_> {
    fn member(&self, structure: &str, path: &str) -> Result<vmc::layout::Member, vmc::layout::LayoutError> {
        self.0.member(structure, path)
    }

    fn size_of(&self, structure: &str) -> Result<u64, vmc::layout::LayoutError> {
        self.0.size_of(structure)
    }
}
