//! The sample guest with single words of its files, directories, credentials and control groups changed: every walk has to end,
//! with a reason.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "tests may panic")]

mod common;

use std::time::Instant;

use common::patched::{member, named, open, patched};
use vmc::view::PartKind;
use vmc::{VirtAddr, VirtualMemory};
use vmc_linux::{FileContents, Linux, LinuxError};

const FILE: &[u8] = b"/bin/collect";

fn contents<'k, 'm>(linux: &'k Linux<'m>) -> Result<FileContents<'k, 'm>, LinuxError> {
    linux.process(1).unwrap().contents(FILE)
}

/// The inode of the file.
fn inode(linux: &Linux<'_>) -> VirtAddr {
    contents(linux).unwrap().address()
}

fn pointer(linux: &Linux<'_>, at: VirtAddr) -> VirtAddr {
    VirtAddr::new(linux.space().read_u64(at).unwrap())
}

/// Where the root of the file's page cache lies.
fn cache(linux: &Linux<'_>) -> VirtAddr {
    let mapping = pointer(linux, member(linux, "inode", "i_mapping", inode(linux)));
    member(linux, "address_space", "i_pages.xa_head", mapping)
}

/// The dentry of an entry of /bin, and that of /bin.
fn dentries(linux: &Linux<'_>) -> (VirtAddr, VirtAddr) {
    let alias = pointer(linux, member(linux, "inode", "i_dentry", inode(linux)));
    let within = member(linux, "dentry", "d_u", VirtAddr::new(0)).get();
    let dentry = alias.wrapping_add(within.wrapping_neg());
    (dentry, pointer(linux, member(linux, "dentry", "d_parent", dentry)))
}

#[test]
fn a_file_of_eight_exabytes_costs_no_more_than_its_pages() {
    let guest = patched(|linux| (member(linux, "inode", "i_size", inode(linux)), i64::MAX as u64));
    let linux = open(&guest);
    let file = contents(&linux).unwrap();
    let begin = Instant::now();
    let parts: Vec<_> = file.parts().map(Result::unwrap).collect();
    assert!(begin.elapsed().as_secs() < 5);
    assert_eq!(parts.iter().map(|part| part.len).sum::<u64>(), i64::MAX as u64);
    assert_eq!(parts.last().unwrap().kind, PartKind::Hole);
    // A negative size is none.
    let guest = patched(|linux| (member(linux, "inode", "i_size", inode(linux)), u64::MAX));
    assert!(contents(&open(&guest)).unwrap_err().to_string().contains("negative"));
}

#[test]
fn a_page_cache_that_leads_in_a_circle_ends() {
    // A slot of the root that leads to the root again.
    let guest = patched(|linux| {
        let head = linux.space().read_u64(cache(linux)).unwrap();
        assert_eq!(head & 3, 2, "the file has one page alone");
        let slot = member(linux, "xa_node", "slots", VirtAddr::new(head - 2)).wrapping_add(8);
        (slot, head)
    });
    let linux = open(&guest);
    let parts: Vec<_> = contents(&linux).unwrap().parts().collect();
    let why = parts.last().unwrap().as_ref().unwrap_err().to_string();
    assert!(why.contains("does not lie below"), "{why}");
    // A head, or a slot, that leads nowhere.
    for wild in [0xdead_beee, u64::MAX - 1, 0xffff_8000_0000_0002] {
        let guest = patched(|linux| (cache(linux), wild));
        let parts: Vec<_> = contents(&open(&guest)).unwrap().parts().collect();
        assert!(parts.last().unwrap().is_err(), "{wild:#x}: {parts:?}");
    }
    for wild in [0xdead_bee0, 0xffff_8000_0000_0000] {
        let guest = patched(|linux| {
            let head = linux.space().read_u64(cache(linux)).unwrap();
            (member(linux, "xa_node", "slots", VirtAddr::new(head - 2)).wrapping_add(8), wild)
        });
        let parts: Vec<_> = contents(&open(&guest)).unwrap().parts().collect();
        assert!(parts.last().unwrap().is_err(), "{wild:#x}: {parts:?}");
    }
}

#[test]
fn a_page_of_another_file_is_not_taken_for_this_ones() {
    let guest = patched(|linux| {
        let other = linux.process(1).unwrap().contents(b"/bin/cxx").unwrap().address();
        let mapping = pointer(linux, member(linux, "inode", "i_mapping", other));
        let head =
            linux.space().read_u64(member(linux, "address_space", "i_pages.xa_head", mapping)).unwrap();
        let stolen =
            linux.space().read_u64(member(linux, "xa_node", "slots", VirtAddr::new(head - 2))).unwrap();
        let own = linux.space().read_u64(cache(linux)).unwrap();
        (member(linux, "xa_node", "slots", VirtAddr::new(own - 2)), stolen)
    });
    let linux = open(&guest);
    let first = contents(&linux).unwrap().parts().next().unwrap();
    assert!(first.unwrap_err().to_string().contains("another file"));
}

#[test]
fn what_was_swapped_is_told_and_not_guessed() {
    // An odd number stands for a swapped page of a tmpfs.
    let guest = patched(|linux| {
        let own = linux.space().read_u64(cache(linux)).unwrap();
        (member(linux, "xa_node", "slots", VirtAddr::new(own - 2)).wrapping_add(8), 0x1001)
    });
    let linux = open(&guest);
    let parts: Vec<_> = contents(&linux).unwrap().parts().map(Result::unwrap).collect();
    let swapped: Vec<_> = parts.iter().filter(|part| part.kind == PartKind::Swapped).collect();
    assert_eq!(swapped.iter().map(|part| (part.offset, part.len)).collect::<Vec<_>>(), [(4096, 4096)]);
    assert!(contents(&linux).unwrap().read(4096, &mut [0; 16]).is_err());
}

