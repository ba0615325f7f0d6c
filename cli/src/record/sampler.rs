//! [`Sampler`]: takes samples of all vCPUs, the guest standing only while registers and stacks are read.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use vmc::view::Space;
use vmc::{LiveError, LiveGuest, Registers, VirtAddr};
use vmc_linux::{Held, Linux, Mark, Stacks, Task, Trace};
use vmc_unwind::{Cache, CodeAddress};

use super::bare;
use super::moment::Moment;
use super::pauses::Pauses;
use super::profile::{Key, Place, Profile, Thread};

/// Pages of a program's stack that are held of a thread that is met for the first time.
const FIRST_PAGES: u64 = 6;
/// Pages of a program's stack that are held at the most.
const MOST_PAGES: u64 = 256;
/// A process whose mappings look the same as before is gathered anew after so long.
const FRESH: Duration = Duration::from_secs(5);
/// One in which code was met that it is not known to map: after so long.
const FRESH_IN_DOUBT: Duration = Duration::from_millis(100);
/// Images, and processes, that are kept at the most; then all are forgotten.
const MOST_IMAGES: usize = 4096;
const MOST_PROCESSES: usize = 2048;
/// Threads and names that are remembered at the most; then all are forgotten.
const MOST_KNOWN: usize = 1 << 18;

/// What is sampled, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) pid: Option<u32>,
    pub(crate) cpu: Option<u32>,
    pub(crate) kernel: bool,
    pub(crate) user: bool,
    /// Idle CPUs too.
    pub(crate) idle: bool,
    /// Stacks, not the threads alone.
    pub(crate) stacks: bool,
    pub(crate) demangled_bytes: usize,
}

/// What was counted beside the samples themselves.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    /// How often all vCPUs were looked at.
    pub(crate) rounds: u64,
    /// vCPUs that were looked at.
    pub(crate) vcpus: u64,
    /// Of these, idle ones.
    pub(crate) idle: u64,
    /// Ones that stood elsewhere than was asked for: in another process, on another CPU.
    pub(crate) others: u64,
    /// Stacks that were deeper than was held.
    pub(crate) cut: u64,
    /// Samples that were thrown away: translations had changed.
    pub(crate) torn: u64,
    /// vCPUs whose registers, or whose task, could not be told.
    pub(crate) unknown: u64,
    /// Samples beyond the bounds on what is told apart.
    pub(crate) lost: u64,
    /// Pages that were read while the guest stood.
    pub(crate) pages: u64,
}

/// One vCPU at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Met {
    pub(crate) cpu: u32,
    /// Nothing where the CPU is idle.
    pub(crate) thread: Option<u32>,
    pub(crate) kernel: bool,
}

/// What is known of a thread.
struct Known {
    started: u64,
    name: String,
    number: u32,
    /// Pages of its program's stack that its walks need.
    pages: u64,
}

/// What is known of a process' mappings.
struct Mapped {
    mark: Option<Mark>,
    since: Instant,
}

/// Takes samples.
pub(crate) struct Sampler<'a> {
    guest: &'a dyn LiveGuest,
    moment: &'a Moment<'a>,
    linux: Option<&'a Linux<'a>>,
    stacks: Option<Stacks<'a, 'a>>,
    wanted: Wanted,
    cache: Cache,
    threads: HashMap<VirtAddr, Known>,
    mapped: HashMap<VirtAddr, Mapped>,
    /// The numbers of places, by process (none for the kernel) and address.
    names: HashMap<(Option<VirtAddr>, CodeAddress), u32>,
    pub(crate) profile: Profile,
    pub(crate) counts: Counts,
    pub(crate) pauses: Pauses,
    began: Instant,
}

impl<'a> Sampler<'a> {
    /// Of a guest whose kernel is `linux`, opened over `moment`; without one, of the bare machine.
    pub(crate) fn new(
        guest: &'a dyn LiveGuest,
        moment: &'a Moment<'a>,
        linux: Option<&'a Linux<'a>>,
        wanted: Wanted,
    ) -> Self {
        Self {
            guest,
            moment,
            linux,
            stacks: linux.map(|linux| linux.stacks(&[])),
            wanted,
            cache: Cache::new(),
            threads: HashMap::new(),
            mapped: HashMap::new(),
            names: HashMap::new(),
            profile: Profile::default(),
            counts: Counts::default(),
            pauses: Pauses::default(),
            began: Instant::now(),
        }
    }

