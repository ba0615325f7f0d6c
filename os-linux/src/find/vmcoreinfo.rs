//! VMCOREINFO: what the kernel says of itself to whoever reads its memory.
//!
//! Source: `Documentation/admin-guide/kdump/vmcoreinfo.rst`. Lines `OSRELEASE=…`, `SYMBOL(x)=hex`, `NUMBER(x)=decimal`,
//! `OFFSET(a.b)=decimal`, `KERNELOFFSET=hex`; the first is OSRELEASE, at the start of a page.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use vmc::memory::lend_or_read;
use vmc::{PhysAddr, PhysMemory, VirtAddr};

/// What every VMCOREINFO begins with.
const START: &[u8; 10] = b"OSRELEASE=";
/// The kernel gives it a page.
const SIZE: usize = 4096;

/// The text of a VMCOREINFO page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmcoreInfo {
    text: String,
}

impl VmcoreInfo {
    /// Takes the text out of a page; nothing where it is no VMCOREINFO.
    #[must_use]
    pub fn parse(page: &[u8]) -> Option<Self> {
        if !page.starts_with(START) {
            return None;
        }
        let end = memchr::memchr(0, page).unwrap_or(page.len());
        let text = core::str::from_utf8(page.get(..end)?).ok()?;
        // The kernel's own format string ("OSRELEASE=%s\n") starts the same way.
        text.contains("SYMBOL(swapper_pg_dir)=").then(|| Self { text: text.to_string() })
    }

    /// The VMCOREINFO at the start of the page at `page`, if there is one.
    #[must_use]
    pub fn at(memory: &dyn PhysMemory, page: PhysAddr) -> Option<Self> {
        let mut start = [0; START.len()];
        if memory.read(page, &mut start).is_err() || start != *START {
            return None;
        }
        let mut buffer = Vec::new();
        Self::parse(lend_or_read(memory, page, SIZE, &mut buffer).ok()?)
    }

    /// The whole text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    fn value(&self, key: &str) -> Option<&str> {
        self.text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
    }

    fn keyed(&self, kind: &str, name: &str) -> Option<&str> {
        self.text.lines().find_map(|line| {
            line.strip_prefix(kind)?.strip_prefix('(')?.strip_prefix(name)?.strip_prefix(")=")
        })
    }

    /// The kernel's release, as `uname -r` has it.
    #[must_use]
    pub fn release(&self) -> &str {
        self.value("OSRELEASE").unwrap_or("")
    }

    /// The kernel's build-id.
    #[must_use]
    pub fn build_id(&self) -> Option<Vec<u8>> {
        let text = self.value("BUILD-ID")?;
        let digits = text.as_bytes().chunks(2);
        digits.map(|pair| u8::from_str_radix(core::str::from_utf8(pair).ok()?, 16).ok()).collect()
    }

    /// The address of a symbol.
    #[must_use]
    pub fn symbol(&self, name: &str) -> Option<VirtAddr> {
        u64::from_str_radix(self.keyed("SYMBOL", name)?, 16).ok().map(VirtAddr::new)
    }

    /// A number: decimal, or hexadecimal with `0x`; those above 2^63 are negative.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<i64> {
        let text = self.keyed("NUMBER", name)?;
        match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).ok().map(u64::cast_signed),
            None => text.parse().ok(),
        }
    }

    /// The size of a structure in bytes.
    #[must_use]
    pub fn size(&self, name: &str) -> Option<u64> {
        self.keyed("SIZE", name)?.parse().ok()
    }

    /// How many elements an array has.
    #[must_use]
    pub fn length(&self, name: &str) -> Option<u64> {
        self.keyed("LENGTH", name)?.parse().ok()
    }

    /// The size of a page in bytes.
    #[must_use]
    pub fn page_size(&self) -> Option<u64> {
        self.value("PAGESIZE")?.parse().ok()
    }

    /// The offset of a member (`structure.member`).
    #[must_use]
    pub fn offset(&self, name: &str) -> Option<u64> {
        self.keyed("OFFSET", name)?.parse().ok()
    }

    /// How far KASLR moved the kernel's virtual addresses.
    #[must_use]
    pub fn kaslr_offset(&self) -> Option<u64> {
        u64::from_str_radix(self.value("KERNELOFFSET")?, 16).ok()
    }

    /// Is it of an arm64 kernel? Only those say how their image's addresses relate.
    #[must_use]
    pub fn is_aarch64(&self) -> bool {
        self.number("kimage_voffset").is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &[u8] = b"OSRELEASE=6.1.0-x\nBUILD-ID=00ff10\nSYMBOL(swapper_pg_dir)=ffffffff82e10000\n\
        NUMBER(phys_base)=-507510784\nNUMBER(hex)=0xfffffffffffffff0\nOFFSET(uts_namespace.name)=4\nKERNELOFFSET=1e400000\n\0junk";

    #[test]
    fn each_kind_of_line() {
        let info = VmcoreInfo::parse(PAGE).unwrap();
        assert_eq!(info.release(), "6.1.0-x");
        assert_eq!(info.build_id(), Some(Vec::from([0, 0xff, 0x10])));
        assert_eq!(info.symbol("swapper_pg_dir"), Some(VirtAddr::new(0xffff_ffff_82e1_0000)));
        assert_eq!(info.symbol("swapper"), None);
        assert_eq!(info.number("phys_base"), Some(-507_510_784));
        assert_eq!(info.number("hex"), Some(-16));
        assert_eq!(info.offset("uts_namespace.name"), Some(4));
        assert_eq!(info.kaslr_offset(), Some(0x1e40_0000));
        assert!(!info.is_aarch64());
    }

    #[test]
    fn other_pages_are_none() {
        assert_eq!(VmcoreInfo::parse(b"OSRELEASE=%s\n\0BUILD-ID"), None);
        assert_eq!(VmcoreInfo::parse(b"XOSRELEASE=1\nSYMBOL(swapper_pg_dir)=1"), None);
        assert_eq!(VmcoreInfo::parse(b"OSRELEASE=\xff SYMBOL(swapper_pg_dir)=1"), None);
        assert_eq!(VmcoreInfo::parse(b""), None);
    }
}
