//! Stacks of threads whose tables, pointers or processors are not as they should be, made by changing words of an image.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::panic,
    reason = "tests and their helpers may panic and tell what they saw"
)]

#[path = "images/changed.rs"]
mod changed;
mod images;

use changed::{changed, member, word};
use images::{address, number};
use serde_json::Value;
use vmc::view::{Space, Stack, Stop};
use vmc::{ReadExt, VirtAddr};
use vmc_windows::{Process, Windows};

/// The threads of the ledger that stand in the kernel below a system call of a program.
fn in_system_calls(truth: &Value) -> Vec<&Value> {
    let processes = truth["processes"].as_array().unwrap().iter();
    let threads = processes.flat_map(|process| process["threads"].as_array().unwrap());
    let threads: Vec<_> = threads
        .filter(|thread| thread["stop"] == "syscall" && thread["running_on"].is_null())
        .filter(|thread| !thread["trap_frame"].is_null())
        .collect();
    assert!(threads.len() > 5, "{}", threads.len());
    threads
}

/// The kernel says that it has no table of functions (the exception directory, the fourth of the header): no walk gets past its
/// first frame there.
fn no_table(windows: &Windows<'_>) -> (VirtAddr, Vec<u8>) {
    let base = windows.identity().base;
    let header: u32 = windows.kernel().read_value(base.wrapping_add(0x3c)).unwrap();
    (base.wrapping_add(u64::from(header) + 24 + 112 + 3 * 8), vec![0; 8])
}

fn stack(windows: &Windows<'_>, told: &Value) -> Stack {
    let processes: Vec<Process<'_>> = windows.processes().filter_map(Result::ok).collect();
    let mut threads = processes.iter().flat_map(Process::threads).filter_map(Result::ok);
    let thread = threads.find(|thread| thread.object() == address(told, "ethread")).unwrap();
    windows.stacks(&processes, None).stack(&thread)
}

fn frames(stack: &Stack, space: Space) -> Vec<(u64, u64)> {
    let part = stack.frames.iter().filter(|frame| frame.space == space);
    part.map(|frame| (frame.ip.get(), frame.sp.get())).collect()
}

fn told(stack: &Value) -> Vec<(u64, u64)> {
    let frames = stack.as_array().unwrap().iter();
    frames.map(|frame| (number(&frame["ip"]), number(&frame["sp"]))).collect()
}

#[test]
fn the_trap_frame_leads_to_user_mode_where_the_kernel_has_no_tables() {
    let change = |windows: &Windows<'_>, truth: &Value| {
        let mut changes = vec![no_table(windows)];
        for thread in in_system_calls(truth) {
            // The entry of system calls says what it is; the image's does not.
            let kind = member(windows, address(thread, "trap_frame"), "_KTRAP_FRAME", "ExceptionActive");
            changes.push((kind, vec![2]));
        }
        changes
    };
    changed(change, |windows, truth| {
        for thread in in_system_calls(truth) {
            let stack = stack(windows, thread);
            let in_kernel = frames(&stack, Space::Kernel);
            assert_eq!(in_kernel, told(&thread["kernel_stack"])[..1], "tid {}", thread["tid"]);
            let at = VirtAddr::new(in_kernel[0].0);
            assert_eq!(stack.kernel_stop, Some(Stop::NoUnwindInfo(at)));
            assert_eq!(frames(&stack, Space::User), told(&thread["user_stack"]), "tid {}", thread["tid"]);
            assert_eq!(stack.stop, Some(Stop::End));
        }
    });
}

#[test]
fn a_kernel_stack_that_leads_nowhere_costs_its_own_part_alone() {
    let change = |windows: &Windows<'_>, truth: &Value| {
        let stacks = in_system_calls(truth).into_iter().enumerate().map(|(index, thread)| {
            let wild = [0, 0x1000, 0x4141_4141_4141_4141, u64::MAX - 7][index % 4];
            word(member(windows, address(thread, "ethread"), "_KTHREAD", "KernelStack"), wild)
        });
        stacks.collect()
    };
    changed(change, |windows, truth| {
        for thread in in_system_calls(truth) {
            let stack = stack(windows, thread);
            assert_eq!(frames(&stack, Space::Kernel), [], "tid {}", thread["tid"]);
            assert!(stack.kernel_stop.is_none() && !stack.errors.is_empty());
            assert_eq!(frames(&stack, Space::User), told(&thread["user_stack"]), "tid {}", thread["tid"]);
        }
    });
}

#[test]
fn trap_frames_and_stacks_of_programs_lead_into_no_kernel_memory() {
    let change = |windows: &Windows<'_>, truth: &Value| {
        let mut changes = vec![no_table(windows)];
        for (index, thread) in in_system_calls(truth).into_iter().enumerate() {
            let object = address(thread, "ethread");
            changes.push(if index % 2 == 0 {
                let stack = member(windows, address(thread, "trap_frame"), "_KTRAP_FRAME", "Rsp");
                word(stack, number(&thread["kernel_stack_pointer"]))
            } else {
                word(member(windows, object, "_KTHREAD", "TrapFrame"), 0x4141_4141_4141_4141)
            });
        }
        changes
    };
    changed(change, |windows, truth| {
        for (index, thread) in in_system_calls(truth).into_iter().enumerate() {
            let stack = stack(windows, thread);
            let user = frames(&stack, Space::User);
            if index % 2 == 0 {
                let at = address(thread, "kernel_stack_pointer");
                assert_eq!(user, [(told(&thread["user_stack"])[0].0, at.get())]);
                assert_eq!(stack.stop, Some(Stop::NotResident(at)));
            } else {
                assert_eq!((user, stack.stop), (vec![], None));
            }
        }
    });
}

#[test]
fn a_frozen_processor_has_its_registers_in_its_control_block() {
    let running = |truth: &Value| -> Vec<(u64, Value)> {
        let processes = truth["processes"].as_array().unwrap().iter();
        let threads = processes.flat_map(|process| process["threads"].as_array().unwrap());
        let on = threads.filter(|thread| !thread["stop"].is_null() && !thread["running_on"].is_null());
        on.map(|thread| (number(&thread["running_on"]), thread.clone())).collect()
    };
    let block = |windows: &Windows<'_>, cpu: u64| {
        let blocks = windows.symbol("KiProcessorBlock").unwrap();
        windows.kernel().read_pointer(blocks.wrapping_add(8 * cpu)).unwrap()
    };
    // Of a processor that runs what is there is old.
    for (state, counts) in [(0u32, false), (2, true), (0x22, true), (3, false)] {
        let change = |windows: &Windows<'_>, truth: &Value| {
            let freeze = |(cpu, _): (u64, Value)| {
                let at = member(windows, block(windows, cpu), "_KPRCB", "IpiFrozen");
                (at, state.to_le_bytes().to_vec())
            };
            running(truth).into_iter().map(freeze).collect()
        };
        changed(change, |windows, truth| {
            assert_eq!(running(truth).len(), 2);
            for (_, thread) in running(truth) {
                let stack = stack(windows, &thread);
                let own = |key: &str| thread[key].as_array().map(|_| told(&thread[key])).unwrap_or_default();
                if counts {
                    assert_eq!(frames(&stack, Space::Kernel), own("kernel_stack"), "tid {}", thread["tid"]);
                    assert_eq!(frames(&stack, Space::User), own("user_stack"), "tid {}", thread["tid"]);
                } else {
                    assert!(stack.frames.is_empty() && !stack.errors.is_empty(), "tid {}", thread["tid"]);
                }
            }
        });
    }
}