    /// Takes one sample of every vCPU, and says who was met on them.
    ///
    /// # Errors
    /// The guest could not be stopped or let go, or is gone; then nothing was counted.
    pub(crate) fn take(&mut self) -> Result<Vec<Met>, LiveError> {
        let stopped = Instant::now();
        self.guest.stop()?;
        self.moment.begin();
        let held = self.hold();
        self.moment.end();
        self.guest.resume()?;
        self.pauses.add(stopped.elapsed());
        self.counts.pages += self.moment.pages() as u64;
        self.counts.rounds += 1;
        let at = u64::try_from((stopped - self.began).as_nanos()).unwrap_or(u64::MAX);
        let mut met = Vec::with_capacity(held.len());
        for (index, one) in held.into_iter().enumerate() {
            self.counts.vcpus += 1;
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            let one = match one {
                Some(Raw::Thread(held, registers)) => self.thread_sample(at, held, &registers),
                Some(Raw::Bare(trace, kernel)) => self.bare_sample(at, index, &trace, kernel),
                None => None,
            };
            match one {
                Some(one) => met.push(one),
                None => self.counts.unknown += 1,
            }
        }
        self.bound();
        Ok(met)
    }

    /// What has to be read while the guest stands.
    fn hold(&self) -> Vec<Option<Raw<'a>>> {
        let vcpus: &dyn vmc::Vcpus = self.moment;
        let one = |index: usize| {
            let registers = vcpus.registers(index).ok()?;
            match &self.stacks {
                Some(stacks) => {
                    let pages = |task: &Task<'a, 'a>| self.pages_wanted(task);
                    let held = stacks.hold(index, &registers, pages)?;
                    Some(Raw::Thread(held, Box::new(registers)))
                }
                None => {
                    let walked = if self.wanted.stacks {
                        bare::walk(self.moment, &registers)
                    } else {
                        vec![bare::innermost(&registers)]
                    };
                    Some(Raw::Bare(walked, !registers.in_user_mode()))
                }
            }
        };
        (0..vcpus.count()).map(one).collect()
    }

    /// How much of a thread's stack is held; nothing where it is not walked over.
    fn pages_wanted(&self, task: &Task<'a, 'a>) -> Option<u64> {
        if !self.wanted.stacks
            || (!self.wanted.idle && task.tid() == Ok(0))
            || self.wanted.pid.is_some_and(|pid| task.pid() != Ok(pid))
        {
            return None;
        }
        if !self.wanted.user {
            return Some(1);
        }
        Some(self.threads.get(&task.address()).map_or(FIRST_PAGES, |known| known.pages))
    }

    /// The sample of a thread; nothing where it cannot be told which one it is.
    fn thread_sample(&mut self, at: u64, held: Held<'a, 'a>, registers: &Registers) -> Option<Met> {
        let tid = held.task.tid().ok()?;
        let kernel = held.in_kernel();
        if tid == 0 {
            self.counts.idle += 1;
            if !self.wanted.idle {
                return Some(Met { cpu: held.cpu, thread: None, kernel });
            }
        }
        let thread = self.thread(&held.task, tid)?;
        let met = Met { cpu: held.cpu, thread: (tid != 0).then_some(thread), kernel };
        let pid = self.profile.threads.get(thread).map(|thread| thread.pid);
        if self.wanted.pid.is_some() && self.wanted.pid != pid
            || self.wanted.cpu.is_some_and(|cpu| cpu != held.cpu)
        {
            self.counts.others += 1;
            return Some(met);
        }
        if !self.wanted.stacks {
            self.profile.count(at, Key { thread, cpu: held.cpu, stack: 0 });
            return Some(met);
        }
        if self.stacks.as_ref().is_some_and(|stacks| held.moved(stacks)) {
            self.counts.torn += 1;
            return Some(met);
        }
        let trace = self.trace(&held, registers)?;
        if let Some(known) = self.threads.get_mut(&held.task.address()) {
            // Deeper at once, shallower by and by.
            let needed = trace.user_pages + 1;
            known.pages = match trace.cut {
                true => known.pages.max(needed).saturating_mul(2),
                false if needed < known.pages => known.pages - 1,
                false => needed,
            };
            known.pages = known.pages.clamp(2, MOST_PAGES);
        }
        self.counts.cut += u64::from(trace.cut);
        match self.stack(held.mm(), &trace) {
            Some(stack) => self.profile.count(at, Key { thread, cpu: held.cpu, stack }),
            None if trace.points.iter().all(|point| !self.is_wanted(point.space)) => self.counts.others += 1,
            None => self.counts.lost += 1,
        }
        Some(met)
    }

    /// The stack of a thread, with its process gathered as it is now.
    fn trace(&mut self, held: &Held<'a, 'a>, registers: &Registers) -> Option<Trace> {
        if let Some(mm) = held.mm().filter(|_| self.wanted.user) {
            let mark = held.task.mark();
            let known = self.mapped.get(&mm);
            let fresh = known.is_some_and(|known| known.mark == mark && known.since.elapsed() < FRESH);
            if !fresh {
                self.gather(&held.task, mm, mark);
            }
        }
        let mut trace = self.stacks.as_ref()?.trace(held, registers, &mut self.cache);
        if let Some(mm) = held.mm().filter(|_| self.wanted.user) {
            let stacks = self.stacks.as_ref()?;
            let strange = trace
                .points
                .iter()
                .filter(|point| point.space == Space::User)
                .any(|point| !stacks.knows(mm, point.address.address_for_lookup()));
            let since = self.mapped.get(&mm).map(|known| known.since.elapsed());
            if strange && since.is_none_or(|since| since > FRESH_IN_DOUBT) {
                self.gather(&held.task, mm, held.task.mark());
                trace = self.stacks.as_ref()?.trace(held, registers, &mut self.cache);
            }
        }
        Some(trace)
    }

    fn gather(&mut self, task: &Task<'a, 'a>, mm: VirtAddr, mark: Option<Mark>) {
        if let Some(stacks) = &mut self.stacks {
            stacks.gather(task);
        }
        let changed = self.mapped.get(&mm).is_none_or(|known| known.mark != mark);
        if changed {
            self.names.retain(|(process, _), _| *process != Some(mm));
        }
        self.mapped.insert(mm, Mapped { mark, since: Instant::now() });
    }

    const fn is_wanted(&self, space: Space) -> bool {
        match space {
            Space::Kernel => self.wanted.kernel,
            Space::User => self.wanted.user,
        }
    }

    /// The number of a stack; nothing where none of its frames is wanted, or there are too many.
    fn stack(&mut self, mm: Option<VirtAddr>, trace: &Trace) -> Option<u32> {
        let mut places = Vec::with_capacity(trace.points.len());
        for point in &trace.points {
            if !self.is_wanted(point.space) {
                continue;
            }
            let process = mm.filter(|_| point.space == Space::User);
            let place = match self.names.get(&(process, point.address)) {
                Some(known) => *known,
                None => {
                    let frame = self.stacks.as_ref()?.name(mm, point);
                    let place = self.profile.place(point.address, &frame, self.wanted.demangled_bytes)?;
                    self.names.insert((process, point.address), place);
                    place
                }
            };
            places.push(place);
        }
        if places.is_empty() {
            return None;
        }
        self.profile.stacks.number(places)
    }

    /// The number of a thread.
    fn thread(&mut self, task: &Task<'a, 'a>, tid: u32) -> Option<u32> {
        let started = task.started().ok()?;
        let name = task.name().ok()?;
        if let Some(known) = self.threads.get(&task.address())
            && (known.started, &known.name) == (started, &name)
            && self.profile.threads.get(known.number).is_some_and(|thread| thread.tid == tid)
        {
            return Some(known.number);
        }
        let pid = task.pid().ok()?;
        let process = if pid == tid { name.clone() } else { Self::leader(task, &name) };
        let number =
            self.profile.threads.number(Thread { pid, tid, name: name.clone(), process, started })?;
        let pages = self.threads.get(&task.address()).map_or(FIRST_PAGES, |known| known.pages);
        self.threads.insert(task.address(), Known { started, name, number, pages });
        Some(number)
    }

    /// The name of a thread's process; its own where that is not to be had.
    fn leader(task: &Task<'a, 'a>, own: &str) -> String {
        task.leader().and_then(|leader| leader.name()).unwrap_or_else(|_| own.to_owned())
    }

    /// The sample of a vCPU of a machine without a known system.
    fn bare_sample(&mut self, at: u64, index: u32, trace: &[CodeAddress], kernel: bool) -> Option<Met> {
        let name = format!("vCPU {index}");
        let thread = Thread { pid: index, tid: index, name: name.clone(), process: name, started: 0 };
        let thread = self.profile.threads.number(thread)?;
        let met = Met { cpu: index, thread: Some(thread), kernel };
        if self.wanted.cpu.is_some_and(|cpu| cpu != index) || self.wanted.pid.is_some() {
            self.counts.others += 1;
            return Some(met);
        }
        let mut places = Vec::with_capacity(trace.len());
        for address in trace {
            places.push(self.profile.places.number(Place {
                address: address.address_for_lookup().get(),
                kernel: false,
                function: None,
                raw: None,
                start: None,
                module: None,
            })?);
        }
        let stack = self.profile.stacks.number(places)?;
        self.profile.count(at, Key { thread, cpu: index, stack });
        Some(met)
    }

    /// Keeps what is remembered within bounds, however many processes come and go.
    fn bound(&mut self) {
        if let (Some(linux), Some(stacks)) = (self.linux, &self.stacks) {
            let (images, processes) = stacks.kept();
            if images > MOST_IMAGES || processes > MOST_PROCESSES {
                self.stacks = Some(linux.stacks(&[]));
                self.mapped.clear();
                self.names.clear();
            }
        }
        if self.threads.len() > MOST_KNOWN {
            self.threads.clear();
        }
        if self.names.len() > MOST_KNOWN {
            self.names.clear();
        }
    }
}

/// What was read of a vCPU while the guest stood.
enum Raw<'a> {
    Thread(Held<'a, 'a>, Box<Registers>),
    Bare(Vec<CodeAddress>, bool),
}
