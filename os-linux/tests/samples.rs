//! Samples of running threads are held against the stacks that the same threads have by `stack`, which in turn are held against
//! the guest's own word elsewhere.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "tests may panic")]

mod common;

use common::image;
use vmc::Vcpus;
use vmc_linux::Linux;
use vmc_unwind::Cache;

#[test]
fn a_sample_has_the_frames_of_the_whole_stack() {
    let image = image();
    let linux = Linux::open(&image, &image).unwrap();
    let running: Vec<_> = linux.running().collect();
    assert_eq!(running.len(), image.count());
    let mut cache = Cache::new();
    for index in 0..image.count() {
        let registers = image.registers(index).unwrap();
        let (_, task) = linux.now_on(index, &registers).unwrap();
        assert!(running.iter().any(|one| one.address() == task.address()));
        let mut stacks = linux.stacks(&[]);
        stacks.gather(&task);
        let held = stacks.hold(index, &registers, |_| Some(64)).unwrap();
        assert!(held.pages() > 0 && !held.moved(&stacks));
        let trace = stacks.trace(&held, &registers, &mut cache);
        let whole = stacks.stack(&task, false, &mut cache);
        let of_sample: Vec<_> =
            trace.points.iter().map(|point| (point.address.address(), point.sp)).collect();
        let of_stack: Vec<_> = whole.frames.iter().map(|frame| (frame.ip, frame.sp)).collect();
        assert!(!trace.cut && of_stack.len() > 1, "{trace:?}");
        assert_eq!(of_sample, of_stack);
        assert_eq!((trace.kernel_stop, trace.stop), (whole.kernel_stop, whole.stop));
        for (point, frame) in trace.points.iter().zip(&whole.frames) {
            let named = stacks.name(held.mm(), point);
            assert_eq!((&named.symbol, &named.module), (&frame.symbol, &frame.module), "{:?}", frame.ip);
        }
        if trace.user_pages > 1 {
            // With one page held, the walk ends where it would go by what was read at another time.
            let held = stacks.hold(index, &registers, |_| Some(1)).unwrap();
            let short = stacks.trace(&held, &registers, &mut cache);
            assert!(short.cut && short.points.len() < trace.points.len());
            assert!(trace.points.starts_with(&short.points));
        }
    }
}
