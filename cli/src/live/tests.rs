//! What is said of a guest that is an image, and what of the same as a live one.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Instant;

use clap::Parser;
use vmc::layout::Types;
use vmc::{Vcpus, VirtAddr};

use super::fake::{Behaviour, Fake, open_sample, sample};
use super::*;
use crate::args::Args;
use crate::notes::Notes;
use crate::output::Sink;
use crate::target::Target;
use vmc_linux::Linux;

/// What was said of a guest, and how.
struct Told {
    answered: Result<(), Failure>,
    out: String,
    notes: Vec<String>,
}

/// What the command says of a target, as text.
fn ask(words: &[&str], target: &Target) -> Told {
    let args = Args::parse_from(["vmc"].iter().chain(words));
    let notes = Notes::new(&args.common);
    let (sink, written) = Sink::captured();
    let question = Question { args: &args, notes: &notes, sink: &sink, target };
    let answered = match target.live() {
        Some(guest) => {
            let blocked = Blocked::new().unwrap();
            run(&question, guest, &blocked, Instant::now())
        }
        None => {
            let mut files = GuestFiles::new(&args, &notes);
            let opened = args.command.needs_kernel().then(|| question.open_kernel(&mut files));
            question.ask(opened.as_ref(), None, &files)
        }
    };
    Told { answered, out: text(&written), notes: notes.said() }
}

fn text(written: &Rc<RefCell<Vec<u8>>>) -> String {
    String::from_utf8(written.borrow().clone()).unwrap()
}

/// The sample as an image.
fn image() -> Target {
    Target::Image(Box::new(open_sample()))
}

fn of_fake(words: &[&str], behaviour: Behaviour) -> Told {
    ask(words, &Target::Live(Box::new(Fake::new(behaviour))))
}

/// Where the name of the second process' next task is linked: without it the list of tasks ends there.
fn link_of_a_task() -> u64 {
    let linux = Linux::open(sample(), sample()).unwrap();
    let task = linux.processes().unwrap().nth(1).unwrap().unwrap();
    let member = linux.types().member("task_struct", "tasks").unwrap();
    let at = VirtAddr::new(task.address().get() + member.offset);
    linux.space().translate(at).unwrap().get()
}

#[test]
fn a_guest_that_stands_says_what_its_image_says() {
    let image = image();
    for words in [
        &["ps", "kvm:1", "--format", "jsonl"][..],
        &["bt", "kvm:1"],
        &["lsof", "kvm:1", "--format", "csv"],
        &["modules", "kvm:1"],
        &["registers", "kvm:1"],
        &["registers", "kvm:1", "--format", "csv"],
        &["read", "kvm:1", "--physical", "0x1000", "64"],
        &["search", "kvm:1", "Linux version"],
        &["dmesg", "kvm:1"],
    ] {
        let told = of_fake(words, Behaviour::default());
        told.answered.unwrap();
        assert!(told.out == ask(words, &image).out, "{words:?}: {}", told.out);
        assert!(told.notes.last().unwrap().starts_with("the guest stood still for "), "{:?}", told.notes);
    }
}

#[test]
fn what_is_torn_is_read_again() {
    let words = ["ps", "kvm:1", "--format", "jsonl", "--no-stop"];
    let whole = ask(&words, &image()).out;
    let link = link_of_a_task();
    let told = of_fake(&words, Behaviour { torn: Some((link, 2)), ..Behaviour::default() });
    told.answered.unwrap();
    assert!(told.out == whole, "{} lines", told.out.lines().count());
    assert!(told.notes.iter().any(|note| note.contains("ran while it was read")), "{:?}", told.notes);
    // What stays torn is not tried for ever, and is told as far as it goes.
    let told = of_fake(&words, Behaviour { torn: Some((link, usize::MAX)), ..Behaviour::default() });
    told.answered.unwrap();
    assert!(whole.starts_with(&told.out) && told.out.lines().count() == 2, "{}", told.out);
    assert!(told.notes.iter().any(|note| note.contains("incomplete")), "{:?}", told.notes);
}

#[test]
fn a_guest_is_let_go_whatever_happens() {
    let ask_of = |words: &[&str], behaviour| {
        let target = Target::Live(Box::new(Fake::new(behaviour)));
        let args = Args::parse_from(["vmc"].iter().chain(words));
        let notes = Notes::new(&args.common);
        let (sink, _) = Sink::captured();
        let question = Question { args: &args, notes: &notes, sink: &sink, target: &target };
        let guest = target.live().unwrap();
        let blocked = Blocked::new().unwrap();
        let answered = catch_unwind(AssertUnwindSafe(|| run(&question, guest, &blocked, Instant::now())));
        assert!(guest.running());
        answered
    };
    assert!(ask_of(&["ps", "kvm:1", "--pid", "99999"], Behaviour::default()).unwrap().is_err());
    assert!(ask_of(&["ps", "kvm:1"], Behaviour { panics: true, ..Behaviour::default() }).is_err());
    let stuck =
        ask_of(&["ps", "kvm:1"], Behaviour { stuck: true, ..Behaviour::default() }).unwrap().unwrap_err();
    assert!(stuck.to_string().contains("kvm:1: the guest could not be stopped"), "{stuck}");
}

#[test]
fn a_guest_that_was_paused_stays_so() {
    for more in [None, Some("--no-stop")] {
        let words: Vec<&str> = ["ps", "kvm:1"].into_iter().chain(more).collect();
        let told = of_fake(&words, Behaviour { paused: true, ..Behaviour::default() });
        told.answered.unwrap();
        assert!(told.notes.iter().any(|note| note.contains("paused before")), "{:?}", told.notes);
    }
}

#[test]
fn what_is_known_without_a_kernel_is_told() {
    let told =
        of_fake(&["info", "kvm:1", "--format", "json"], Behaviour { empty: true, ..Behaviour::default() });
    assert!(told.answered.unwrap_err().to_string().contains("no Linux kernel found"));
    let facts: serde_json::Value = serde_json::from_str(&told.out).unwrap();
    assert_eq!(facts["backend"], "fake");
    assert_eq!(facts["layout"], "one piece");
    assert_eq!(facts["memory_bytes"], 256 << 20);
    assert_eq!(facts["cpus"], sample().count());
    let told = of_fake(&["registers", "kvm:1"], Behaviour { empty: true, ..Behaviour::default() });
    told.answered.unwrap();
    assert!(told.out.starts_with("vCPU 0"));
}
