//! [`Stacks`]: the images that the code of some processes lies in, gathered once, shared by all walks.
//!
//! Gathering reads headers only. Unwind tables and symbols are read when a walk first needs them, and then serve every
//! process that maps the same file.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use hashbrown::HashMap;
use once_cell::race::OnceBox;
use vmc::layout::Types;
use vmc::symbols::SymbolTable;
use vmc::view::{BuildId, DebugLink, FrameModule, Module, RowErrors};
use vmc::{ReadExt, VirtAddr, VirtualMemory};
use vmc_unwind::{Found, Modules, NoTable, Sections};

use crate::elf::{ElfImage, Source};
use crate::error::LinuxError;
use crate::kernel::Linux;
use crate::lazy::Lazy;
use crate::mm::{AddressSpaceOf, Area, CachedFile};
use crate::stack::kernel::KernelCode;
use crate::task::Task;

/// The vDSO has one to four pages.
const SPECIAL_PAGES: u64 = 4;
const SPECIAL_BYTES: u64 = 64 << 10;

fn special_bytes_limit(linux: &Linux<'_>) -> usize {
    SPECIAL_BYTES.max(linux.page_size() * SPECIAL_PAGES) as usize
}

/// An executable mapping of a process, and the image it is of.
#[derive(Debug)]
pub(super) struct CodeRange {
    pub(super) range: Range<VirtAddr>,
    /// The image's place in [`Stacks`] and what to add to its addresses; nothing for code that is of no image.
    pub(super) image: Option<(usize, u64)>,
    pub(super) module: Option<Arc<FrameModule>>,
}

/// A process: its memory and its code.
#[derive(Debug)]
pub(super) struct ProcessCode<'k, 'm> {
    pub(super) memory: AddressSpaceOf<'k, 'm>,
    pub(super) ranges: Vec<CodeRange>,
    /// One of its tasks.
    task: Option<Task<'k, 'm>>,
    /// What a JIT compiler in it tells of its code.
    perf_map: OnceBox<SymbolTable>,
}

impl ProcessCode<'_, '_> {
    /// The names of generated code; none where nothing tells them.
    pub(super) fn generated(&self) -> &SymbolTable {
        let read = || self.task.and_then(|task| task.perf_map().ok()).unwrap_or_default();
        self.perf_map.get_or_init(|| Box::new(read()))
    }
}

/// The images and processes that stacks are walked in.
///
/// It is `Sync`: threads walk side by side, each with a [`vmc_unwind::Cache`] of its own.
#[derive(Debug)]
pub struct Stacks<'k, 'm> {
    pub(super) linux: &'k Linux<'m>,
    pub(super) images: Vec<ElfImage<'k, 'm>>,
    /// The place of a file's image, by its inode's address and its size; nothing where the file is no ELF image.
    by_inode: HashMap<(u64, u64), Option<usize>>,
    /// By the address of their `mm_struct`.
    processes: HashMap<u64, ProcessCode<'k, 'm>>,
    /// Made when a kernel part is first walked.
    pub(super) kernel: Lazy<KernelCode<'k, 'm>, LinuxError>,
}

/// The code of one process, as the unwinder asks for it.
#[derive(Debug)]
pub(super) struct CodeOf<'s, 'k, 'm> {
    pub(super) stacks: &'s Stacks<'k, 'm>,
    pub(super) process: &'s ProcessCode<'k, 'm>,
}

impl<'m> Linux<'m> {
    /// Gathers what walks over the stacks of `tasks` need: the executable mappings of their processes and the headers of
    /// their images.
    #[must_use]
    pub fn stacks<'k>(&'k self, tasks: &[Task<'k, 'm>]) -> Stacks<'k, 'm> {
        self.gather(tasks)
    }

    /// The same, with debug files: they are asked about each image that brings no unwind information, or has not all of it in
    /// memory.
    #[must_use]
    pub fn stacks_with<'k>(&'k self, tasks: &[Task<'k, 'm>], files: &mut dyn DebugFiles) -> Stacks<'k, 'm> {
        let mut stacks = self.gather(tasks);
        for image in &mut stacks.images {
            if image.lacks_unwind_information()
                && let Some(sections) = files.unwind_sections(image.build_id(), image.debug_link())
            {
                image.give(sections);
            }
        }
        stacks
    }

    fn gather<'k>(&'k self, tasks: &[Task<'k, 'm>]) -> Stacks<'k, 'm> {
        let mut gathering = Gathering { linux: self, images: Vec::new(), by_inode: HashMap::new() };
        let mut processes = HashMap::new();
        for task in tasks {
            // A thread whose memory cannot be told has no user part to walk; its row says so.
            let Ok(Some(mm)) = task.mm() else { continue };
            if task.is_kernel_thread() == Ok(false)
                && !processes.contains_key(&mm.get())
                && let Ok(memory) = AddressSpaceOf::new(self, mm)
            {
                let process = ProcessCode { task: Some(*task), ..gathering.process(memory) };
                processes.insert(mm.get(), process);
            }
        }
        let Gathering { images, by_inode, .. } = gathering;
        Stacks { linux: self, images, by_inode, processes, kernel: Lazy::new() }
    }
}

