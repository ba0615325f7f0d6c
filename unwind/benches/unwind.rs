//! A deep stack of real functions of the host's libc: frames per second with rules cached and without, beside framehop.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::panic,
    reason = "a bench may panic and print"
)]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use framehop::Unwinder as _;
use framehop::x86_64::{CacheX86_64, UnwindRegsX86_64, UnwinderX86_64};
use object::{Object, ObjectSection};
use vmc::{Fault, Limits, ReadError, VirtAddr, VirtualMemory};
use vmc_unwind::cfi::{CfaRule, RegisterRule};
use vmc_unwind::gimli::X86_64;
use vmc_unwind::x86_64::Registers;
use vmc_unwind::{Cache, Module, ModuleMap, Scratch, Section, Sections, UnwindTable, Unwinder};

const LIBC: &str = "/lib/x86_64-linux-gnu/libc.so.6";
const BIAS: u64 = 0x7f12_3400_0000;
const STACK: u64 = 0x7ffc_1234_0000;
const FRAMES: usize = 70;

/// The stack, in one slice.
struct Flat(Vec<u64>);

impl VirtualMemory for Flat {
    #[inline]
    fn read(&self, addr: VirtAddr, buf: &mut [u8]) -> Result<(), ReadError> {
        let start = addr.get().wrapping_sub(STACK) as usize / 8;
        for (chunk, word) in buf.chunks_mut(8).zip(self.0.get(start..).unwrap_or_default()) {
            chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
        }
        Ok(())
    }

    #[inline]
    fn read_u64(&self, addr: VirtAddr) -> Result<u64, ReadError> {
        let word = self.0.get((addr.get().wrapping_sub(STACK) / 8) as usize);
        word.copied().ok_or_else(|| ReadError::new(addr, Fault::NotMapped))
    }
}

struct Scene {
    sections: Sections,
    table: Arc<UnwindTable>,
    text: std::ops::Range<u64>,
    ip: u64,
    bp: u64,
    stack: Flat,
}

/// Lays out a stack of `FRAMES` frames: each in the middle of another function, with what it saved and where it returns.
fn scene() -> Option<Scene> {
    let file = std::fs::read(LIBC).ok()?;
    let object = object::read::elf::ElfFile64::<object::LittleEndian>::parse(&*file).ok()?;
    let section = |name| {
        let section = object.section_by_name(name).unwrap();
        Section::new(section.address(), section.data().unwrap().to_vec())
    };
    let text = object.section_by_name(".text")?;
    let sections = Sections {
        eh_frame_hdr: section(".eh_frame_hdr"),
        eh_frame: section(".eh_frame"),
        text: Some(text.address()),
        ..Sections::default()
    };
    let table = UnwindTable::new(sections.clone());
    let mut scratch = Scratch::new();
    let header = &sections.eh_frame_hdr;
    let mut frames = Vec::new();
    for entry in header.bytes[12..].chunks_exact(8) {
        let start =
            header.address.wrapping_add_signed(i32::from_le_bytes(entry[..4].try_into().unwrap()).into());
        let Ok(row) = table.row_for(start, &mut scratch) else { continue };
        let at = start + (row.function.end - start) * 2 / 3;
        let Ok(row) = table.row_for(at - 1, &mut scratch) else { continue };
        let CfaRule::RegisterAndOffset { register: X86_64::RSP, offset: offset @ 16..1000 } = row.cfa else {
            continue;
        };
        // What was popped already lies below the stack pointer, in the frame before.
        let inside = |rule| matches!(rule, RegisterRule::Offset(at) if at < 0 && -at <= offset);
        if row.registers().all(|(_, rule)| inside(rule)) {
            frames.push((at, row));
        }
    }
    let step = frames.len() / FRAMES;
    let chosen: Vec<_> = frames.into_iter().step_by(step).take(FRAMES).collect();
    let mut words = Vec::new();
    for (index, (_, row)) in chosen.iter().enumerate() {
        let CfaRule::RegisterAndOffset { offset, .. } = row.cfa else { panic!() };
        let base = words.len();
        words.resize(base + offset as usize / 8, 0u64);
        for (register, rule) in row.registers() {
            let RegisterRule::Offset(at) = rule else { panic!() };
            let place = (base as i64 + (offset + at) / 8) as usize;
            words[place] = match register {
                X86_64::RA => chosen.get(index + 1).map_or(0, |(at, _)| BIAS + at),
                _ => STACK + 8,
            };
        }
    }
    words.extend([0; 16]);
    // The innermost is looked up as it is: make that the byte whose row was taken.
    let ip = BIAS + chosen[0].0 - 1;
    let table = Arc::new(table);
    let text = text.address()..text.address() + text.size();
    Some(Scene { sections, table, text, ip, bp: STACK + 8, stack: Flat(words) })
}

