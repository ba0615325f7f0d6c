//! What debug files have for unwinding, for images that lack it.

use object::read::elf::ElfFile64;
use object::{Object, ObjectSection};
use vmc::view::{BuildId, DebugLink};
use vmc_unwind::{AddressSize, Section, Sections};

use super::find::DebugFiles;
use super::link::Name;

/// The debug files, as stacks ask for them.
#[derive(Debug)]
pub(crate) struct UnwindFiles<'f> {
    pub(crate) files: &'f mut DebugFiles,
    /// Bytes of one section.
    pub(crate) limit: usize,
}

impl vmc_linux::DebugFiles for UnwindFiles<'_> {
    fn unwind_sections(&mut self, build_id: Option<&BuildId>, link: Option<&DebugLink>) -> Option<Sections> {
        sections(&self.files.read(&Name::of(build_id, link)?)?, self.limit)
    }
}

/// The sections for unwinding of an ELF file. One that is missing, or only a shadow of the program's, is empty.
fn sections(bytes: &[u8], limit: usize) -> Option<Sections> {
    let file = ElfFile64::<object::LittleEndian>::parse(bytes).ok()?;
    let read = |name| {
        let section = file.section_by_name(name)?;
        let data = section.compressed_data().ok()?;
        let size = usize::try_from(data.uncompressed_size).ok()?;
        let bytes = if size <= limit { data.decompress().ok()?.into_owned() } else { return None };
        (bytes.len() == size).then(|| Section::new(section.address(), bytes))
    };
    let section = |name| read(name).unwrap_or_default();
    Some(Sections {
        eh_frame_hdr: section(".eh_frame_hdr"),
        eh_frame: section(".eh_frame"),
        debug_frame: section(".debug_frame"),
        text: file.section_by_name(".text").map(|section| section.address()),
        // Only 64-bit files are read here.
        address_size: AddressSize::Eight,
    })
}

#[cfg(test)]
mod tests {
    use super::sections;

    #[test]
    fn sections_are_read_within_bounds() {
        let Ok(mut bytes) = std::fs::read("/proc/self/exe") else { return };
        let whole = sections(&bytes, 128 << 20).unwrap();
        assert!(!whole.eh_frame.bytes.is_empty() && whole.eh_frame.address != 0 && whole.text.is_some());
        assert!(sections(&bytes, 16).unwrap().eh_frame.bytes.is_empty());
        assert!(sections(b"\x7fELF and no more", 128 << 20).is_none());
        for step in 0..20 {
            let at = bytes.len() / 20 * step;
            let _ = sections(&bytes[..at], 128 << 20);
        }
        // Section headers that mean anything.
        let at = bytes.len() - 2000;
        bytes[at..].iter_mut().zip(0u8..=255).for_each(|(byte, value)| *byte ^= value);
        let _ = sections(&bytes, 128 << 20);
    }
}
