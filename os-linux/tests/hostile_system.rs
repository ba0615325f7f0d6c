//! The sample guest with single words of its tables of files, mounts and records changed: every walk has to end, with a reason.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "tests may panic")]

mod common;

use common::patched::{member, named, open, patched};
use vmc::{VirtAddr, VirtualMemory};
use vmc_linux::Linux;

/// The `struct fdtable` of a process.
fn fd_table(linux: &Linux<'_>, name: &str) -> VirtAddr {
    let files = member(linux, "task_struct", "files", named(linux, name).address());
    let files = linux.space().read_u64(files).unwrap();
    let table = member(linux, "files_struct", "fdt", VirtAddr::new(files));
    VirtAddr::new(linux.space().read_u64(table).unwrap())
}

#[test]
fn a_table_of_four_billion_descriptors_is_not_believed() {
    let guest = patched(|linux| (member(linux, "fdtable", "max_fds", fd_table(linux, "threads")), u64::MAX));
    let linux = open(&guest);
    let (rows, ended) = named(&linux, "threads").open_files().unwrap();
    assert!(rows.count() < 1 << 21);
    assert!(ended.is_some());
    // Another process' files do not suffer.
    let (rows, ended) = named(&linux, "init").open_files().unwrap();
    assert_eq!((rows.count(), ended), (3, None));
}

#[test]
fn descriptors_that_lead_nowhere_cost_a_row_each() {
    let guest = patched(|linux| {
        let open = member(linux, "fdtable", "open_fds", fd_table(linux, "threads"));
        (VirtAddr::new(linux.space().read_u64(open).unwrap()), u64::MAX)
    });
    let linux = open(&guest);
    // Those without a file behind them are not shown.
    let (rows, ended) = named(&linux, "threads").open_files().unwrap();
    assert_eq!((rows.filter(|row| row.errors.is_empty()).count(), ended), (9, None));

    for wild in [0xdead_beef, u64::MAX, 0xffff_8000_0000_0000] {
        let guest = patched(|linux| {
            let slots = member(linux, "fdtable", "fd", fd_table(linux, "threads"));
            (VirtAddr::new(linux.space().read_u64(slots).unwrap()), wild)
        });
        let linux = open(&guest);
        let (rows, _) = named(&linux, "threads").open_files().unwrap();
        let rows: Vec<_> = rows.collect();
        assert!(!rows[0].errors.is_empty() && rows[0].path.is_none(), "{:?}", rows[0]);
        assert!(rows[1].errors.is_empty(), "{:?}", rows[1]);
    }
}
