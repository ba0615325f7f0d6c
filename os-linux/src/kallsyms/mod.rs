//! kallsyms: the kernel's symbol table, as it lies in the kernel's own read-only data.
//!
//! Source: `kernel/kallsyms.c`, `scripts/kallsyms.c`. Names are sequences of token numbers, each with a length in front (one
//! byte, or two since 6.1 where the first has its top bit set); a table of 256 tokens gives each number a string. The first character
//! of an expanded name is the symbol's type. Addresses are 32-bit offsets in one of three encodings, told apart by which of
//! them gives `_stext` the address that VMCOREINFO gives it, not by version. Where VMCOREINFO does not tell where the tables lie
//! (kernels before 6.0), or there is none, they are found by their content.

mod addresses;
mod lookup;
mod names;
mod search;

use alloc::borrow::Cow;
use alloc::string::ToString;
use alloc::vec::Vec;

use once_cell::race::OnceBox;
use vmc::bytes::{u16_at, u32_at};
use vmc::symbols::{SymbolTable, SymbolTableBuilder};
use vmc::{AddressSpace, Limits, ReadExt, VirtAddr, VirtualMemory};

use crate::error::LinuxError;
use crate::find::{BANNER, VmcoreInfo};
use crate::identity::KernelIdentity;
use crate::image::Image;
use addresses::Addresses;
use names::{Hints, Names};
use search::{Tables, search};

/// The tables, as VMCOREINFO calls them; in which order they lie has changed with the versions.
const TABLES: [&str; 5] = [
    "kallsyms_num_syms",
    "kallsyms_token_table",
    "kallsyms_token_index",
    "kallsyms_offsets",
    "kallsyms_relative_base",
];

/// The kernel's symbols, still packed.
#[derive(Debug)]
pub struct Kallsyms<'m> {
    names: Cow<'m, [u8]>,
    tokens: Vec<Vec<u8>>,
    addresses: Addresses<'m>,
    count: usize,
    /// Where every so-manieth name lies, noted when an address is first looked up.
    places: OnceBox<Vec<u32>>,
    /// How many bytes of names are unpacked at once.
    most_bytes: usize,
}

impl<'m> Kallsyms<'m> {
    /// Finds the tables: by what VMCOREINFO says of them, or else by their content.
    ///
    /// # Errors
    /// [`LinuxError::NoSymbols`] where there are none, or they cannot be read.
    pub fn load(
        space: &AddressSpace<'m>,
        identity: &KernelIdentity,
        limits: &Limits,
    ) -> Result<Self, LinuxError> {
        match identity.vmcoreinfo.as_ref().filter(|info| info.symbol("kallsyms_names").is_some()) {
            Some(info) => Self::told(space, info, identity.stext, limits),
            None => {
                Self::search(space, &Image::of(space, Some(identity.stext)), Some(identity.stext), limits)
            }
        }
    }

    /// The tables where VMCOREINFO says that they are.
    fn told(
        space: &AddressSpace<'m>,
        info: &VmcoreInfo,
        stext: VirtAddr,
        limits: &Limits,
    ) -> Result<Self, LinuxError> {
        let at =
            |name: &str| info.symbol(name).ok_or_else(|| wrong("VMCOREINFO does not tell all its tables"));
        let read = LinuxError::read("kallsyms");
        let count: u32 = space.read_value(at("kallsyms_num_syms")?).map_err(&read)?;
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        if count == 0 || count > limits.symbols {
            return Err(wrong("its count of symbols is beyond the limit"));
        }
        let tokens = read_tokens(space, at("kallsyms_token_table")?, at("kallsyms_token_index")?)
            .ok_or_else(|| wrong("its token table is damaged"))?;
        // How long the names are is known only when they have been gone through; no symbol takes more than 2 + 512 bytes,
        // and they end before the table that lies behind them.
        let names_at = at("kallsyms_names")?;
        let behind =
            TABLES.iter().filter_map(|name| info.symbol(name)?.offset_from(names_at)).filter(|len| *len > 0);
        let room = behind.min().and_then(|room| usize::try_from(room).ok()).unwrap_or(usize::MAX);
        let names = up_to(space, names_at, count.saturating_mul(514).min(room));
        let offsets_at = at("kallsyms_offsets")?;
        let offsets = bytes(space, offsets_at, count.saturating_mul(4)).map_err(&read)?;
        let base = match info.symbol("kallsyms_relative_base") {
            Some(place) => Some(space.read_u64(place).map_err(&read)?),
            None => None,
        };
        let index = Names::new(&names, &tokens, count)
            .position(|name| name.is("_stext"))
            .ok_or_else(|| wrong("it has no _stext"))?;
        let addresses = Addresses::new(offsets, offsets_at, base, index, |at| at == stext)
            .ok_or_else(|| wrong("none of the known encodings gives _stext its address"))?;
        Ok(Self { names, tokens, addresses, count, places: OnceBox::new(), most_bytes: limits.symbol_bytes })
    }

