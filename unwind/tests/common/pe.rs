//! PE images in files, as a process would have them in memory.

use std::path::{Path, PathBuf};

use object::read::pe::PeFile64;
use object::{Object, ObjectSection, pe};
use vmc::{Fault, ReadError, VirtAddr, VirtualMemory};
use vmc_unwind::pe::PeModule;

/// An image at the base that it asks for.
pub(crate) struct PeFile {
    pub(crate) module: PeModule,
    /// (address, bytes) of the sections.
    sections: Vec<(u64, Vec<u8>)>,
}

impl PeFile {
    pub(crate) fn open(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap();
        let file = PeFile64::parse(&*bytes).unwrap();
        let base = file.relative_address_base();
        let sections: Vec<(u64, Vec<u8>)> = file
            .sections()
            .map(|section| {
                let mut data = section.data().unwrap().to_vec();
                data.resize((section.size() as usize).max(data.len()), 0);
                (section.address(), data)
            })
            .collect();
        let directory = file.data_directory(pe::IMAGE_DIRECTORY_ENTRY_EXCEPTION);
        let exceptions = directory.map_or((0, 0), |directory| {
            (directory.virtual_address.get(object::LittleEndian), directory.size.get(object::LittleEndian))
        });
        let end = sections.iter().map(|(at, bytes)| at + bytes.len() as u64).max().unwrap();
        let range = VirtAddr::new(base)..VirtAddr::new(end);
        Self { module: PeModule { range, exceptions }, sections }
    }
}

impl VirtualMemory for PeFile {
    fn read(&self, addr: VirtAddr, buf: &mut [u8]) -> Result<(), ReadError> {
        for (index, byte) in buf.iter_mut().enumerate() {
            let at = addr.get() + index as u64;
            let found = self.sections.iter().find_map(|(start, bytes)| {
                at.checked_sub(*start).and_then(|offset| bytes.get(offset as usize))
            });
            let missing = ReadError { addr: VirtAddr::new(at), done: index, fault: Fault::NotMapped };
            *byte = *found.ok_or(missing)?;
        }
        Ok(())
    }
}

/// The images of an architecture: of the shared data, and of the directories that the variable `more` names.
pub(crate) fn images(architecture: &str, more: &str) -> Option<Vec<PathBuf>> {
    let shared = std::env::var_os("VMC_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"), PathBuf::from);
    let folder = shared.join("windows/seh").join(architecture);
    let Ok(entries) = std::fs::read_dir(&folder) else {
        super::skip("the shared data's windows/seh is not there");
        return None;
    };
    let more = std::env::var_os(more).unwrap_or_default();
    let more: Vec<_> =
        std::env::split_paths(&more).filter_map(|folder| std::fs::read_dir(folder).ok()).collect();
    let paths = entries.chain(more.into_iter().flatten()).map(|entry| entry.unwrap().path());
    let mut images: Vec<PathBuf> = paths
        .filter(|path| path.extension().is_some_and(|kind| kind == "exe" || kind == "dll" || kind == "pyd"))
        .collect();
    images.sort();
    Some(images)
}
