//! [`Machine`]: what a walk asks of an architecture besides its registers.

use core::ops::Range;

use vmc::view::FoundBy;
use vmc::{VirtAddr, VirtualMemory};

use crate::cache::{Cache, Rules};
use crate::cfi::Unfinished;
use crate::code_address::CodeAddress;
use crate::module::Modules;
use crate::row_step::{NoCaller, Notes, RegisterFile};

/// A compact rule of an architecture.
pub(crate) type RuleOf<R> = <<R as Machine>::Unfinished as Unfinished>::Rule;

/// The registers of an architecture whose rules are cached, and whose code can be read where nothing describes it.
pub(crate) trait Machine: RegisterFile + ReadCode {
    /// Its compact rules.
    type Unfinished: Unfinished<Rule: Copy + Default>;

    /// Where its rules are kept.
    fn rules(cache: &mut Cache) -> &mut Rules<RuleOf<Self>>;

    /// Makes the registers of a frame those of its caller.
    fn by_rule<V: VirtualMemory + ?Sized>(
        &mut self,
        rule: &RuleOf<Self>,
        memory: &V,
        notes: &mut Notes,
    ) -> Result<(), NoCaller>;
}

/// Code that is read where nothing describes it.
pub(crate) trait ReadCode: Sized {
    /// Where a frame whose code nothing describes was called from, found in at most `steps` instructions up to its return,
    /// or by one of `searches` around it.
    fn bare_step<M: Modules + ?Sized, V: VirtualMemory + ?Sized>(
        modules: &M,
        memory: &V,
        frame: &BareFrame<'_, Self>,
        steps: u32,
        searches: &mut u32,
    ) -> Bare<Self>;
}

/// A frame whose code nothing describes: generated code, hand-written code, programs without tables.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BareFrame<'f, R> {
    /// The executable memory that it stands in.
    pub(crate) range: &'f Range<VirtAddr>,
    pub(crate) address: CodeAddress,
    pub(crate) registers: &'f R,
    /// Was it found by frame pointers?
    pub(crate) chained: bool,
}

/// What lies above such a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bare<R> {
    /// A caller.
    Caller(R, FoundBy),
    /// What a signal interrupted, or where its registers should have been.
    Signal(Result<R, VirtAddr>),
    /// Nothing: it is the outermost.
    Outermost,
    /// What cannot be told.
    Unknown,
}
