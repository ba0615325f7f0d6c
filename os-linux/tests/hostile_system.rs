//! The sample guest with single words of its tables of files, mounts and records changed: every walk has to end, with a reason.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "tests may panic")]

mod common;

use common::image;
use common::patched::{member, named, open, patched};
use vmc::layout::Types;
use vmc::{VirtAddr, VirtualMemory};
use vmc_linux::{Linux, LinuxError};

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
fn what_hangs_on_many_processes_is_bounded_all_together() {
    let image = image();
    let limits = vmc::Limits { tasks: 100, all_open_files: 30, ..vmc::Limits::default() };
    let linux = Linux::open_with(&image, &image, limits).unwrap();
    let same = |times| std::iter::repeat_n(named(&linux, "threads"), times);
    let threads: Vec<_> = linux.threads_of(same(20)).collect();
    assert_eq!((threads.len(), threads.iter().filter(|thread| thread.is_ok()).count()), (101, 100));
    assert!(matches!(threads.last(), Some(Err(LinuxError::TooMany { limit: 100, .. }))), "{threads:?}");
    let files: Vec<_> = linux.open_files_of(same(4)).collect();
    assert_eq!((files.len(), files.iter().filter(|file| file.is_ok()).count()), (31, 30));
    assert!(matches!(files.last(), Some(Err(LinuxError::TooMany { limit: 30, .. }))));
    // Below the bound nothing is missing.
    assert!(linux.open_files_of(same(3)).all(|file| file.is_ok()));

    // One process whose table cannot be read does not cost the others theirs.
    let guest = patched(|linux| (member(linux, "fdtable", "max_fds", fd_table(linux, "threads")), u64::MAX));
    let linux = open(&guest);
    let whose = [named(&linux, "threads"), named(&linux, "init")];
    let files: Vec<_> = linux.open_files_of(whose).collect();
    let pid = whose[0].pid().unwrap();
    let broken = |file: &&Result<_, LinuxError>| matches!(file, Err(LinuxError::OfProcess { pid: of, .. }) if *of == pid);
    assert_eq!(files.iter().filter(broken).count(), 1);
    assert_eq!(files.iter().flatten().filter(|file| file.pid != pid).count(), 3);
}

#[test]
fn a_file_that_only_says_that_another_stands_behind_it_keeps_its_path() {
    let paths = |linux: &Linux<'_>| -> Vec<_> {
        let (rows, ended) = named(linux, "threads").open_files().unwrap();
        assert_eq!(ended, None);
        rows.map(|row| (row.fd, row.path, row.errors.is_empty())).collect()
    };
    let image = image();
    let linux = Linux::open(&image, &image).unwrap();
    let plain = paths(&linux);
    let objects: Vec<_> = named(&linux, "threads").open_files().unwrap().0.map(|row| row.object).collect();
    // The bits of FMODE_BACKING, in a file that has no place behind it.
    for object in objects {
        let guest = patched(|linux| {
            let mode = member(linux, "file", "f_mode", object);
            (mode, linux.space().read_u64(mode).unwrap() | 3 << 24)
        });
        assert_eq!(paths(&open(&guest)), plain);
    }
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

/// What a symbol of the kernel points at.
fn pointed(linux: &Linux<'_>, symbol: &str) -> VirtAddr {
    let at = linux.symbols().named(symbol.as_bytes()).next().unwrap().address;
    VirtAddr::new(linux.space().read_u64(VirtAddr::new(at)).unwrap())
}

#[test]
fn mounts_that_lead_in_a_circle_end() {
    for wild in [None, Some(0), Some(u64::MAX)] {
        let guest = patched(|linux| {
            let (mut mounts, _) = named(linux, "init").mounts().unwrap();
            let mount = mounts.nth(3).unwrap().object;
            // The list of older kernels, and the tree of newer ones.
            let by_list = linux.types().member("mnt_namespace", "list").is_ok();
            let next = member(linux, "mount", if by_list { "mnt_list" } else { "mnt_node.rb_right" }, mount);
            let node = member(linux, "mount", if by_list { "mnt_list" } else { "mnt_node" }, mount);
            (next, wild.unwrap_or(node.get()))
        });
        let linux = open(&guest);
        let (mounts, ended) = named(&linux, "init").mounts().unwrap();
        assert!(mounts.count() >= 4);
        assert!(ended.is_some() || wild == Some(0), "{wild:?}");
    }
}