impl<'k, 'm> Stacks<'k, 'm> {
    /// Gathers a task's process, or gathers it anew: a live guest's processes come, go and map other files. Images that are
    /// known already are kept. False where the task has no memory of its own that could be told.
    pub fn gather(&mut self, task: &Task<'k, 'm>) -> bool {
        let Ok(Some(mm)) = task.mm() else { return false };
        let Ok(memory) = AddressSpaceOf::new(self.linux, mm) else { return false };
        let images = core::mem::take(&mut self.images);
        let by_inode = core::mem::take(&mut self.by_inode);
        let mut gathering = Gathering { linux: self.linux, images, by_inode };
        let process = ProcessCode { task: Some(*task), ..gathering.process(memory) };
        (self.images, self.by_inode) = (gathering.images, gathering.by_inode);
        self.processes.insert(mm.get(), process);
        true
    }

    /// How many images and processes are kept.
    #[must_use]
    pub fn kept(&self) -> (usize, usize) {
        (self.images.len(), self.processes.len())
    }
}

/// Debug files that somebody else has: nothing here opens files.
pub trait DebugFiles {
    /// What the debug file of an image has for unwinding, by the image's build-id and by the file that it names itself. Both
    /// are the guest's word. The answer is believed to be of the same link as the image.
    fn unwind_sections(&mut self, build_id: Option<&BuildId>, link: Option<&DebugLink>) -> Option<Sections>;
}

/// Images on their way into [`Stacks`].
struct Gathering<'k, 'm> {
    linux: &'k Linux<'m>,
    images: Vec<ElfImage<'k, 'm>>,
    by_inode: HashMap<(u64, u64), Option<usize>>,
}

impl<'k, 'm> Gathering<'k, 'm> {
    fn process(&mut self, memory: AddressSpaceOf<'k, 'm>) -> ProcessCode<'k, 'm> {
        let areas: Vec<Area> = memory.areas().0.iter().filter(|area| area.executable()).copied().collect();
        let ranges = areas.iter().map(|area| self.code_range(&memory, area)).collect();
        ProcessCode { memory, ranges, task: None, perf_map: OnceBox::new() }
    }

    fn code_range(&mut self, memory: &AddressSpaceOf<'k, 'm>, area: &Area) -> CodeRange {
        let image = self.image_of(memory, area);
        let image = image.and_then(|index| {
            let offset = if area.has_file() { area.offset } else { 0 };
            Some((index, self.images.get(index)?.bias(area.start.get(), offset, true)?))
        });
        let module = image.and_then(|(index, bias)| {
            let image = self.images.get(index)?;
            Some(Arc::new(FrameModule {
                path: image.path.clone(),
                base: VirtAddr::new(image.extent().0.wrapping_add(bias)),
                build_id: image.build_id().cloned(),
                debug_link: image.debug_link().cloned(),
            }))
        });
        CodeRange { range: area.start..area.end, image, module }
    }

    fn image_of(&mut self, memory: &AddressSpaceOf<'k, 'm>, area: &Area) -> Option<usize> {
        let (key, source, path) = if area.has_file() {
            let file = CachedFile::of(self.linux, area.file).ok()?;
            if let Some(known) = self.by_inode.get(&(file.inode.get(), file.size)) {
                return *known;
            }
            let path = self.linux.file_path(area.file).unwrap_or_else(|_| String::from("?"));
            (Some((file.inode.get(), file.size)), Source::File(file), path)
        } else {
            let name = memory.special_name(area).ok().flatten()?;
            let bytes = special_bytes(memory, area).ok()?;
            (None, Source::Bytes(bytes), name)
        };
        let image = ElfImage::new(path, source, self.linux.limits());
        let place = image.map(|image| {
            self.images.push(image);
            self.images.len() - 1
        });
        if let Some(inode) = key {
            self.by_inode.insert(inode, place);
        }
        place
    }
}

/// The bytes of a mapping that has no file. Its pages are mapped when they are first touched, so that some may be missing.
fn special_bytes(memory: &AddressSpaceOf<'_, '_>, area: &Area) -> Result<Vec<u8>, LinuxError> {
    let len = area.end.offset_from(area.start).unwrap_or(0);
    let mapped = memory.read_vec(area.start, len, special_bytes_limit(memory.linux));
    let of_kernel = || vdso_image(memory, len).or_else(|_| special_pages(memory, area, len));
    mapped.map_err(LinuxError::read("the vDSO")).or_else(|why| of_kernel().map_err(|_| why))
}