    /// Finds the tables in `image` by their content. `_stext` has to get the address `stext` where that is known, else one
    /// in the image's code; the kernel's banner has to be where they say, if they say it.
    pub(crate) fn search(
        space: &AddressSpace<'m>,
        image: &Image,
        stext: Option<VirtAddr>,
        limits: &Limits,
    ) -> Result<Self, LinuxError> {
        for Tables { tokens, count, names, names_len, offsets } in search(space, image, limits) {
            let names = up_to(space, names, names_len);
            let Some(known) = Names::new(&names, &tokens, count).position(|name| name.is("_stext")) else {
                continue;
            };
            let right = |at: VirtAddr| match stext {
                Some(stext) => at == stext,
                None => image.part_at(at).is_some_and(|part| part.executable),
            };
            let addresses = offsets.into_iter().find_map(|(at, base)| {
                let offsets = bytes(space, at, count.saturating_mul(4)).ok()?;
                Addresses::new(offsets, at, base, known, right)
            });
            let Some(addresses) = addresses else { continue };
            let found = Self {
                names,
                tokens,
                addresses,
                count,
                places: OnceBox::new(),
                most_bytes: limits.symbol_bytes,
            };
            let [banner] = found.addresses_of(&["linux_banner"]);
            if banner.is_none_or(|at| space.read_value(at).is_ok_and(|start: [u8; 14]| start == *BANNER)) {
                return Ok(found);
            }
        }
        Err(wrong(
            "VMCOREINFO does not tell where it is, and nothing in the kernel's image is it (CONFIG_KALLSYMS)",
        ))
    }

    /// How many symbols there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Is there no symbol? (There always is one.)
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The addresses of `wanted`, in their order, found in one pass; the first symbol of a name counts.
    #[must_use]
    pub fn addresses_of<const N: usize>(&self, wanted: &[&str; N]) -> [Option<VirtAddr>; N] {
        const { assert!(N <= 64) };
        let hints = Hints::new(wanted, &self.tokens);
        let mut found = [None; N];
        // A bit for each that is not found yet.
        let mut missing = if N < 64 { (1u64 << N) - 1 } else { u64::MAX };
        for (index, name) in Names::new(&self.names, &self.tokens, self.count).enumerate() {
            let mut candidates = name.candidates(&hints) & missing;
            while candidates != 0 {
                let bit = candidates.trailing_zeros();
                candidates &= candidates - 1;
                if let (Some(slot), Some(text)) = (found.get_mut(bit as usize), wanted.get(bit as usize))
                    && name.is(text)
                {
                    *slot = self.addresses.get(index);
                    missing &= !(1 << bit);
                }
            }
            if missing == 0 {
                break;
            }
        }
        found
    }

    /// All symbols, unpacked: as many as [`Limits::symbol_bytes`] has room for, without those whose names are damaged.
    #[must_use]
    pub fn table(&self) -> SymbolTable {
        let mut builder = SymbolTableBuilder::with_capacity(self.count.min(self.names.len() / 2));
        let mut text = Vec::new();
        let mut left = self.most_bytes;
        for (index, name) in Names::new(&self.names, &self.tokens, self.count).enumerate() {
            if name.expand(&mut text).is_none() {
                continue;
            }
            if let (Some((kind, name)), Some(address)) = (text.split_first(), self.addresses.get(index)) {
                // The letter and a NUL stand beside the name.
                let Some(rest) = left.checked_sub(name.len() + 2) else { break };
                left = rest;
                builder.push(name, address.get(), 0, char::from(*kind));
            }
        }
        builder.build()
    }
}

fn wrong(reason: &str) -> LinuxError {
    LinuxError::NoSymbols { reason: reason.to_string() }
}

/// The 256 tokens.
fn read_tokens(space: &AddressSpace<'_>, table: VirtAddr, index: VirtAddr) -> Option<Vec<Vec<u8>>> {
    let index = bytes(space, index, 512).ok()?;
    let last = usize::from(u16_at(&index, 510)?);
    let table = up_to(space, table, last + 512);
    (0..256)
        .map(|token| {
            let start = usize::from(u16_at(&index, token * 2)?);
            vmc::bytes::cstr_at(&table, start).map(<[u8]>::to_vec)
        })
        .collect()
}

/// `len` bytes, lent where they lie in one piece.
fn bytes<'m>(space: &AddressSpace<'m>, at: VirtAddr, len: usize) -> Result<Cow<'m, [u8]>, vmc::ReadError> {
    match space.slice(at, len) {
        Some(lent) => Ok(Cow::Borrowed(lent)),
        None => space.read_vec(at, len as u64, len).map(Cow::Owned),
    }
}

/// As many of `len` bytes as there are, lent where they lie in one piece.
fn up_to<'m>(space: &AddressSpace<'m>, at: VirtAddr, len: usize) -> Cow<'m, [u8]> {
    let lent = space.contiguous(at, len);
    if lent.is_empty() { Cow::Owned(space.read_part(at, len).0) } else { Cow::Borrowed(lent) }
}

/// A little-endian word of the offsets table.
fn word(offsets: &[u8], index: usize) -> Option<u32> {
    u32_at(offsets, index.checked_mul(4)?)
}
