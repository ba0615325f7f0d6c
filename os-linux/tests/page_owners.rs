//! Who maps which page, against the guests' own `/proc/PID/pagemap`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "tests may panic")]

mod common;

use std::collections::BTreeMap;
use std::path::PathBuf;

use common::patched::{Patched, named, open};
use common::{image, number};
use serde_json::Value;
use vmc::view::Space;
use vmc::{Limits, PageTables, PhysAddr, VirtAddr};
use vmc_dump::{Image, OpenOptions};
use vmc_linux::{Linux, LinuxError, Task};

/// A guest in `shared/`, with its pagemap.
fn guest(name: &str) -> Option<(Image, Value)> {
    let shared = std::env::var_os("VMC_SHARED").map(PathBuf::from);
    let shared =
        shared.unwrap_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared")));
    let folder = shared.join("guests").join(name);
    let Ok(pagemap) = std::fs::read(folder.join("pagemap.json")) else {
        common::skip(&format!("the guest {name} is not there"));
        return None;
    };
    let cache_dir = Some(PathBuf::from(env!("CARGO_TARGET_TMPDIR")));
    let mut options = OpenOptions { cache_dir, ..OpenOptions::default() };
    let image = Image::open_with(folder.join("mem.elf.zst"), &mut options).unwrap();
    Some((image, serde_json::from_slice(&pagemap).unwrap()))
}

fn processes<'k, 'm>(linux: &'k Linux<'m>) -> BTreeMap<u32, Task<'k, 'm>> {
    linux.processes().unwrap().map(Result::unwrap).map(|task| (task.pid().unwrap(), task)).collect()
}

/// What a process' page tables map for it: pages of 4 KiB and where they lie.
fn present(linux: &Linux<'_>, tables: &PageTables) -> BTreeMap<u64, u64> {
    let pages = tables.present(linux.memory(), Space::User, Limits::DEFAULT.page_tables);
    let small = pages.map(Result::unwrap).flat_map(|page| {
        (0..page.size).step_by(4096).map(move |into| (page.start.get() + into, page.physical.get() + into))
    });
    small.collect()
}

#[test]
fn present_pages_are_those_of_pagemap() {
    for name in ["x86_64-6.1", "x86_64-6.1-pti", "arm64-6.1"] {
        let Some((image, pagemap)) = guest(name) else { continue };
        let linux = Linux::open(&image, &image).unwrap();
        let tasks = processes(&linux);
        let (mut told, mut equal, mut whole, mut extra, mut all) = (0usize, 0usize, 0, 0usize, 0);
        let mut sample = Vec::new();
        for (pid, runs) in pagemap.as_object().unwrap() {
            let Some(task) = tasks.get(&pid.parse().unwrap()) else { continue };
            // The collector ran on while it told of itself.
            if task.name().unwrap() == "collect" || runs.as_array().unwrap().is_empty() {
                continue;
            }
            let memory = task.memory().unwrap();
            let found = present(&linux, memory.tables().tables());
            let mut same = 0;
            let mut count = 0;
            for run in runs.as_array().unwrap() {
                for page in 0..run[2].as_u64().unwrap() {
                    let (va, pa) = (number(&run[0]) + page * 4096, (number(&run[1]) + page) * 4096);
                    count += 1;
                    same += usize::from(found.get(&va) == Some(&pa));
                    if count % 97 == 0 && found.get(&va) == Some(&pa) {
                        sample.push((task.pid().unwrap(), va, pa));
                    }
                }
            }
            all += 1;
            told += count;
            equal += same;
            whole += usize::from(count == same);
            extra += found.len().saturating_sub(count);
        }
        // Those that spin went on and may have touched pages since.
        assert!(told > 1000 && equal * 1000 >= told * 995, "{name}: {equal} of {told} pages");
        assert!(extra * 100 <= told, "{name}: {extra} pages that the guest does not tell");
        assert!(all >= 5 && whole + 2 >= all, "{name}: {whole} of {all} processes are whole");
        let tasks: Vec<Task<'_, '_>> = tasks.into_values().collect();
        let addresses: Vec<PhysAddr> = sample.iter().map(|(_, _, pa)| PhysAddr::new(pa + 5)).collect();
        let owners = linux.page_owners(&tasks, &addresses);
        assert!(owners.errors.is_empty(), "{:?}", owners.errors);
        for (pid, va, pa) in sample {
            let found: Vec<(u32, VirtAddr)> = owners.of(PhysAddr::new(pa + 5)).collect();
            assert!(found.contains(&(pid, VirtAddr::new(va + 5))), "{name}: {pid} {va:#x}: {found:?}");
            let at = linux.kernel_address(PhysAddr::new(pa + 5)).unwrap();
            assert_eq!(linux.space().translate(at).unwrap().get(), pa + 5);
        }
        assert_eq!(owners.of(PhysAddr::new(u64::MAX)).count(), 0);
    }
}

#[test]
fn the_kernel_has_its_image_where_its_symbols_are() {
    let image = image();
    let linux = Linux::open(&image, &image).unwrap();
    for name in ["linux_banner", "init_task", "_text"] {
        let at = VirtAddr::new(linux.symbols().named(name.as_bytes()).next().unwrap().address);
        let physical = linux.space().translate(at).unwrap();
        assert_eq!(linux.kernel_address(physical), Some(at), "{name}");
    }
    assert_eq!(linux.kernel_address(PhysAddr::new(1 << 50)), None);
}

#[test]
fn bounds_are_kept_and_told() {
    let image = image();
    let all: Vec<PhysAddr> = (0..96 << 20).step_by(4096).map(PhysAddr::new).collect();
    for limits in
        [Limits { page_tables: 20, ..Limits::default() }, Limits { page_mappings: 10, ..Limits::default() }]
    {
        let linux = Linux::open_with(&image, &image, limits).unwrap();
        let tasks: Result<Vec<_>, LinuxError> = linux.processes().unwrap().collect();
        let owners = linux.page_owners(&tasks.unwrap(), &all);
        assert!(owners.errors.messages[0].contains("more"), "{:?}", owners.errors);
    }
}

#[test]
fn a_page_table_that_leads_to_itself_is_gone_through_once_around() {
    // Entry 1 of the top table, which no program uses here, leads to that very table.
    let place = |image: &Image| {
        let linux = Linux::open(image, image).unwrap();
        let deep = named(&linux, "deep").memory().unwrap();
        let stack =
            deep.mapping_rows().unwrap().0.into_iter().find(|row| row.path.as_deref() == Some("[stack]"));
        let at = stack.unwrap().end.checked_sub(4096).unwrap();
        (deep.page_table_root(), at, deep.tables().translate(at).unwrap())
    };
    let (root, at, physical) = place(&image());
    let changed = Patched { image: image(), words: vec![(root.get() + 8, root.get() | 7)] };
    let linux = open(&changed);
    let deep = named(&linux, "deep");
    let owners = linux.page_owners(&[deep], &[physical, root]);
    assert!(owners.of(physical).any(|(_, place)| place == at));
    // The table is mapped by itself, as a page of its own.
    assert!(owners.of(root).count() >= 1);
    let none = Limits { page_tables: 0, ..Limits::default() };
    let linux = Linux::open_with(&changed, &changed.image, none).unwrap();
    let owners = linux.page_owners(&[named(&linux, "deep")], &[physical]);
    assert!(owners.of(physical).next().is_none() && !owners.errors.is_empty());
}