/// The kernel's own copy of the vDSO that a process has (`struct vdso_image`, `arch/x86/include/asm/vdso.h`), where it is as
/// long as its mapping.
fn vdso_image(memory: &AddressSpaceOf<'_, '_>, len: u64) -> Result<Vec<u8>, LinuxError> {
    let (linux, read) = (memory.linux, LinuxError::read("the kernel's vDSO"));
    let (types, space) = (linux.types(), linux.space());
    let word = |structure, path, at: VirtAddr| {
        let offset = types.member(structure, path)?.offset;
        space.read_u64(at.wrapping_add(offset)).map_err(&read)
    };
    let image = VirtAddr::new(word("mm_struct", "context.vdso_image", memory.mm)?);
    let (data, size) = (word("vdso_image", "data", image)?, word("vdso_image", "size", image)?);
    if size != len {
        let reason = "it is not as long as its mapping";
        return Err(LinuxError::Broken { what: "the vDSO", at: image, reason });
    }
    space.read_vec(VirtAddr::new(data), len, special_bytes_limit(linux)).map_err(&read)
}

/// The pages that a special mapping is made of (`struct vm_special_mapping`), where the kernel keeps a list of them: arm64's
/// vDSO.
fn special_pages(memory: &AddressSpaceOf<'_, '_>, area: &Area, len: u64) -> Result<Vec<u8>, LinuxError> {
    let (linux, read) = (memory.linux, LinuxError::read("the pages of a special mapping"));
    let broken = |at, reason| LinuxError::Broken { what: "a special mapping", at, reason };
    let offset = linux.types().member("vm_special_mapping", "pages")?.offset;
    let pages = linux.space().read_pointer(area.private_data.wrapping_add(offset)).map_err(&read)?;
    let size = linux.page_size();
    if pages.is_null() || len > special_bytes_limit(linux) as u64 {
        return Err(broken(area.private_data, "it has no list of pages, or is too long"));
    }
    let mut bytes = Vec::new();
    for index in 0..len / size {
        let page = linux.space().read_pointer(pages.wrapping_add(index * 8)).map_err(&read)?;
        let physical = linux.page_at(page).ok_or_else(|| broken(page, "what it lists is no page"))?;
        let mut part = alloc::vec![0; size as usize];
        let failed = |why| read(vmc::ReadError::new(page, why));
        linux.memory().read(physical, &mut part).map_err(failed)?;
        bytes.append(&mut part);
    }
    Ok(bytes)
}

impl<'k, 'm> Stacks<'k, 'm> {
    /// The code of the process whose `mm_struct` lies at `mm`.
    pub(super) fn code_of(&self, mm: VirtAddr) -> Option<CodeOf<'_, 'k, 'm>> {
        self.processes.get(&mm.get()).map(|process| CodeOf { stacks: self, process })
    }
}

impl CodeOf<'_, '_, '_> {
    /// The executable mapping that `address` lies in.
    pub(super) fn at(&self, address: VirtAddr) -> Option<&CodeRange> {
        let ranges = &self.process.ranges;
        let behind = ranges.partition_point(|code| code.range.start <= address);
        ranges.get(behind.checked_sub(1)?).filter(|code| code.range.contains(&address))
    }
}

impl Modules for CodeOf<'_, '_, '_> {
    fn find(&self, address: VirtAddr) -> Option<Found<'_>> {
        let code = self.at(address)?;
        let Some((index, bias)) = code.image else {
            return Some(Found { range: code.range.clone(), bias: 0, table: Err(NoTable::None) });
        };
        let Some(image) = self.stacks.images.get(index) else {
            return Some(Found { range: code.range.clone(), bias, table: Err(NoTable::None) });
        };
        let (table, holds) = image.table_at(address.get().wrapping_sub(bias));
        // Where there are several tables, an answer holds for one function; it is clipped to the mapping.
        let range = holds.map_or(code.range.clone(), |holds| {
            let start = VirtAddr::new(holds.start.wrapping_add(bias)).max(code.range.start);
            let end = VirtAddr::new(holds.end.wrapping_add(bias)).min(code.range.end);
            if (start..end).contains(&address) { start..end } else { address..address.wrapping_add(1) }
        });
        Some(Found { range, bias, table })
    }
}

impl AddressSpaceOf<'_, '_> {
    /// The images that code of the process lies in, as rows: its program, its libraries, the vDSO.
    #[must_use]
    pub fn module_rows(&self) -> Vec<Module> {
        let mut gathering = Gathering { linux: self.linux, images: Vec::new(), by_inode: HashMap::new() };
        let areas = self.areas().0.iter().filter(|area| area.executable());
        let ranges: Vec<CodeRange> = areas.map(|area| gathering.code_range(self, area)).collect();
        let mut rows: Vec<Module> = Vec::new();
        for code in &ranges {
            let (Some((index, _)), Some(module)) = (code.image, &code.module) else { continue };
            if rows.iter().any(|row| row.base == module.base && row.path.as_deref() == Some(&module.path)) {
                continue;
            }
            let size = gathering.images.get(index).map_or(0, |image| image.extent().1);
            let name = module.path.rsplit('/').next().unwrap_or(&module.path);
            rows.push(Module {
                name: name.into(),
                path: Some(module.path.clone()),
                base: module.base,
                size,
                build_id: module.build_id.clone(),
                errors: RowErrors::default(),
                ..Module::default()
            });
        }
        rows
    }
}
