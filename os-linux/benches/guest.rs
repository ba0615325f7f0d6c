//! What finding a kernel and reading it costs, on the sample guest.
#![allow(missing_docs, clippy::unwrap_used, reason = "a bench may panic")]

use std::hint::black_box;
use std::path::PathBuf;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use vmc::vcpu::NoVcpus;
use vmc::{PhysAddr, PhysError, PhysMemory, Region, VirtAddr, VirtualMemory};
use vmc_dump::{Image, OpenOptions};
use vmc_linux::{Kallsyms, Linux, Task};
use vmc_types::Btf;
use vmc_unwind::Cache;

fn image() -> Image {
    let cache_dir = Some(PathBuf::from(env!("CARGO_TARGET_TMPDIR")));
    let mut options = OpenOptions { cache_dir, ..OpenOptions::default() };
    Image::open_with(concat!(env!("CARGO_MANIFEST_DIR"), "/../guests/sample/mem.elf.zst"), &mut options)
        .unwrap()
}

fn reading(c: &mut Criterion) {
    let image = image();
    let linux = Linux::open(&image, &image).unwrap();
    let limits = linux.limits();
    let symbol = |name: &str| VirtAddr::new(linux.symbols().named(name.as_bytes()).next().unwrap().address);
    let (start, stop) = (symbol("__start_BTF"), symbol("__stop_BTF"));
    let types = linux.space().slice(start, stop.offset_from(start).unwrap() as usize).unwrap();

    c.bench_function("open/registers", |b| b.iter(|| Linux::open(black_box(&image), &image).unwrap()));
    c.bench_function("open/memory alone", |b| b.iter(|| Linux::open(black_box(&image), &NoVcpus).unwrap()));
    c.bench_function("kallsyms/load", |b| {
        b.iter(|| Kallsyms::load(linux.space(), linux.identity(), limits).unwrap());
    });
    c.bench_function("kallsyms/unpack all", |b| b.iter(|| linux.kernel_symbols().table()));
    c.bench_function("btf/load", |b| b.iter(|| Btf::parse(types.into(), limits).unwrap()));
    c.bench_function("ps", |b| {
        b.iter(|| linux.processes().unwrap().map(|task| task.unwrap().process_row()).collect::<Vec<_>>());
    });

    // The kernel's own memory: large pages behind four levels.
    let text = linux.facts().kernel_base;
    let mut page = 0u64;
    let mut next = || {
        page = (page * 5 + 1) % 1024;
        text.wrapping_add(page * 4096)
    };
    c.bench_function("image/translate hit", |b| {
        b.iter(|| linux.space().translate(black_box(next())).unwrap())
    });
    c.bench_function("image/translate miss", |b| b.iter(|| linux.space().walk(black_box(next())).unwrap()));
    c.bench_function("image/read 8 bytes", |b| b.iter(|| linux.space().read_u64(black_box(next())).unwrap()));
    let mut buf = [0u8; 4096];
    c.bench_function("image/read 4 KiB", |b| {
        b.iter(|| linux.space().read(black_box(next()), &mut buf).unwrap())
    });
}

/// Memory that is copied, as that of live guests is.
struct Copied(Image);

impl PhysMemory for Copied {
    fn regions(&self) -> &[Region] {
        self.0.regions()
    }

    fn read(&self, addr: PhysAddr, buf: &mut [u8]) -> Result<(), PhysError> {
        self.0.read(addr, buf)
    }
}

fn copied(c: &mut Criterion) {
    let copied = Copied(image());
    let mut group = c.benchmark_group("memory that is copied");
    group.bench_function("open/registers", |b| {
        b.iter(|| Linux::open(black_box(&copied), &copied.0).unwrap());
    });
    let linux = Linux::open(&copied, &copied.0).unwrap();
    group.bench_function("ps", |b| {
        b.iter(|| linux.processes().unwrap().map(|task| task.unwrap().process_row()).collect::<Vec<_>>());
    });
    let tasks: Vec<Task<'_, '_>> = linux.processes().unwrap().map(Result::unwrap).collect();
    group.bench_function("kernel stacks", |b| {
        b.iter(|| {
            let stacks = linux.stacks(&[]);
            tasks.iter().map(|task| stacks.kernel_stack(task).frames.len()).sum::<usize>()
        });
    });
    group.bench_function("open and ps", |b| {
        b.iter(|| {
            let linux = Linux::open(black_box(&copied), &copied.0).unwrap();
            linux
                .processes()
                .unwrap()
                .filter(|task| task.as_ref().unwrap().process_row().threads.is_some())
                .count()
        });
    });
    group.finish();
}

fn stacks(c: &mut Criterion) {
    let image = image();
    let linux = Linux::open(&image, &image).unwrap();
    let leaders: Vec<Task<'_, '_>> = linux.processes().unwrap().map(Result::unwrap).collect();
    let tasks: Vec<Task<'_, '_>> =
        leaders.iter().flat_map(|task| task.threads().unwrap()).map(Result::unwrap).collect();
    let walk = |cache: &mut Cache| {
        let stacks = linux.stacks(&tasks);
        tasks.iter().map(|task| stacks.user_stack(task, false, cache).frames.len()).sum::<usize>()
    };
    let frames = walk(&mut Cache::new());
    let mut group = c.benchmark_group("stacks of the whole guest");
    group.throughput(Throughput::Elements(frames as u64));
    group.bench_function("everything read anew", |b| b.iter(|| walk(&mut Cache::new())));
    let gathered = linux.stacks(&tasks);
    let mut cache = Cache::new();
    let mut again =
        || tasks.iter().map(|task| gathered.user_stack(task, false, &mut cache).frames.len()).sum::<usize>();
    again();
    group.bench_function("tables, symbols and rules at hand", |b| b.iter(&mut again));
    group.finish();
}

criterion_group!(guest, reading, copied, stacks);
criterion_main!(guest);
