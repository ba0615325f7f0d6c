//! What a file is, from its content.

use std::path::Path;

use crate::crash;
use crate::error::OpenError;
use crate::lime;

/// What a file's first bytes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// An ELF file of any type.
    Elf,
    /// A LiME image.
    Lime,
    /// A crash dump of 64-bit Windows.
    Crash,
    /// Something that has to be unpacked.
    Packed(Packing),
    /// Nothing that has a name: a flat memory image, if it is large enough.
    Flat,
}

/// How an image is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packing {
    /// zstd frames.
    Zstd,
    /// gzip members.
    Gzip,
    /// xz streams.
    Xz,
    /// AVML's ranges, compressed by snappy.
    Avml,
}

/// Packings by what a file begins with.
const PACKINGS: &[(&[u8], Packing)] = &[
    (b"\x28\xb5\x2f\xfd", Packing::Zstd),
    (b"\x1f\x8b\x08", Packing::Gzip),
    (b"\xfd7zXZ\0", Packing::Xz),
    (b"AVML\x02\0\0\0", Packing::Avml),
];

/// A raw image is at least this large: no machine of the last decades has less memory.
const SMALLEST_RAW: u64 = 1 << 20;

const TAKE_A_CORE: &str = "take an ELF core: dump-guest-memory without -z, -l, -s; virsh dump --memory-only without --format; \
    or convert it by makedumpfile -E";
const TAKE_A_DUMP: &str = "take a dump of the machine's memory: dump-guest-memory, virsh dump --memory-only";

/// Formats that are recognised so that they can be named, with what to do instead.
const OTHERS: &[(usize, &[u8], &str, &str)] = &[
    (0, b"EMiL", "a LiME image of another version than 1", "convert it to a raw image or an ELF core"),
    (0, b"AVML", "an AVML image of another version than 2", "convert it (avml-convert)"),
    (0, b"KDUMP   ", "a kdump-compressed dump", TAKE_A_CORE),
    (0, b"DISKDUMP", "a diskdump", TAKE_A_CORE),
    (0, b"makedumpfile\0", "a flattened kdump-compressed dump (makedumpfile)", TAKE_A_CORE),
    (0, b"PAGEDUMP", "a 32-bit Windows crash dump", "take a raw image or an ELF core"),
    (
        0,
        b"QEVM",
        "a QEMU migration stream (migrate, savevm)",
        "load it (-incoming) and take a dump with dump-guest-memory",
    ),
    (
        0,
        b"LibvirtQemudSave",
        "a libvirt save file",
        "restore it and take a dump with virsh dump --memory-only",
    ),
    (0, b"LibvirtQemudPart", "an unfinished libvirt save file", "take a dump with virsh dump --memory-only"),
    (0, b"\xd0\xbe\xd2\xbe", "a VMware state file", "give the .vmem file beside it"),
    (0, b"\xd1\xba\xd1\xba", "a VMware state file", "give the .vmem file beside it"),
    (0, b"\xd2\xbe\xd2\xbe", "a VMware state file", "give the .vmem file beside it"),
    (0, b"\xd3\xbe\xd3\xbe", "a VMware state file", "give the .vmem file beside it"),
    (
        0,
        b"\x7fVirtualBox SavedState",
        "a VirtualBox saved state",
        "take a core (VBoxManage debugvm dumpvmcore)",
    ),
    (0, b"QFI\xfb", "a qcow2 disk image", TAKE_A_DUMP),
    (0, b"KDMV", "a VMDK disk image", TAKE_A_DUMP),
    (0, b"vhdxfile", "a VHDX disk image", TAKE_A_DUMP),
    (0, b"conectix", "a VHD disk image", TAKE_A_DUMP),
    (0, b"<<< Oracle VM VirtualBox Disk Image", "a VDI disk image", TAKE_A_DUMP),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it first"),
    (0, b"\x89LZO\0", "an lzop file", "unpack it first"),
    (0, b"\xff\x06\0\0sNaPpY", "a snappy stream", "unpack it first"),
    (0, b"BZh", "a bzip2 file", "unpack it first"),
    (0, b"\x04\x22\x4d\x18", "an lz4 file", "unpack it first"),
    (0, b"PK\x03\x04", "a zip file", "unpack it first"),
    (257, b"ustar", "a tar archive", "unpack it first"),
];

