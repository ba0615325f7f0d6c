//! What reads of a process' memory cost: kept pages, and past the cache, private memory and shared.
#![allow(missing_docs, clippy::unwrap_used, reason = "a bench may panic")]

use std::fs::File;
use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use memmap2::{MmapMut, MmapOptions, MmapRaw};
use vmc::{PhysAddr, PhysMemory as _};
use vmc_process::{Layout, ProcessMemory};

const RAM: usize = 256 << 20;

/// This process' own memory: for the system it is as any other's.
fn open(address: usize) -> ProcessMemory {
    let layout = Layout::parse(&format!("0x0+{RAM}@{address:#x}")).unwrap();
    ProcessMemory::open(std::process::id(), &layout).unwrap()
}

fn private() -> MmapMut {
    let mut map = MmapMut::map_anon(RAM).unwrap();
    map.fill(0xa5);
    map
}

fn shared() -> MmapRaw {
    let fd = nix::sys::memfd::memfd_create(c"ram", nix::sys::memfd::MFdFlags::empty()).unwrap();
    let file = File::from(fd);
    for at in (0..RAM).step_by(1 << 20) {
        std::os::unix::fs::FileExt::write_all_at(&file, &[0xa5; 1 << 20], at as u64).unwrap();
    }
    MmapOptions::new().len(RAM).map_raw(&file).unwrap()
}

fn reads(c: &mut Criterion) {
    let (private, shared) = (private(), shared());
    for (name, memory) in
        [("private", open(private.as_ptr().addr())), ("shared", open(shared.as_ptr().addr()))]
    {
        let mut group = c.benchmark_group(format!("{name} ({})", memory.how()));
        for len in [8, 4096, 64 << 10, 2 << 20] {
            group.throughput(Throughput::Bytes(len as u64));
            let mut buf = vec![0; len];
            // Pages that are apart and come again only when they are long forgotten; also from one sample to the next.
            let mut at = 0;
            group.bench_function(BenchmarkId::new("new", len), |b| {
                b.iter(|| {
                    at = ((at + len.max(4096) * 7 + 4096) % (RAM - len)) & !4095;
                    memory.read(PhysAddr::new(at as u64), black_box(&mut buf)).unwrap();
                });
            });
            if len <= 64 << 10 {
                group.bench_function(BenchmarkId::new("kept", len), |b| {
                    b.iter(|| memory.read(PhysAddr::new(0x10_0000), black_box(&mut buf)).unwrap());
                });
            }
            memory.forget();
        }
        group.finish();
    }
}

criterion_group!(benches, reads);
criterion_main!(benches);
