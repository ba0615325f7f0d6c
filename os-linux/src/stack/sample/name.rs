//! The names of what a frame of a sample stands in.

use vmc::VirtAddr;
use vmc::view::{FoundBy, Frame, Space};
use vmc_unwind::Scratch;

use super::trace::Point;
use crate::stack::Stacks;

impl Stacks<'_, '_> {
    /// Does code that is known of the process lie at `address`?
    #[must_use]
    pub fn knows(&self, mm: VirtAddr, address: VirtAddr) -> bool {
        self.code_of(mm).is_some_and(|code| code.at(address).is_some())
    }

    /// The frame with the names of what it stands in; `mm` is the process' where it is one of a program.
    #[must_use]
    pub fn name(&self, mm: Option<VirtAddr>, point: &Point) -> Frame {
        let (symbol, function_start, module) = match point.space {
            Space::Kernel => {
                let named = self.kernel_code().map(|code| code.named(point.address));
                let (module, symbol) = named.unwrap_or_default();
                let start = symbol.as_ref().map(|symbol| symbol.start);
                (symbol, start, module)
            }
            Space::User => {
                let code = mm.and_then(|mm| self.code_of(mm));
                code.map(|code| code.names_at(point.address, &mut Scratch::new())).unwrap_or_default()
            }
        };
        Frame {
            ip: point.address.address(),
            sp: point.sp,
            cfa: point.cfa,
            space: point.space,
            symbol,
            function_start,
            module,
            found_by: FoundBy::Registers,
            signal: false,
        }
    }
}
