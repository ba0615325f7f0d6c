//! Variables by a function that only returns them: names of functions are always there.
//!
//! Source: Arm ARM, C6.2: `ADRP` (the page of an address relative to its own), `ADD` (immediate) and `LDR` (immediate), the way in which all
//! code of a kernel reaches its variables.

use vmc::{PageTables, ReadExt, VirtAddr};

use crate::error::LinuxError;
use crate::kernel::Linux;

/// Such a function has no more instructions; marks for branches and tracers come first.
const INSTRUCTIONS: usize = 12;
/// `RET`.
const RETURN: u32 = 0xd65f_03c0;

impl Linux<'_> {
    /// `tainted_mask`, which `get_taint()` returns (`kernel/panic.c`).
    pub(crate) fn find_taints(&self) -> Result<Option<VirtAddr>, LinuxError> {
        let [function] = self.kernel_symbols().addresses_of(&["get_taint"]);
        let (Some(function), PageTables::Aarch64(_)) = (function, self.tables()) else { return Ok(None) };
        let code = self.space().read_value::<[u32; INSTRUCTIONS]>(function);
        let code = code.map_err(LinuxError::read("get_taint"))?;
        let found = returned_variable(function.get(), &code).map(VirtAddr::new);
        Ok(found.filter(|at| self.image().contains(*at)))
    }
}

/// The address of the 64-bit variable that this code, which begins at `start`, loads into x0 before it returns.
fn returned_variable(start: u64, code: &[u32]) -> Option<u64> {
    let mut registers = [None::<u64>; 32];
    let mut loaded = None;
    for (pc, word) in (start..).step_by(4).zip(code.iter().copied()) {
        let (to, from) = ((word & 0x1f) as usize, (word >> 5 & 0x1f) as usize);
        let immediate = u64::from(word >> 10 & 0xfff);
        if word == RETURN {
            return loaded;
        } else if word & 0x9f00_0000 == 0x9000_0000 {
            // Bits 29 and 30 are the lowest, bits 5 to 23 the others of a signed number of pages.
            let pages = u64::from(word >> 5 & 0x7_ffff) << 2 | u64::from(word >> 29 & 3);
            let distance = ((pages << 43).cast_signed() >> 43).cast_unsigned() << 12;
            *registers.get_mut(to)? = Some((pc & !0xfff).wrapping_add(distance));
        } else if word & 0xff80_0000 == 0x9100_0000 {
            let shift = if word >> 22 & 1 == 1 { 12 } else { 0 };
            let base = (*registers.get(from)?).map(|base| base.wrapping_add(immediate << shift));
            *registers.get_mut(to)? = base;
        } else if word & 0xffc0_0000 == 0xf940_0000 {
            let at = (*registers.get(from)?).map(|base| base.wrapping_add(immediate << 3));
            *registers.get_mut(to)? = None;
            if to == 0 {
                loaded = at;
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_of_variables_are_followed() {
        // bti c; adrp x0, 0x1a000 (from 0x10004: ten pages on); ldr x0, [x0, #0x578]; ret
        let pages = 10u32;
        let adrp = 0x9000_0000 | (pages & 3) << 29 | (pages >> 2) << 5;
        let ldr = 0xf940_0000 | (0x578 / 8) << 10;
        assert_eq!(returned_variable(0x1_0000, &[0xd503_245f, adrp, ldr, RETURN]), Some(0x1_a578));
        // adrp x1, one page back; add x1, x1, #8; ldr x0, [x1]; ret
        let back = 0x9000_0001 | 3 << 29 | 0x7_ffff << 5;
        let add = 0x9100_0000 | 8 << 10 | 1 << 5 | 1;
        assert_eq!(returned_variable(0x1_0000, &[back, add, 0xf940_0020, RETURN]), Some(0xf008));
        // No return, a load by an unknown register.
        assert_eq!(returned_variable(0, &[adrp, ldr]), None);
        assert_eq!(returned_variable(0, &[0xf940_0040, RETURN]), None);
    }
}
