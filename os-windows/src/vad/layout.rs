//! [`VadLayout`]: where a VAD keeps what, and [`Node`], what one says.

use alloc::vec::Vec;

use vmc::layout::{LayoutError, Member, Types};
use vmc::{ReadError, ReadExt, VirtAddr};

use crate::bits::Bits;
use crate::error::WindowsError;
use crate::windows::Windows;

/// Bytes that a node may have: today's have 64.
const NODE_BYTES: usize = 4096;
/// `VadImageMap` of `MI_VAD_TYPE`.
const IMAGE: u64 = 2;

/// A number of a structure that was read whole: versions differ in its size.
#[derive(Clone, Copy, Debug)]
struct Number {
    offset: usize,
    size: usize,
}

impl Number {
    fn of(member: Member) -> Option<Self> {
        let (offset, size) = (usize::try_from(member.offset).ok()?, usize::try_from(member.size).ok()?);
        (size <= 8).then_some(Self { offset, size })
    }

    fn get(self, bytes: &[u8]) -> Option<u64> {
        let mut word = [0; 8];
        let from = bytes.get(self.offset..self.offset.checked_add(self.size)?)?;
        word.get_mut(..self.size)?.copy_from_slice(from);
        Some(u64::from_le_bytes(word))
    }
}

/// Where a VAD keeps what.
#[derive(Clone, Debug)]
pub(crate) struct VadLayout {
    /// How far into it the tree's node lies, that other nodes point at.
    node: u64,
    size: u64,
    left: Number,
    right: Number,
    start: (Number, Option<Number>),
    end: (Number, Option<Number>),
    flags: Number,
    kind: Bits,
    private: Bits,
    protection: Bits,
    /// Pages charged: the bits, the word they stand in, and what comes above them.
    charge: Option<(Number, Bits)>,
    charge_high: Option<Number>,
    committed: Option<(Number, Bits)>,
    pub(super) section: Option<Section>,
}

/// Members of the longer form, which ranges with a section have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Section {
    pub(super) subsection: u64,
    pub(super) first: u64,
    pub(super) last: u64,
}

/// What a VAD says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node {
    /// The VAD.
    pub(crate) object: VirtAddr,
    pub(super) left: VirtAddr,
    pub(super) right: VirtAddr,
    /// Its first and last page.
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) private: bool,
    pub(crate) image: bool,
    /// Does all of it have memory (or paging file) behind it?
    pub(crate) committed: bool,
    pub(super) protection: u64,
    pub(super) charge: Option<u64>,
}

impl VadLayout {
    pub(super) fn new(windows: &Windows<'_>) -> Result<Self, WindowsError> {
        let (types, limits) = (windows.types(), windows.limits());
        let short = "_MMVAD_SHORT";
        let number = |paths: &[&str]| {
            let found = paths.iter().find_map(|path| types.member(short, path).ok().and_then(Number::of));
            found.ok_or_else(|| missing(short, paths.first().copied().unwrap_or_default()))
        };
        let flags = types.layout("_MMVAD_FLAGS", limits)?;
        let bits = |name| Bits::of(&flags, name).ok_or_else(|| missing("_MMVAD_FLAGS", name));
        let words = number(&["u.VadFlags", "u.LongFlags"])?;
        let more =
            number(&["u1.VadFlags1", "u1.LongFlags1"]).ok().zip(types.layout("_MMVAD_FLAGS1", limits).ok());
        let either = |name| {
            let second = more.as_ref().and_then(|(word, layout)| Some((*word, Bits::of(layout, name)?)));
            second.or_else(|| Some((words, Bits::of(&flags, name)?)))
        };
        let long = |name| types.member("_MMVAD", name).ok().map(|member| member.offset);
        let section = || {
            let (first, last) = (long("FirstPrototypePte")?, long("LastContiguousPte")?);
            Some(Section { subsection: long("Subsection")?, first, last })
        };
        Ok(Self {
            node: types.member(short, "VadNode").map_or(0, |member| member.offset),
            size: types.size_of(short)?,
            left: number(&["VadNode.Left", "VadNode.LeftChild", "LeftChild"])?,
            right: number(&["VadNode.Right", "VadNode.RightChild", "RightChild"])?,
            start: (number(&["StartingVpn"])?, number(&["StartingVpnHigh"]).ok()),
            end: (number(&["EndingVpn"])?, number(&["EndingVpnHigh"]).ok()),
            flags: words,
            kind: bits("VadType")?,
            private: bits("PrivateMemory")?,
            protection: bits("Protection")?,
            charge: either("CommitCharge"),
            charge_high: number(&["CommitChargeHigh"]).ok(),
            committed: either("MemCommit"),
            section: section(),
        })
    }

    /// Where the root of the tree of the process at `eprocess` lies; null where the process has no ranges.
    pub(super) fn root(windows: &Windows<'_>, eprocess: VirtAddr) -> Result<VirtAddr, WindowsError> {
        // Since 8.1 a pointer to the root; before it a node whose right child is the root.
        let paths = ["VadRoot.Root", "VadRoot.BalancedRoot.RightChild"];
        let found = paths.iter().find_map(|path| windows.types().member("_EPROCESS", path).ok());
        let member = found.ok_or_else(|| missing("_EPROCESS", "VadRoot.Root"))?;
        let at = eprocess.wrapping_add(member.offset);
        windows.kernel().read_pointer(at).map_err(WindowsError::read("the root of the VADs"))
    }

    /// The VAD whose node in the tree lies at `at`.
    pub(super) fn read(&self, windows: &Windows<'_>, at: VirtAddr) -> Result<Node, ReadError> {
        let object = at.wrapping_add(self.node.wrapping_neg());
        let bytes: Vec<u8> = windows.kernel().read_vec(object, self.size, NODE_BYTES)?;
        self.decode(object, &bytes).ok_or_else(|| {
            ReadError::new(object, vmc::Fault::Lookup { reason: "a VAD is smaller than its members" })
        })
    }

    fn decode(&self, object: VirtAddr, bytes: &[u8]) -> Option<Node> {
        let page = |(low, high): (Number, Option<Number>)| {
            let above = high.map_or(Some(0), |high| high.get(bytes))?;
            Some(low.get(bytes)? | above.checked_shl(32)?)
        };
        let bits = |(word, bits): (Number, Bits)| Some((bits.in_word(word.get(bytes)?), bits));
        let flags = self.flags.get(bytes)?;
        let charge = self.charge.and_then(bits).and_then(|(low, field)| {
            // All ones: the range is not charged page by page.
            let width = field.width;
            let high = self.charge_high.and_then(|high| high.get(bytes)).unwrap_or(0);
            (low != field.most()).then(|| low | high.checked_shl(width).unwrap_or(0))
        });
        Some(Node {
            object,
            left: VirtAddr::new(self.left.get(bytes)?),
            right: VirtAddr::new(self.right.get(bytes)?),
            first: page(self.start)?,
            last: page(self.end)?,
            private: self.private.in_word(flags) != 0,
            image: self.kind.in_word(flags) == IMAGE,
            committed: self.committed.and_then(bits).is_some_and(|(set, _)| set != 0),
            protection: self.protection.in_word(flags),
            charge,
        })
    }
}

fn missing(structure: &str, member: &str) -> WindowsError {
    LayoutError::NoMember { structure: structure.into(), member: member.into() }.into()
}
