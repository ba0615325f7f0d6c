//! Memory that lends nothing has to give the same answers as memory that does: live guests are read so.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "tests may panic")]

mod common;

use std::fmt::Debug;

use common::copied::Copied;
use common::image;
use vmc::vcpu::NoVcpus;
use vmc::{PhysAddr, PhysMemory, Vcpus};
use vmc_dump::Image;
use vmc_linux::{Linux, Task};
use vmc_unwind::Cache;

/// What was asked, and the answer.
type Line = (String, String);
/// What was asked, how many reads that took, and of how many bytes.
type Cost = (String, u64, u64);

/// Everything that is told of a guest, a part a line, with what reading it cost.
struct Told<'c> {
    lines: Vec<Line>,
    costs: Vec<Cost>,
    memory: Option<&'c Copied<'c>>,
}

impl Told<'_> {
    fn tell(&mut self, what: impl Into<String>, answer: &dyn Debug) {
        let what = what.into();
        if let Some((reads, bytes)) = self.memory.map(Copied::asked) {
            self.costs.push((what.clone(), reads, bytes));
        }
        self.lines.push((what, format!("{answer:?}")));
    }
}

/// Asks everything of the guest.
fn everything(
    memory: &dyn PhysMemory,
    vcpus: &dyn Vcpus,
    copied: Option<&Copied<'_>>,
) -> (Vec<Line>, Vec<Cost>) {
    let mut told = Told { lines: Vec::new(), costs: Vec::new(), memory: copied };
    let linux = Linux::open(memory, vcpus).unwrap();
    told.tell("open", &linux.identity());
    told.tell("facts", &linux.facts());
    told.tell("taints", &linux.tainted());
    let tasks: Vec<Task<'_, '_>> = linux.processes().unwrap().map(Result::unwrap).collect();
    told.tell("processes", &tasks.iter().map(Task::process_row).collect::<Vec<_>>());
    told.tell("details", &tasks.iter().map(Task::process_details).collect::<Vec<_>>());
    let threads: Vec<Task<'_, '_>> =
        tasks.iter().flat_map(|task| task.threads().unwrap()).map(Result::unwrap).collect();
    told.tell("threads", &threads.iter().map(Task::thread_row).collect::<Vec<_>>());
    for task in &tasks {
        let pid = task.pid().unwrap();
        let Ok(memory) = task.memory() else { continue };
        told.tell(format!("maps {pid}"), &memory.mapping_rows());
        told.tell(format!("environment {pid}"), &memory.environment());
        let (files, ended) = task.open_files().unwrap();
        told.tell(format!("open files {pid}"), &(files.collect::<Vec<_>>(), ended));
    }
    told.tell("modules", &linux.modules().unwrap().collect::<Vec<_>>());
    for module in linux.modules().unwrap().map_while(Result::ok) {
        told.tell(format!("module {}", module.name), &linux.module_details(module.object));
    }
    told.tell("sockets", &linux.sockets());
    told.tell("interfaces", &linux.interfaces());
    told.tell("containers", &linux.containers());
    told.tell("log", &linux.log().map(|records| records.collect::<Vec<_>>()));
    let init = linux.process(1).unwrap();
    told.tell("mounts", &init.mounts().map(|(rows, ended)| (rows.collect::<Vec<_>>(), ended)));
    told.tell("directory", &init.list(b"/", true).map(|listing| format!("{:?}", listing.entries)));
    let stacks = linux.stacks(&threads);
    let mut cache = Cache::new();
    let all: Vec<_> = threads.iter().map(|task| stacks.stack(task, false, &mut cache)).collect();
    told.tell("stacks", &all);
    told.tell(
        "images",
        &tasks.iter().filter_map(|task| Some(task.memory().ok()?.module_rows())).collect::<Vec<_>>(),
    );
    let survey = linux.processes_all_ways().unwrap();
    let ways: Vec<_> = survey.rows.iter().map(|row| (row.what.address(), &row.ways)).collect();
    told.tell("processes all ways", &(ways, &survey.ended, &survey.errors));
    let survey = linux.modules_all_ways().unwrap();
    let ways: Vec<_> = survey.rows.iter().map(|row| (&row.what.name, &row.ways)).collect();
    told.tell("modules all ways", &(ways, &survey.ended, &survey.errors));
    let addresses: Vec<PhysAddr> = (0..64).map(|page| PhysAddr::new(page << 20)).collect();
    let owners = linux.page_owners(&tasks, &addresses);
    let of = |at: &PhysAddr| (owners.of(*at).collect::<Vec<_>>(), linux.kernel_address(*at));
    told.tell("owners", &addresses.iter().map(of).collect::<Vec<_>>());
    told.tell("symbols", &linux.symbols().iter().map(|symbol| format!("{symbol:?}")).collect::<Vec<_>>());
    told.tell("types", &linux.types().layout("task_struct", linux.limits()));
    (told.lines, told.costs)
}

/// The same answers, and no more bytes read than is in proportion.
fn same_of(name: &str, image: &Image, vcpus: &dyn Vcpus) {
    let (lent, _) = everything(image, vcpus, None);
    let copied = Copied::new(image);
    let (told, costs) = everything(&copied, vcpus, Some(&copied));
    assert_eq!(lent.len(), told.len(), "{name}");
    for ((what, lent), (_, told)) in lent.iter().zip(&told) {
        let at = lent.bytes().zip(told.bytes()).position(|(one, other)| one != other);
        let at = at.unwrap_or(lent.len().min(told.len())).saturating_sub(80);
        let show = |text: &str| text.chars().skip(at).take(240).collect::<String>();
        assert!(lent == told, "{name}: {what}:\n{}\n{}", show(lent), show(told));
    }
    if std::env::var_os("VMC_SHOW_COSTS").is_some() {
        for (what, reads, bytes) in &costs {
            let _ = std::io::Write::write_all(
                &mut std::io::stderr(),
                format!("{name} {what}: {reads} reads, {} KiB\n", bytes >> 10).as_bytes(),
            );
        }
    }
}

#[test]
fn the_sample_says_the_same() {
    let image = image();
    same_of("sample", &image, &image);
    same_of("sample without registers", &image, &NoVcpus);
}
