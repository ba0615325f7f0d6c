//! Tables written as `scripts/kallsyms.c` writes them, in each of the orders and alignments that there were.

use alloc::vec;
use alloc::vec::Vec;

use super::*;

const BASE: u64 = 0xffff_ffff_8100_0000;
const START: u64 = 0xffff_ffff_8180_0000;

struct Order {
    /// Are the offsets before the number of names?
    before: bool,
    align: usize,
    /// Bytes of a marker.
    marker: usize,
    /// Are there three bytes a name between markers and tokens (6.2 and 6.3)?
    sequences: bool,
}

/// The tables with `count` names, and where offsets and names lie in them.
fn written(order: &Order, count: usize) -> (Vec<u8>, usize, usize) {
    let mut out = vec![0x5au8; 4096];
    let offsets: Vec<u8> = (0..count as u32).flat_map(|index| (index * 16).to_le_bytes()).collect();
    let align = |out: &mut Vec<u8>| out.resize(out.len().next_multiple_of(order.align), 0);
    let mut offsets_at = 0;
    let mut put_offsets = |out: &mut Vec<u8>| {
        offsets_at = out.len();
        out.extend(&offsets);
        align(out);
        out.extend(BASE.to_le_bytes());
        align(out);
    };
    if order.before {
        put_offsets(&mut out);
    }
    out.extend((count as u32).to_le_bytes());
    align(&mut out);
    let names_at = out.len();
    let mut markers = Vec::new();
    for index in 0..count {
        if index % 256 == 0 {
            markers.push((out.len() - names_at) as u64);
        }
        let name = alloc::format!("T{}{index}", if index == 0 { "_stext" } else { "name" });
        out.push(name.len() as u8);
        out.extend(name.bytes());
    }
    align(&mut out);
    for marker in markers {
        out.extend(&marker.to_le_bytes()[..order.marker]);
    }
    align(&mut out);
    if order.sequences {
        out.extend((0..count * 3).map(|byte| byte as u8));
        align(&mut out);
    }
    let table = out.len();
    let mut index = Vec::new();
    for token in 0..=255u8 {
        index.extend(((out.len() - table) as u16).to_le_bytes());
        // Bytes that no name has stand for more than one letter.
        match token {
            b'0'..=b'9' | b'A'..=b'Z' | b'_' | b'a'..=b'z' => out.push(token),
            _ => out.extend(b"pair"),
        }
        out.push(0);
    }
    align(&mut out);
    out.extend(index);
    align(&mut out);
    if !order.before {
        put_offsets(&mut out);
    }
    out.extend([0; 4096]);
    (out, offsets_at, names_at)
}

#[test]
fn every_order_is_found() {
    for before in [true, false] {
        for (align, marker) in [(8, 4), (8, 8), (256, 8)] {
            for sequences in [true, false] {
                for count in [3, 256, 257, 3000] {
                    let order = Order { before, align, marker, sequences };
                    let (bytes, offsets, names) = written(&order, count);
                    let anchor = memmem::find(&bytes, DIGITS).unwrap();
                    let found =
                        tables_at(&bytes, anchor, VirtAddr::new(START), &mut Budget::of(&Limits::default()))
                            .unwrap();
                    assert_eq!((found.count, found.names), (count, VirtAddr::new(START + names as u64)));
                    let expected = (VirtAddr::new(START + offsets as u64), Some(BASE));
                    assert!(found.offsets.contains(&expected), "{before} {align} {:?}", found.offsets);
                }
            }
        }
    }
}

#[test]
fn damaged_tables_are_none() {
    let order = Order { before: true, align: 8, marker: 4, sequences: false };
    let (bytes, _, names) = written(&order, 600);
    let anchor = memmem::find(&bytes, DIGITS).unwrap();
    let search =
        |bytes: &[u8]| tables_at(bytes, anchor, VirtAddr::new(START), &mut Budget::of(&Limits::default()));
    // The lengths of names 0 and 100, the number of names, a token, the index.
    let changes = [names, names + 792, names - 8, anchor + 1, anchor + 1200];
    for at in changes {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x21;
        assert!(search(&damaged).is_none(), "{at}");
    }
    for cut in (0..bytes.len()).step_by(97) {
        let _ = search(&bytes[..cut]);
    }
    let few = Limits { symbols: 599, ..Limits::default() };
    assert!(tables_at(&bytes, anchor, VirtAddr::new(START), &mut Budget::of(&few)).is_none());
}

#[test]
fn words_that_pass_as_counts_and_as_names_cost_no_more_than_the_budget() {
    let order = Order { before: true, align: 8, marker: 4, sequences: false };
    let (whole, _, _) = written(&order, 600);
    let table = memmem::find(&whole, DIGITS).unwrap();
    let (tokens, table, _) = tokens_at(&whole, table).unwrap();
    assert_eq!(tokens.len(), 256);
    // 87 047 as a word; as a name, seven tokens. Four megabytes of them lie where the names should.
    let mut bytes = b"\x07\x54\x01\0\0\0\0\0".repeat(4 << 17);
    bytes.extend(&whole[table..]);
    let anchor = memmem::find(&bytes, DIGITS).unwrap();
    let mut budget = Budget { names: 100_000, symbols: 1 << 22 };
    assert!(tables_at(&bytes, anchor, VirtAddr::new(START), &mut budget).is_none());
    assert_eq!(budget.names, 0);
    // The true tables take little of it.
    let mut budget = Budget { names: 100_000, symbols: 1 << 22 };
    let anchor = memmem::find(&whole, DIGITS).unwrap();
    assert!(tables_at(&whole, anchor, VirtAddr::new(START), &mut budget).is_some());
    assert!(budget.names > 90_000, "{budget:?}");
}
