//! Tasks by all ways: each is followed from every task that any of them leads to.

use alloc::vec::Vec;

use hashbrown::{HashMap, HashSet};
use vmc::VirtAddr;
use vmc::view::{RowErrors, Way, Ways};

use super::limited::Left;
use super::numbers::Numbers;
use super::queues::Queues;
use super::scan::Scan;
use super::standing::Standing;
use super::{Survey, Surveyed};
use crate::error::LinuxError;
use crate::kernel::Linux;
use crate::lists::ListWalk;
use crate::task::Task;

/// The ways, by their places in [`NAMES`].
const TASK_LIST: usize = 0;
const THREAD_LISTS: usize = 1;
const NUMBERS: usize = 2;
const QUEUES: usize = 3;
const CHILDREN: usize = 4;
const MEMORY: usize = 5;
const NAMES: [&str; 6] = ["task_list", "thread_lists", "pid_idr", "run_queues", "children", "memory"];

/// A walk of [`Numbers`].
type NumberWalk = fn(&mut Numbers, &Linux<'_>, VirtAddr, &mut RowErrors, &mut dyn FnMut(VirtAddr, bool));

/// Everything that was found, and by which ways.
struct Search<'k, 'm> {
    linux: &'k Linux<'m>,
    found: HashMap<VirtAddr, u8>,
    /// What was found, in its order; the first `followed` of it were followed on.
    order: Vec<VirtAddr>,
    followed: usize,
    /// Threads whose list was walked, by what they share.
    groups: HashSet<VirtAddr>,
    numbers: Option<Numbers>,
    queues: Option<Queues>,
    memory: bool,
    left: Left,
    /// How many more entries of the task list there may be that are no tasks: those take no task's place.
    strange_left: Left,
    /// Steps of all lists of threads and of children together, whatever they lead to.
    steps: Left,
    /// The heads of lists that were not walked to their end; the task list's is null.
    torn: HashSet<VirtAddr>,
    /// There are more tasks than the limit.
    cut: bool,
    errors: RowErrors,
}

impl<'m> Linux<'m> {
    /// The processes by all ways: the task list, the lists of threads, the numbers of every namespace, the run queues, the
    /// links of parents to children, and memory itself. Threads that are no processes are among them only where they are
    /// missing from a way. What is missing from one says so in [`Ways::hidden_from`].
    ///
    /// # Errors
    /// [`LinuxError`] where the task list is not to be found.
    pub fn processes_all_ways(&self) -> Result<Survey<Task<'_, 'm>>, LinuxError> {
        let first = self.need("init_task", self.known.init_task)?;
        let mut search = Search {
            linux: self,
            found: HashMap::new(),
            order: Vec::new(),
            followed: 0,
            groups: HashSet::new(),
            numbers: None,
            queues: None,
            memory: false,
            left: Left(self.limits().tasks),
            strange_left: Left(self.limits().tasks),
            // A task is on one list of either kind.
            steps: Left(self.limits().tasks.saturating_mul(2)),
            torn: HashSet::new(),
            cut: false,
            errors: RowErrors::default(),
        };
        search.run(first)?;
        Ok(search.survey(first))
    }
}

impl<'k, 'm> Search<'k, 'm> {
    fn run(&mut self, first: VirtAddr) -> Result<(), LinuxError> {
        let linux = self.linux;
        let limits = linux.limits();
        for task in linux.processes()? {
            match task {
                Ok(task) => self.see(task.address(), Some(TASK_LIST)),
                Err(why) => {
                    self.errors.push(limits, "task_list", &why);
                    self.torn.insert(VirtAddr::new(0));
                }
            }
        }
        // On no list, but the parent of the first ones.
        self.see(first, None);
        self.numbers = self.errors.keep(limits, "pid_idr", Numbers::new(linux));
        self.queues = self.errors.keep(limits, "run_queues", Queues::find(linux));
        if let Some(mut queues) = self.queues.take() {
            // An idle task is half made: it has what it was copied with, and nobody ever looks.
            let tasks = queues.tasks.iter().filter(|task| !queues.idle.contains(*task));
            tasks.for_each(|task| self.see(*task, Some(QUEUES)));
            self.errors.append(limits, core::mem::take(&mut queues.errors));
            self.queues = Some(queues);
        }
        if let Some(at) = linux.known.init_pid_ns {
            self.number(at, Numbers::namespace);
        }
        self.follow_all();
        let sample = self.order.iter().copied().find(|at| *at != first && linux.looks_like_task(*at));
        if let Some(sample) = sample {
            let tasks = Scan::tasks(linux, sample, &mut self.errors);
            if let Some(tasks) = self.errors.keep(limits, "memory", tasks) {
                self.memory = true;
                tasks.into_iter().for_each(|task| self.see(task, Some(MEMORY)));
            }
        }
        self.follow_all();
        Ok(())
    }

    /// Remembers a task, and the way that led to it.
    fn see(&mut self, task: VirtAddr, way: Option<usize>) {
        let bit = way.map_or(0, |way| 1 << way);
        if let Some(bits) = self.found.get_mut(&task) {
            *bits |= bit;
            return;
        }
        let linux = self.linux;
        // What a list of the kernel's holds has a row in any case, as in the plain list.
        let sound = linux.looks_like_task(task);
        if way != Some(TASK_LIST) && !sound {
            // A task in its last moments may have lost its parent.
            let passing = linux.standing(task).is_ok_and(|standing| standing.over || standing.forming);
            if let Some(name) = way.and_then(|way| NAMES.get(way)).filter(|_| !passing) {
                self.errors.push(linux.limits(), name, &format_args!("it leads to {task}, which is no task"));
            }
            return;
        }
        let left = if sound { &mut self.left } else { &mut self.strange_left };
        if !left.take() {
            if !self.cut {
                self.cut = true;
                self.errors.push(linux.limits(), "tasks", &"there are more than the limit");
            }
            return;
        }
        self.found.insert(task, bit);
        self.order.push(task);
    }

    /// Goes through a namespace of numbers, by its address or by a `struct pid`.
    fn number(&mut self, at: VirtAddr, walk: NumberWalk) {
        let Some(mut numbers) = self.numbers.take() else { return };
        let mut tasks = Vec::new();
        walk(&mut numbers, self.linux, at, &mut self.errors, &mut |task, own| tasks.push((task, own)));
        self.numbers = Some(numbers);
        for (task, own) in tasks {
            self.see(task, own.then_some(NUMBERS));
        }
    }

    /// Follows all that was found and was not followed yet.
    fn follow_all(&mut self) {
        while let Some(task) = self.order.get(self.followed).copied() {
            self.followed += 1;
            // What has ended may point at what was freed since.
            match self.linux.standing(task) {
                Ok(standing) if !standing.over && !standing.forming => {
                    if let Err(why) = self.follow(task, &standing) {
                        self.errors.push(self.linux.limits(), "a task", &why);
                    }
                }
                Ok(_) => {}
                Err(why) => self.errors.push(self.linux.limits(), "a task", &why),
            }
        }
    }

    fn follow(&mut self, task: VirtAddr, standing: &Standing) -> Result<(), LinuxError> {
        let linux = self.linux;
        let space = linux.space();
        let (fields, ties) = (linux.task()?, linux.task_ties()?);
        let read = LinuxError::read("a task");
        for pointer in [ties.group_leader, fields.real_parent] {
            self.see(pointer.pointer(space, task).map_err(&read)?, None);
        }
        let group = fields.signal.pointer(space, task).map_err(&read)?;
        if !group.is_null() && self.groups.insert(group) {
            let head = linux.signal()?.thread_head.address(group);
            self.list("the thread list", head, fields.thread_node.address(VirtAddr::new(0)), THREAD_LISTS);
        }
        let head = ties.children.address(task);
        self.list("the children", head, ties.sibling.address(VirtAddr::new(0)), CHILDREN);
        let number = self.number_of(task, standing);
        if !number.is_null() {
            self.number(number, Numbers::follow);
        }
        Ok(())
    }

    fn list(&mut self, what: &'static str, head: VirtAddr, offset: VirtAddr, way: usize) {
        let linux = self.linux;
        for entry in ListWalk::new(linux, what, head, offset.get(), self.steps.0) {
            match entry {
                Ok(task) => {
                    self.steps.take();
                    self.see(task, Some(way));
                }
                Err(why) => {
                    self.errors.push(linux.limits(), NAMES.get(way).unwrap_or(&what), &why);
                    self.torn.insert(head);
                }
            }
        }
    }

    /// Was the list of threads, and that of children, that a task has to be on walked to its end?
    fn walked(&self, task: VirtAddr) -> Result<(bool, bool), LinuxError> {
        let (linux, read) = (self.linux, LinuxError::read("a task"));
        let (fields, ties) = (linux.task()?, linux.task_ties()?);
        let group = fields.signal.pointer(linux.space(), task).map_err(&read)?;
        let parent = fields.real_parent.pointer(linux.space(), task).map_err(&read)?;
        let whole = |head: VirtAddr| !self.torn.contains(&head);
        Ok((whole(linux.signal()?.thread_head.address(group)), whole(ties.children.address(parent))))
    }

    fn number_of(&self, task: VirtAddr, standing: &Standing) -> VirtAddr {
        match &self.numbers {
            Some(numbers)
                if standing.number.is_null()
                    && self.linux.task_ties().is_ok_and(|t| t.thread_pid.is_none()) =>
            {
                numbers.number_of(self.linux, task)
            }
            _ => standing.number,
        }
    }

    /// The rows.
    fn survey(mut self, first: VirtAddr) -> Survey<Task<'k, 'm>> {
        let linux = self.linux;
        let mut ended = 0;
        let mut listed = Vec::new();
        let mut others = Vec::new();
        for at in core::mem::take(&mut self.order) {
            let bits = self.found.get(&at).copied().unwrap_or(0);
            let in_list = bits & (1 << TASK_LIST) != 0;
            let standing = match linux.standing(at) {
                Ok(standing) => standing,
                Err(_) if in_list => {
                    listed.push(Surveyed { what: Task { linux, at }, ways: self.ways(at, bits, None) });
                    continue;
                }
                Err(_) => continue,
            };
            if at == first || self.is_idle(at, &standing) {
                continue;
            }
            let ways = self.ways(at, bits, Some(&standing));
            if in_list {
                listed.push(Surveyed { what: Task { linux, at }, ways });
            } else if standing.over || standing.forming {
                ended += 1;
            } else if standing.leader || ways.is_hidden() {
                others.push((standing.tid, Surveyed { what: Task { linux, at }, ways }));
            }
        }
        others.sort_by_key(|(tid, row)| (*tid, row.what.address()));
        listed.extend(others.into_iter().map(|(_, row)| row));
        Survey { rows: listed, ended, errors: self.errors }
    }

    /// Is it what a CPU runs that has nothing to do? Those are on no list and share the number 0.
    fn is_idle(&self, at: VirtAddr, standing: &Standing) -> bool {
        match &self.queues {
            Some(queues) if !queues.idle.is_empty() => queues.idle.contains(&at),
            _ => standing.idle,
        }
    }

    /// What each way says of a task.
    fn ways(&self, at: VirtAddr, bits: u8, standing: Option<&Standing>) -> Ways {
        // Nothing has to hold what has ended or is being made.
        let standing = standing.filter(|standing| !standing.over && !standing.forming);
        let leader = standing.is_some_and(|standing| standing.leader);
        let queued = match (standing, &self.queues) {
            (Some(standing), Some(queues)) => {
                let changing = standing.cpu.is_none_or(|cpu| queues.changing.contains(&cpu));
                standing.queued && !changing
            }
            _ => false,
        };
        let number = standing.map(|standing| self.number_of(at, standing));
        let of_numbers = |ask: fn(&Numbers, &Linux<'_>, VirtAddr) -> bool| {
            let both = self.numbers.as_ref().zip(number);
            both.is_some_and(|(numbers, number)| ask(numbers, self.linux, number))
        };
        let numbered = of_numbers(Numbers::holds);
        // What was not walked to its end promises nothing.
        let standing = standing.filter(|_| !self.cut);
        let listed = leader && !self.cut && !self.torn.contains(&VirtAddr::new(0));
        let (threads, children) = self.walked(at).unwrap_or_default();
        let mut ways = Vec::with_capacity(NAMES.len());
        for (way, name) in NAMES.into_iter().enumerate() {
            let (there, promised) = match way {
                TASK_LIST => (true, listed),
                THREAD_LISTS => (true, standing.is_some() && threads),
                NUMBERS => (self.numbers.is_some(), standing.is_some() && of_numbers(Numbers::complete)),
                QUEUES => (self.queues.is_some(), queued && !self.cut),
                CHILDREN => (true, leader && !self.cut && children),
                // Memory is searched for what looks like a task; that all do is nobody's promise.
                _ => (self.memory, false),
            };
            let found = bits & (1 << way) != 0 && (way != NUMBERS || numbered || number.is_none());
            if there {
                ways.push(Way { name, found, promised });
            }
        }
        Ways(ways)
    }
}
