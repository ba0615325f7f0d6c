//! Translation and virtual reads over memory in a slice: what the core itself costs.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, reason = "a bench may panic")]
use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use vmc::arch::x86_64::{Levels, X86PageTables};
use vmc::{AddressSpace, FlatMemory, PageTables, PhysAddr, VirtAddr, VirtualMemory};

/// 512 pages of memory, mapped in reverse order behind four tables.
fn memory() -> Vec<u8> {
    let mut ram = vec![0u8; 0x5000 + 512 * 4096];
    for (at, next) in [(0x1000, 0x2003u64), (0x2000, 0x3003), (0x3000, 0x4003)] {
        ram[at..at + 8].copy_from_slice(&next.to_le_bytes());
    }
    for page in 0..512usize {
        let entry = (0x5000 + (511 - page) as u64 * 4096) | 3;
        ram[0x4000 + page * 8..0x4008 + page * 8].copy_from_slice(&entry.to_le_bytes());
    }
    ram
}

fn benches(c: &mut Criterion) {
    let ram = memory();
    let memory = FlatMemory::new(PhysAddr::new(0), &ram);
    let tables = PageTables::X86_64(X86PageTables::new(PhysAddr::new(0x1000), Levels::Four));
    let space = AddressSpace::new(&memory, tables);
    let mut page = 0u64;
    let mut next = || {
        page = (page * 5 + 1) % 512;
        VirtAddr::new(page * 4096 + 8)
    };
    c.bench_function("translate/hit", |b| b.iter(|| space.translate(black_box(next())).unwrap()));
    c.bench_function("translate/miss", |b| b.iter(|| space.walk(black_box(next())).unwrap()));
    c.bench_function("read/8 bytes", |b| b.iter(|| space.read_u64(black_box(next())).unwrap()));
    let mut buf = [0u8; 4096];
    c.bench_function("read/4 KiB", |b| {
        b.iter(|| space.read(VirtAddr::new(black_box(next()).get() & !0xfff), &mut buf).unwrap());
    });
}

criterion_group!(memory_benches, benches);
criterion_main!(memory_benches);