fn ours(scene: &Scene, modules: &ModuleMap, limits: &Limits, cache: &mut Cache) -> (usize, u64) {
    let mut registers = Registers::new(VirtAddr::new(scene.ip), VirtAddr::new(STACK));
    registers.set(X86_64::RBP, scene.bp);
    let mut sum = (0, 0u64);
    for frame in Unwinder::new(modules, &scene.stack, limits).walk(registers, cache) {
        sum = (sum.0 + 1, sum.1.wrapping_add(frame.address.address().get()));
    }
    sum
}

type Rival = UnwinderX86_64<Vec<u8>>;

fn theirs(scene: &Scene, unwinder: &Rival, cache: &mut CacheX86_64) -> (usize, u64) {
    let words = &scene.stack.0;
    let mut read = |addr: u64| words.get((addr.wrapping_sub(STACK) / 8) as usize).copied().ok_or(());
    let registers = UnwindRegsX86_64::new(scene.ip, STACK, scene.bp);
    let mut frames = unwinder.iter_frames(scene.ip, registers, cache, &mut read);
    let mut sum = (0, 0u64);
    while let Ok(Some(frame)) = frames.next() {
        sum = (sum.0 + 1, sum.1.wrapping_add(frame.address()));
    }
    sum
}

fn rival(scene: &Scene) -> Rival {
    let mut unwinder = Rival::new();
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

fn benches(c: &mut Criterion) {
    let Some(scene) = scene() else {
        println!("skipped: {LIBC} cannot be read");
        return;
    };
    let range = VirtAddr::new(BIAS)..VirtAddr::new(BIAS + 0x100_0000);
    let module = Module { range, bias: BIAS, table: Some(scene.table.clone()), index: 0 };
    let modules = ModuleMap::new(vec![module]);
    let limits = Limits::default();
    let unwinder = rival(&scene);

    let (mut cache, mut their_cache) = (Cache::new(), CacheX86_64::new());
    let (frames, sum) = ours(&scene, &modules, &limits, &mut cache);
    assert_eq!((frames, sum), theirs(&scene, &unwinder, &mut their_cache));
    assert_eq!(frames, FRAMES);
    assert_eq!((cache.misses(), cache.hits()), (FRAMES as u64, 0));

    let mut group = c.benchmark_group("frames");
    group.throughput(Throughput::Elements(FRAMES as u64));
    group.bench_function("warm/vmc", |b| b.iter(|| ours(black_box(&scene), &modules, &limits, &mut cache)));
    group.bench_function("warm/framehop", |b| {
        b.iter(|| theirs(black_box(&scene), &unwinder, &mut their_cache))
    });
    group.bench_function("cold/vmc", |b| {
        b.iter_batched_ref(
            Cache::new,
            |cache| ours(black_box(&scene), &modules, &limits, cache),
            BatchSize::PerIteration,
        );
    });
    group.bench_function("cold/framehop", |b| {
        b.iter_batched_ref(
            CacheX86_64::new,
            |cache| theirs(black_box(&scene), &unwinder, cache),
            BatchSize::PerIteration,
        );
    });
    group.finish();
    let stats = their_cache.stats();
    println!("misses of warm walks: ours {} of {}", cache.misses(), cache.misses() + cache.hits());
    println!("framehop's {} of {}", stats.misses(), stats.total());
}

criterion_group!(unwind, benches);
criterion_main!(unwind);
