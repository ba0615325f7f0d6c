//! An image of which words of the kernel's memory are changed.

use serde_json::Value;
use vmc::VirtAddr;
use vmc::layout::Types;
use vmc_windows::Windows;

use crate::images::{image, unpacked, with_memory};

/// Changes of kernel memory: where, and what stands there then.
pub(crate) type Changes = Vec<(VirtAddr, Vec<u8>)>;

pub(crate) fn changed(
    change: impl FnOnce(&Windows<'_>, &Value) -> Changes,
    check: impl FnOnce(&Windows<'_>, &Value),
) {
    let Some((folder, truth)) = image("19041-plain") else {
        return;
    };
    let mut raw = unpacked(&folder.join("mem.raw.xz"));
    let mut places = Vec::new();
    with_memory(&folder, &truth, &raw, |windows| {
        let tables = windows.kernel().tables().unwrap();
        for (at, bytes) in change(windows, &truth) {
            places.push((tables.translate(at).unwrap().get() as usize, bytes));
        }
    });
    for (at, bytes) in places {
        raw[at..at + bytes.len()].copy_from_slice(&bytes);
    }
    with_memory(&folder, &truth, &raw, |windows| check(windows, &truth));
}

pub(crate) fn member(windows: &Windows<'_>, base: VirtAddr, structure: &str, path: &str) -> VirtAddr {
    base.wrapping_add(windows.types().member(structure, path).unwrap().offset)
}

pub(crate) fn word(at: VirtAddr, value: u64) -> (VirtAddr, Vec<u8>) {
    (at, value.to_le_bytes().to_vec())
}
