//! A live guest with its memory: a bare one, whose layout and bytes are what it says itself.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests may panic")]

mod common;

use std::time::Duration;

use common::Bare;
use vmc::{LiveGuest, PhysAddr, PhysMemory, Vcpus};
use vmc_kvm::{AttachError, AttachOptions, Kvm};
use vmc_process::Layout;

const HIGH: u64 = 4 << 30;

fn text(guest: &Kvm, at: u64, len: usize) -> String {
    let mut bytes = vec![0; len];
    guest.read(PhysAddr::new(at), &mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

fn by_user(bare: &Bare) -> AttachOptions {
    let mut options = AttachOptions::default();
    options.layout = Some(Layout::parse(bare.facts["layout"].as_str().unwrap()).unwrap());
    options
}

/// Where a vCPU counts.
fn count_in_memory(guest: &Kvm, vcpu: u64) -> u64 {
    guest.read_u64(PhysAddr::new(0x5000 + 64 * vcpu)).unwrap()
}

#[test]
fn memory_is_where_the_host_kernel_says() {
    for arguments in [&["loop", "--vcpus", "2"][..], &["loop", "--memfd"], &["hlt"], &["paused", "--seccomp"]]
    {
        let Some(bare) = Bare::start(arguments) else { return };
        let guest = match Kvm::attach(bare.pid(), &AttachOptions::default()) {
            Ok(guest) => guest,
            Err(error @ AttachError::NoLayout { .. }) => {
                common::skip(&error.to_string());
                Kvm::attach(bare.pid(), &by_user(&bare)).unwrap()
            }
            Err(error) => panic!("{error}"),
        };
        guest.stop().unwrap();
        assert_eq!(text(&guest, 0x200, 22), "low memory begins at 0");
        assert_eq!(text(&guest, HIGH + 0x100, 27), "high memory begins at 4 GiB");
        let ends: Vec<(u64, u64)> =
            guest.regions().iter().map(|region| (region.start.get(), region.end().get())).collect();
        assert_eq!(ends, [(0, 8 << 20), (HIGH, HIGH + (8 << 20))]);
        assert!(guest.slice(PhysAddr::new(0), 8).is_none(), "memory that changes is lent");
        let facts = guest.facts();
        assert_eq!((facts.backend, facts.pid, facts.ram_bytes), ("kvm", Some(bare.pid()), 16 << 20));
        assert!(facts.layout.contains("confirmed by"), "{facts:?}");
        for vcpu in 0..guest.count() {
            bare.assert_registers(vcpu, &guest.registers(vcpu).unwrap());
        }
        drop(guest);
        bare.assert_untouched();
    }
}

#[test]
fn what_was_read_of_a_held_guest_stays_until_it_is_held_again() {
    let Some(mut bare) = Bare::start(&["loop", "--vcpus", "2"]) else { return };
    let guest = Kvm::attach(bare.pid(), &by_user(&bare)).unwrap();
    assert!(guest.running());
    guest.stop().unwrap();
    let (first, counted) = (count_in_memory(&guest, 0), bare.counter(0));
    assert_eq!(first, counted, "memory and the guest's own word differ");
    guest.resume().unwrap();
    bare.assert_counting();
    assert_eq!(count_in_memory(&guest, 0), first, "what was read is forgotten on resume");
    guest.stop().unwrap();
    let second = count_in_memory(&guest, 0);
    assert!(second > first);
    assert_eq!(second, bare.counter(0));
    guest.resume().unwrap();
    guest.forget();
    std::thread::sleep(Duration::from_millis(20));
    bare.assert_counting();
    assert!(count_in_memory(&guest, 0) > second);
    drop(guest);
    bare.assert_untouched();
}

#[test]
fn a_wrong_layout_of_the_users_is_believed_and_said_to_be_doubtful() {
    let Some(bare) = Bare::start(&["paused"]) else { return };
    let mut options = by_user(&bare);
    // The two pieces changed for one another: the page tables are not where CR3 says.
    let layout = options.layout.as_mut().unwrap();
    let (low, high) = (layout.pieces[0].host, layout.pieces[1].host);
    (layout.pieces[0].host, layout.pieces[1].host) = (high, low);
    let guest = Kvm::attach(bare.pid(), &options).unwrap();
    let facts = guest.facts();
    assert!(facts.layout.contains("not confirmed") && facts.warnings.len() == 1, "{facts:?}");
    drop(guest);
    bare.assert_untouched();
    // One that leads nowhere is none at all.
    options.layout = Some(Layout::parse("0x0+0x1000@0x1000").unwrap());
    let error = Kvm::attach(bare.pid(), &options).unwrap_err().to_string();
    assert!(error.contains(&bare.pid().to_string()) && !error.contains('\n'), "{error}");
    bare.assert_untouched();
}