#[test]
fn a_mount_that_is_mounted_on_itself_is_left_out() {
    let guest = patched(|linux| {
        let (mut mounts, _) = named(linux, "init").mounts().unwrap();
        let mount = mounts.nth(3).unwrap().object;
        (member(linux, "mount", "mnt_parent", mount), mount.get())
    });
    let linux = open(&guest);
    let (mounts, ended) = named(&linux, "init").mounts().unwrap();
    // What is mounted on it cannot be reached either.
    assert!((4..7).contains(&mounts.count()) && ended.is_none());
}

#[test]
fn a_log_of_four_billion_records_is_not_believed() {
    let guest = patched(|linux| {
        (member(linux, "printk_ringbuffer", "desc_ring.count_bits", pointed(linux, "prb")), u64::MAX)
    });
    let why = open(&guest).log().map(|_| ()).unwrap_err().to_string();
    assert!(why.contains("not to be believed"), "{why}");
}

#[test]
fn a_log_whose_numbers_are_wild_keeps_what_is_there() {
    let all = open(&patched(|linux| (pointed(linux, "prb").wrapping_add(80), 0))).log().unwrap().count();
    // A tail beyond the head: as many as the ring has are looked at.
    let guest = patched(|linux| {
        (member(linux, "printk_ringbuffer", "desc_ring.tail_id", pointed(linux, "prb")), u64::MAX >> 4)
    });
    assert_eq!(open(&guest).log().unwrap().count(), all);
    // Texts that lie elsewhere cost their records' texts, not the records.
    let guest = patched(|linux| {
        (member(linux, "printk_ringbuffer", "text_data_ring.data", pointed(linux, "prb")), 0xdead_beef)
    });
    let linux = open(&guest);
    let records: Vec<_> = linux.log().unwrap().collect();
    assert_eq!(records.len(), all);
    assert!(records.iter().filter(|record| record.message.is_none()).all(|record| !record.errors.is_empty()));
}

/// The `struct sock` of the sample's one listening TCP socket.
fn listening(linux: &Linux<'_>) -> VirtAddr {
    let (rows, _) = linux.sockets().unwrap();
    rows.iter().find(|row| row.state == Some("LISTEN") && row.protocol == "tcp").unwrap().object
}

#[test]
fn a_socket_that_nobody_has_open_is_in_the_tables() {
    let guest =
        patched(|linux| (member(linux, "task_struct", "files", named(linux, "threads").address()), 0));
    let linux = open(&guest);
    let (rows, errors) = linux.sockets().unwrap();
    assert!(errors.is_empty(), "{errors:?}");
    let row = rows.iter().find(|row| row.object == listening(&linux)).unwrap();
    assert_eq!((row.local.as_deref(), row.pids.len()), (Some("127.0.0.1:7007"), 0));
    assert!(row.inode.is_some_and(|inode| inode != 0));
}

#[test]
fn a_chain_of_sockets_that_leads_back_into_itself_ends() {
    for wild in [None, Some(0xdead_bee0), Some(u64::MAX - 1)] {
        let guest = patched(|linux| {
            let node = member(linux, "sock_common", "skc_node", listening(linux));
            (node, wild.unwrap_or(node.get()))
        });
        let linux = open(&guest);
        let (rows, errors) = linux.sockets().unwrap();
        assert!(rows.iter().any(|row| row.local.as_deref() == Some("127.0.0.1:7007")));
        assert!(!errors.is_empty());
    }
}

#[test]
fn a_table_of_four_billion_buckets_is_not_believed() {
    let guest = patched(|linux| {
        let info = linux.symbols().named(b"tcp_hashinfo").next().unwrap().address;
        (member(linux, "inet_hashinfo", "ehash_mask", VirtAddr::new(info)), u64::MAX)
    });
    let linux = open(&guest);
    let (rows, errors) = linux.sockets().unwrap();
    assert!(!rows.is_empty());
    assert!(
        errors.messages.iter().any(|message| message.contains("more buckets than the limit")),
        "{errors:?}"
    );
}

#[test]
fn network_namespaces_that_lead_in_a_circle_end() {
    let guest = patched(|linux| {
        let net = linux.symbols().named(b"init_net").next().unwrap().address;
        let list = member(linux, "net", "list", VirtAddr::new(net));
        (list, list.get())
    });
    let linux = open(&guest);
    assert!(!linux.sockets().unwrap().1.is_empty());
    let (rows, errors) = linux.interfaces().unwrap();
    assert!(!rows.is_empty() && !errors.is_empty());
}
