//! The symbol that an address lies in, without unpacking the table.
//!
//! The kernel keeps its symbols in the order of their addresses and looks them up by bisection, too (`get_symbol_pos()` in
//! `kernel/kallsyms.c`).

use alloc::boxed::Box;
use alloc::vec::Vec;

use vmc::VirtAddr;

use super::Kallsyms;
use super::names::Names;
use crate::symbols::KernelSymbol;

/// A place in the names is noted once for so many symbols.
const STRIDE: usize = 64;

impl Kallsyms<'_> {
    /// The symbol that `address` lies in; of aliases the first in the table's order, as the kernel prints it.
    pub(crate) fn at(&self, address: VirtAddr) -> Option<KernelSymbol> {
        let at = self.partition_point(|start| start <= address).checked_sub(1)?;
        let start = self.addresses.get(at)?;
        let first = self.partition_point(|other| other < start);
        let mut text = Vec::new();
        self.names_from(first / STRIDE).nth(first % STRIDE)?.expand(&mut text)?;
        let (_, name) = text.split_first()?;
        Some(KernelSymbol { name: name.to_vec(), address: start })
    }

    fn partition_point(&self, before: impl Fn(VirtAddr) -> bool) -> usize {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.addresses.get(middle).is_some_and(&before) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// The names from number `stride` times [`STRIDE`] on.
    fn names_from(&self, stride: usize) -> Names<'_> {
        let places = self.places.get_or_init(|| {
            let mut names = Names::new(&self.names, &self.tokens, self.count);
            let mut places = Vec::with_capacity(self.count / STRIDE + 1);
            loop {
                let place = self.names.len() - names.rest().len();
                places.push(u32::try_from(place).unwrap_or(u32::MAX));
                if names.nth(STRIDE - 1).is_none() {
                    return Box::new(places);
                }
            }
        });
        let place = places.get(stride).map_or(usize::MAX, |place| *place as usize);
        Names::new(self.names.get(place..).unwrap_or_default(), &self.tokens, self.count)
    }
}
