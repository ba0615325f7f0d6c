//! What a file is, from its content.

use std::path::Path;

use crate::error::OpenError;

/// What a file's first bytes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// An ELF file of any type.
    Elf,
    /// A zstd frame.
    Zstd,
    /// Nothing that has a name: a flat memory image, if it is large enough.
    Flat,
}

/// A raw image is at least this large: no machine of the last decades has less memory.
const SMALLEST_RAW: u64 = 1 << 20;

/// Formats that are recognised so that they can be named, with what to do instead.
const OTHERS: &[(usize, &[u8], &str, &str)] = &[
    (0, b"EMiL", "a LiME image", "convert it to a raw image or an ELF core"),
    (0, b"AVML", "an AVML image", "convert it to a raw image (avml-convert)"),
    (0, b"KDUMP   ", "a kdump-compressed dump", "take an ELF core (dump-guest-memory without -z, -l, -s)"),
    (
        0,
        b"makedumpfile\0",
        "a flattened makedumpfile stream",
        "take an ELF core (dump-guest-memory without -z, -l, -s)",
    ),
    (0, b"PAGEDU64", "a Windows crash dump", "take a raw image or an ELF core"),
    (0, b"PAGEDUMP", "a 32-bit Windows crash dump", "take a raw image or an ELF core"),
    (0, b"QEVM", "a QEMU migration stream", "load it and take a dump with dump-guest-memory"),
    (0, b"LibvirtQemudSave", "a libvirt save file", "take a dump with virsh dump --memory-only"),
    (0, b"QFI\xfb", "a qcow2 disk image", "take a dump of the running machine's memory"),
    (0, b"KDMV", "a VMDK disk image", "take a dump of the running machine's memory"),
    (0, b"\x1f\x8b", "a gzip file", "unpack it first"),
    (0, b"\xfd7zXZ\0", "an xz file", "unpack it first"),
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
    if bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        return Ok(Content::Zstd);
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
        assert_eq!(message(b"\x1f\x8b\x08"), "f: is a gzip file, which is not read; unpack it first");
        let mut tar = vec![b'a'; 512];
        tar[257..262].copy_from_slice(b"ustar");
        assert!(message(&tar).contains("tar archive"));
    }

    #[test]
    fn memory_is_no_text() {
        let mut ram = vec![0u8; 1 << 20];
        assert_eq!(detect(Path::new("f"), &ram).unwrap(), Content::Flat);
        ram[..4].copy_from_slice(b"text");
        assert_eq!(detect(Path::new("f"), &ram).unwrap(), Content::Flat);
    }
}