/// What the file at `path` is, by its content.
pub(crate) fn detect(path: &Path, bytes: &[u8]) -> Result<Content, OpenError> {
    let path = || path.to_path_buf();
    if bytes.is_empty() {
        return Err(OpenError::Empty { path: path() });
    }
    if bytes.starts_with(b"\x7fELF") {
        return Ok(Content::Elf);
    }
    if bytes.starts_with(&lime::MAGIC) && bytes.get(4..8) == Some(&[1, 0, 0, 0]) {
        return Ok(Content::Lime);
    }
    if bytes.starts_with(crash::MAGIC) {
        return Ok(Content::Crash);
    }
    if let Some((_, packing)) = PACKINGS.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return Ok(Content::Packed(*packing));
    }
    for (offset, magic, found, advice) in OTHERS {
        if bytes.get(*offset..).is_some_and(|rest| rest.starts_with(magic)) {
            return Err(OpenError::Unsupported { path: path(), found, advice });
        }
    }
    if is_text(bytes) {
        return Err(OpenError::Text { path: path() });
    }
    let len = bytes.len() as u64;
    if len < SMALLEST_RAW {
        return Err(OpenError::TooSmall { path: path(), len });
    }
    Ok(Content::Flat)
}

/// Is the beginning UTF-8 without control characters? Memory begins with an interrupt table or zeros.
fn is_text(bytes: &[u8]) -> bool {
    let head = bytes.get(..4096).unwrap_or(bytes);
    let Some(chunk) = head.utf8_chunks().next() else { return false };
    // A character may be cut in two by the end of the head.
    let whole = chunk.valid().len() + 3 >= head.len();
    whole && chunk.valid().chars().all(|c| !c.is_control() || c.is_ascii_whitespace() || c == '\u{1b}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(bytes: &[u8]) -> String {
        detect(Path::new("f"), bytes).unwrap_err().to_string()
    }

    #[test]
    fn what_is_no_image_is_named() {
        assert_eq!(message(b""), "f: is empty, not a memory image");
        assert_eq!(message("Grüße\n".repeat(1000).as_bytes()), "f: is a text file, not a memory image");
        assert_eq!(message(&[0; 10]), "f: 10 bytes of no known format are too few for a memory image");
        assert_eq!(message(b"BZh91AY"), "f: is a bzip2 file, which is not read; unpack it first");
        assert!(
            message(b"KDUMP   \x06").contains("kdump-compressed")
                && message(b"QEVM\0\0\0\x03").contains("QEMU")
        );
        let mut tar = vec![b'a'; 512];
        tar[257..262].copy_from_slice(b"ustar");
        assert!(message(&tar).contains("tar archive"));
    }

    #[test]
    fn packings_are_known_by_their_first_bytes() {
        let packing = |bytes: &[u8]| match detect(Path::new("f"), bytes) {
            Ok(Content::Packed(packing)) => Some(packing),
            _ => None,
        };
        assert_eq!(packing(b"\x1f\x8b\x08\0"), Some(Packing::Gzip));
        assert_eq!(packing(b"\xfd7zXZ\0\0\x04"), Some(Packing::Xz));
        assert_eq!(packing(b"AVML\x02\0\0\0"), Some(Packing::Avml));
        assert_eq!(detect(Path::new("f"), b"EMiL\x01\0\0\0").unwrap(), Content::Lime);
        assert_eq!(detect(Path::new("f"), b"PAGEDU64\x0f").unwrap(), Content::Crash);
        assert!(message(b"PAGEDUMP\x0f").contains("32-bit Windows crash dump"));
        assert!(message(b"EMiL\x02\0\0\0").contains("another version"));
        assert!(message(b"AVML\x03\0\0\0").contains("another version"));
    }

    #[test]
    fn memory_is_no_text() {
        let mut ram = vec![0u8; 1 << 20];
        assert_eq!(detect(Path::new("f"), &ram).unwrap(), Content::Flat);
        ram[..4].copy_from_slice(b"text");
        assert_eq!(detect(Path::new("f"), &ram).unwrap(), Content::Flat);
    }
}