#[test]
fn directories_that_lead_in_a_circle_end() {
    let newer = |linux: &Linux<'_>| vmc::layout::Types::member(linux.types(), "dentry", "d_sib").is_ok();
    for wild in [None, Some(0xdead_bee0), Some(u64::MAX - 7)] {
        let guest = patched(|linux| {
            let (dentry, _) = dentries(linux);
            let link = member(linux, "dentry", if newer(linux) { "d_sib" } else { "d_child" }, dentry);
            (link, wild.unwrap_or(link.get()))
        });
        let linux = open(&guest);
        let listing = linux.process(1).unwrap().list(b"/bin", false).unwrap();
        assert!(!listing.errors.is_empty(), "{wild:?}");
        // A search for what is not there ends as well.
        assert!(linux.process(1).unwrap().contents(b"/bin/nosuch").is_err());
    }
}

#[test]
fn a_directory_within_itself_is_listed_once() {
    // The file's dentry has the inode of its own directory: a directory without entries of its own.
    let guest = patched(|linux| {
        let (dentry, directory) = dentries(linux);
        let own = pointer(linux, member(linux, "dentry", "d_inode", directory));
        (member(linux, "dentry", "d_inode", dentry), own.get())
    });
    let linux = open(&guest);
    let listing = linux.process(1).unwrap().list(b"/", true).unwrap();
    assert!(listing.entries.len() < 100_000);
    // Its children are its parent's: the kernel's own list leads back up.
    let guest = patched(|linux| {
        let (_, directory) = dentries(linux);
        let first = pointer(linux, member(linux, "dentry", "d_parent", directory));
        let head = member(linux, "dentry", "d_children", directory);
        (head, linux.space().read_u64(member(linux, "dentry", "d_children", first)).unwrap())
    });
    let linux = open(&guest);
    let listing = linux.process(1).unwrap().list(b"/", true).unwrap();
    assert!(listing.entries.len() < 100_000, "{}", listing.entries.len());
}

#[test]
fn four_billion_groups_are_not_believed() {
    let guest = patched(|linux| {
        let cred = pointer(linux, member(linux, "task_struct", "real_cred", named(linux, "deep").address()));
        let info = pointer(linux, member(linux, "cred", "group_info", cred));
        (member(linux, "group_info", "ngroups", info), u64::MAX)
    });
    let linux = open(&guest);
    let row = named(&linux, "deep").process_details();
    assert!(row.errors.messages.iter().any(|why| why.contains("more than the limit")), "{:?}", row.errors);
    // The rest of the row does not suffer.
    assert!(row.credentials.is_none() && row.nice.is_some() && row.user_time.is_some());
}

#[test]
fn threads_are_counted_for_their_own_process_alone() {
    let guest = patched(|linux| {
        let shared =
            pointer(linux, member(linux, "task_struct", "signal", named(linux, "threads").address()));
        (member(linux, "task_struct", "signal", named(linux, "deep").address()), shared.get())
    });
    let linux = open(&guest);
    let row = named(&linux, "deep").process_details();
    assert!(row.errors.messages.iter().any(|why| why.contains("another process")), "{:?}", row.errors);
    assert!(row.user_time.is_none() && row.nice.is_some());
    let row = named(&linux, "threads").process_details();
    assert!(row.errors.is_empty() && row.user_time.is_some(), "{:?}", row.errors);
}

#[test]
fn control_groups_that_lead_in_a_circle_end() {
    let guest = patched(|linux| {
        let set = pointer(linux, member(linux, "task_struct", "cgroups", named(linux, "deep").address()));
        let group = pointer(linux, member(linux, "css_set", "dfl_cgrp", set));
        let node = pointer(linux, member(linux, "cgroup", "kn", group));
        let newer = vmc::layout::Types::member(linux.types(), "kernfs_node", "__parent").is_ok();
        (member(linux, "kernfs_node", if newer { "__parent" } else { "parent" }, node), node.get())
    });
    let linux = open(&guest);
    let row = named(&linux, "deep").process_details();
    assert!(row.errors.messages.iter().any(|why| why.contains("circle")), "{:?}", row.errors);
}

#[test]
fn a_pid_of_a_thousand_levels_is_not_believed() {
    let guest = patched(|linux| {
        let pid = pointer(linux, member(linux, "task_struct", "thread_pid", named(linux, "deep").address()));
        (member(linux, "pid", "level", pid), u64::MAX)
    });
    let linux = open(&guest);
    let (rows, errors) = linux.containers().unwrap();
    assert!(rows.is_empty() && errors.messages.iter().any(|why| why.contains("level")), "{errors:?}");
    assert!(named(&linux, "deep").process_details().numbers.is_empty());
}

#[test]
fn namespaces_that_lead_nowhere_cost_a_word_each() {
    for wild in [0xdead_beef, u64::MAX, 8] {
        let guest =
            patched(|linux| (member(linux, "task_struct", "nsproxy", named(linux, "deep").address()), wild));
        let (rows, errors) = open(&guest).containers().unwrap();
        assert!(rows.is_empty() && !errors.is_empty());
    }
}
