//! What stacks of threads cost, on a synthetic image of the shared data.
#![allow(missing_docs, clippy::unwrap_used, reason = "a bench may panic")]

#[path = "../tests/images/mod.rs"]
#[allow(
    dead_code,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::panic,
    reason = "helpers of tests may panic and tell what they saw"
)]
mod images;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use vmc::view::Stop;
use vmc_windows::{Process, Thread};

fn stacks(c: &mut Criterion) {
    let Some((folder, truth)) =
        images::images().into_iter().find(|(folder, _)| folder.ends_with("19041-plain"))
    else {
        return;
    };
    let raw = images::unpacked(&folder.join("mem.raw.xz"));
    images::with_memory(&folder, &truth, &raw, |windows| {
        let processes: Vec<Process<'_>> = windows.processes().map(Result::unwrap).collect();
        let threads = processes.iter().flat_map(Process::threads).map(Result::unwrap);
        let ready = windows.stacks(&processes, None);
        // Those with a stack of a program.
        let whole = |thread: &Thread<'_>| ready.stack(thread).stop == Some(Stop::End);
        let threads: Vec<Thread<'_>> = threads.filter(whole).collect();
        let frames: usize = threads.iter().map(|thread| ready.stack(thread).frames.len()).sum();

        let mut group = c.benchmark_group("stacks");
        group.bench_function("made ready", |b| b.iter(|| windows.stacks(&processes, None)));
        group.throughput(Throughput::Elements(frames as u64));
        group.bench_function("frames", |b| {
            b.iter(|| threads.iter().map(|thread| ready.stack(thread).frames.len()).sum::<usize>());
        });
        group.finish();
        let deepest = threads.iter().max_by_key(|thread| ready.stack(thread).frames.len()).unwrap();
        c.bench_function("stack of the deepest thread", |b| b.iter(|| ready.stack(deepest)));
    });
}

criterion_group!(benches, stacks);
criterion_main!(benches);
