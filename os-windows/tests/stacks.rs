//! Stacks of all threads of the synthetic images, frame by frame, against the shadow stack that an emulator kept.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs,
    reason = "tests may panic and tell what they saw"
)]

#[path = "common/shared.rs"]
mod common;
#[allow(dead_code, reason = "each test uses a part of what they share")]
mod images;

use images::{images, number, unpacked, with};
use serde_json::Value;
use vmc::view::{Space, Stop};
use vmc_windows::Process;

fn frames(stack: &Value) -> Vec<(u64, u64)> {
    let frames = stack.as_array().into_iter().flatten();
    frames.map(|frame| (number(&frame["ip"]), number(&frame["sp"]))).collect()
}

#[test]
fn every_thread_stands_where_the_shadow_stack_says() {
    let (mut kernel, mut user) = (0, 0);
    for (folder, truth) in images() {
        let raw = unpacked(&folder.join("mem.raw.xz"));
        let vcpus = common::Ledger::new(&common::json(&folder.join("registers.json")));
        with(&folder, &truth, &raw, &vcpus, |windows| {
            let processes: Vec<Process<'_>> = windows.processes().filter_map(Result::ok).collect();
            let stacks = windows.stacks(&processes, None);
            for row in truth["processes"].as_array().unwrap() {
                if !row["hostile"].is_null() {
                    continue;
                }
                let process =
                    processes.iter().find(|process| process.object().get() == number(&row["eprocess"]));
                let threads: Vec<_> = process.unwrap().threads().map(Result::unwrap).collect();
                for told in row["threads"].as_array().unwrap() {
                    let who = format!("{} tid {} ({})", folder.display(), told["tid"], told["stop"]);
                    let (in_kernel, in_user) = (frames(&told["kernel_stack"]), frames(&told["user_stack"]));
                    if in_kernel.is_empty() && in_user.is_empty() {
                        continue;
                    }
                    let thread = threads
                        .iter()
                        .find(|thread| thread.object().get() == number(&told["ethread"]))
                        .unwrap();
                    let stack = stacks.stack(thread);
                    let of = |space| -> Vec<(u64, u64)> {
                        let part = stack.frames.iter().filter(|frame| frame.space == space);
                        part.map(|frame| (frame.ip.get(), frame.sp.get())).collect()
                    };
                    assert_eq!(of(Space::Kernel), in_kernel, "{who}: {:?}", stack.errors);
                    assert_eq!(of(Space::User), in_user, "{who}: {:?}", stack.errors);
                    assert!(
                        stack.kernel_stop.is_none_or(|stop| stop == Stop::End),
                        "{who}: {:?}",
                        stack.kernel_stop
                    );
                    assert!(stack.stop.is_none_or(|stop| stop == Stop::End), "{who}: {:?}", stack.stop);
                    kernel += usize::from(!in_kernel.is_empty());
                    user += usize::from(!in_user.is_empty());
                    // Names: the kernel's own by its symbols.
                    let told = told["kernel_stack"].as_array().into_iter().flatten();
                    for (told, ours) in told.zip(&stack.frames) {
                        if let Some(symbol) = told["symbol"].as_str() {
                            // Of several names for one place any is right.
                            let name = symbol.split('+').next().unwrap().as_bytes();
                            let start = ours.symbol.as_ref().map(|symbol| symbol.start.get());
                            let mut places = windows.symbols().named(name).map(|symbol| symbol.address);
                            assert!(places.any(|place| Some(place) == start), "{who} {}: {symbol}", ours.ip);
                        }
                        if let Some(module) = told["module"].as_str() {
                            let path = ours.module.as_ref().unwrap().path.to_lowercase();
                            assert!(path.ends_with(&module.to_lowercase()), "{who}: {path}, {module}");
                        }
                    }
                }
            }
        });
    }
    println!("{kernel} kernel stacks, {user} user stacks");
    assert!(images().is_empty() || (kernel > 100 && user > 100));
}
