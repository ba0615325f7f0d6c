//! A deep stack of real functions of a libc, on each architecture: frames per second with rules cached and without, beside
//! framehop.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::panic,
    reason = "a bench may panic and print"
)]

mod scene;

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use framehop::Unwinder as Rival;
use framehop::aarch64::{CacheAarch64, UnwindRegsAarch64, UnwinderAarch64};
use framehop::x86_64::{CacheX86_64, UnwindRegsX86_64, UnwinderX86_64};
use scene::{BIAS, FRAMES, STACK, Scene, Target, scene};
use vmc::{Limits, VirtAddr};
use vmc_unwind::gimli::{AArch64, X86_64};
use vmc_unwind::{Cache, Frame, Module, ModuleMap, Section, Sections, Unwinder, aarch64, x86_64};

const ON_X86_64: Target = Target {
    name: "frames",
    libc: "/lib/x86_64-linux-gnu/libc.so.6",
    sp: X86_64::RSP,
    link: X86_64::RA,
    step: 1,
};

/// Debian's libc6-arm64-cross.
const ON_AARCH64: Target = Target {
    name: "frames-aarch64",
    libc: "/usr/aarch64-linux-gnu/lib/libc.so.6",
    sp: AArch64::SP,
    link: AArch64::X30,
    step: 4,
};

/// How many frames, and the sum of their addresses.
type Sum = (usize, u64);

fn sum<R>(frames: impl Iterator<Item = Frame<R>>) -> Sum {
    frames.fold((0, 0), |sum: Sum, frame| (sum.0 + 1, sum.1.wrapping_add(frame.address.address().get())))
}

fn on_x86_64(scene: &Scene, modules: &ModuleMap, limits: &Limits, cache: &mut Cache) -> Sum {
    let mut registers = x86_64::Registers::new(VirtAddr::new(scene.ip), VirtAddr::new(STACK));
    registers.set(X86_64::RBP, scene.fp);
    sum(Unwinder::new(modules, &scene.stack, limits).walk(registers, cache))
}

fn on_aarch64(scene: &Scene, modules: &ModuleMap, limits: &Limits, cache: &mut Cache) -> Sum {
    let mut registers = aarch64::Registers::new(VirtAddr::new(scene.ip), VirtAddr::new(STACK));
    registers.set(AArch64::X29, scene.fp);
    sum(Unwinder::new(modules, &scene.stack, limits).walk_aarch64(registers, cache))
}

fn theirs<U: Rival>(scene: &Scene, unwinder: &U, registers: U::UnwindRegs, cache: &mut U::Cache) -> Sum {
    let words = &scene.stack.0;
    let mut read = |addr: u64| words.get((addr.wrapping_sub(STACK) / 8) as usize).copied().ok_or(());
    let mut frames = unwinder.iter_frames(scene.ip, registers, cache, &mut read);
    let mut sum = (0, 0u64);
    while let Ok(Some(frame)) = frames.next() {
        sum = (sum.0 + 1, sum.1.wrapping_add(frame.address()));
    }
    sum
}

fn rival<U: Rival<Module = framehop::Module<Vec<u8>>>>(mut unwinder: U, scene: &Scene) -> U {
    let Sections { eh_frame_hdr, eh_frame, .. } = &scene.sections;
    let range = |section: &Section| section.address..section.address + section.bytes.len() as u64;
    let info = framehop::ExplicitModuleSectionInfo {
        base_svma: 0,
        text_svma: Some(scene.text.clone()),
        eh_frame_svma: Some(range(eh_frame)),
        eh_frame: Some(eh_frame.bytes.clone()),
        eh_frame_hdr_svma: Some(range(eh_frame_hdr)),
        eh_frame_hdr: Some(eh_frame_hdr.bytes.clone()),
        ..Default::default()
    };
    unwinder.add_module(framehop::Module::new("libc".into(), BIAS..BIAS + 0x100_0000, BIAS, info));
    unwinder
}

fn compare<U: Rival<Module = framehop::Module<Vec<u8>>>>(
    c: &mut Criterion,
    target: &Target,
    ours: fn(&Scene, &ModuleMap, &Limits, &mut Cache) -> Sum,
    unwinder: U,
    registers: fn(&Scene) -> U::UnwindRegs,
    their_cache: fn() -> U::Cache,
) {
    let Some(scene) = scene(target) else {
        println!("skipped: {} cannot be read", target.libc);
        return;
    };
    let range = VirtAddr::new(BIAS)..VirtAddr::new(BIAS + 0x100_0000);
    let module = Module { range, bias: BIAS, table: Some(scene.table.clone()), index: 0 };
    let modules = ModuleMap::new(vec![module]);
    let limits = Limits::default();
    let unwinder = rival(unwinder, &scene);
    let theirs = |cache: &mut U::Cache| theirs(black_box(&scene), &unwinder, registers(&scene), cache);
    let ours = |cache: &mut Cache| ours(black_box(&scene), &modules, &limits, cache);

    let (mut cache, mut their_warm) = (Cache::new(), their_cache());
    let found = ours(&mut cache);
    assert_eq!(found, theirs(&mut their_warm));
    assert_eq!(found.0, FRAMES);
    assert_eq!((cache.misses(), cache.hits()), (FRAMES as u64, 0));

    let mut group = c.benchmark_group(target.name);
    group.throughput(Throughput::Elements(FRAMES as u64));
    group.bench_function("warm/vmc", |b| b.iter(|| ours(&mut cache)));
    group.bench_function("warm/framehop", |b| b.iter(|| theirs(&mut their_warm)));
    group.bench_function("cold/vmc", |b| {
        b.iter_batched_ref(Cache::new, ours, BatchSize::PerIteration);
    });
    group.bench_function("cold/framehop", |b| {
        b.iter_batched_ref(their_cache, theirs, BatchSize::PerIteration);
    });
    group.finish();
    println!("misses of warm walks: ours {} of {}", cache.misses(), cache.misses() + cache.hits());
}

fn benches(c: &mut Criterion) {
    let registers = |scene: &Scene| UnwindRegsX86_64::new(scene.ip, STACK, scene.fp);
    compare(c, &ON_X86_64, on_x86_64, UnwinderX86_64::new(), registers, CacheX86_64::new);
    let registers = |scene: &Scene| UnwindRegsAarch64::new(0, STACK, scene.fp);
    compare(c, &ON_AARCH64, on_aarch64, UnwinderAarch64::new(), registers, CacheAarch64::new);
}

criterion_group!(unwind, benches);
criterion_main!(unwind);
