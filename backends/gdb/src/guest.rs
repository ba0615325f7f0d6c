//! [`Gdb`]: a guest behind a stub, attached to and let go.

use std::os::fd::BorrowedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use vmc::{LiveError, LiveFacts, PhysAddr, PhysError, PhysMemory, Region, Registers, VcpuError, Vcpus};
use vmc_qmp::hmp::{Monitor, MonitorError};

use crate::error::{ConnectError, LinkError};
use crate::guard::Guard;
use crate::handshake::{self, Addresses, Layout};
use crate::link::Link;
use crate::local;
use crate::memory::Pages;
use crate::monitor::Console;
use crate::options::{ConnectOptions, Leave, Step};
use crate::registers::Plan;
use crate::state::{Local, RUNS, State};
use vmc_process::socket::Socket;
use vmc_process::{Address, peer};

/// Attaching takes no longer than so many times the patience: a stub could answer each question in the last moment.
const HANDSHAKE: u32 = 10;

/// A guest behind a GDB stub.
///
/// A guest whose memory is read from the process of its virtual machine monitor runs but between
/// [`stop`](vmc::LiveGuest::stop) and [`resume`](vmc::LiveGuest::resume). One that only the stub can read stands from attaching on,
/// but between `resume` and `stop`. Registers of a guest that runs are read in a brief stop, those of all vCPUs at once, and kept
/// until they are [forgotten](vmc::LiveGuest::forget). Dropping it lets the guest go as it was found: [`detach`](Self::detach) does the same and
/// says whether it worked.
#[derive(Debug)]
pub struct Gdb {
    state: Mutex<State>,
    threads: Vec<String>,
    layout: Layout,
    plan: Plan,
    vmm: Option<String>,
    peer: String,
    warnings: Vec<String>,
}

impl Gdb {
    /// Attaches to the stub at `address`: `HOST:PORT`, `[V6]:PORT`, or a path with a `/` in it. That stops the guest; where
    /// its memory is to be had without the stub, it runs again when this returns.
    ///
    /// # Errors
    /// [`ConnectError`]; the guest is then as it was found.
    pub fn connect(address: &str, options: &ConnectOptions) -> Result<Self, ConnectError> {
        let step = |step| {
            if let Some(at_step) = options.at_step {
                at_step(step);
            }
        };
        let address =
            Address::parse(address).map_err(|_| ConnectError::Address { text: address.to_owned() })?;
        let name = address.to_string();
        // To be queued behind another client is to stop the guest whenever that one goes.
        if peer::is_busy(&address) {
            return Err(ConnectError::Busy { peer: name });
        }
        let mut guard = Guard::none();
        let mut before = |socket: BorrowedFd<'_>| {
            if options.leave != Leave::Stopped {
                guard = Guard::spawn(socket, options.patience);
            }
            step(Step::Socket);
        };
        let socket = Socket::connect(&address, options.patience, &mut before)
            .map_err(|source| ConnectError::Connect { peer: name.clone(), source })?;
        step(Step::Connected);
        let mut link = Link::new(socket, name.clone(), options.patience);
        link.limit(Some(options.patience.saturating_mul(HANDSHAKE)));
        let let_run = |stopped| match options.leave {
            Leave::AsFound => stopped,
            Leave::Running => true,
            Leave::Stopped => false,
        };
        let features = handshake::features(&mut link, &mut |stopped| guard.run(let_run(stopped)));
        let features = features.inspect_err(|error| match error {
            // What speaks no GDB has stopped no guest.
            ConnectError::Link(LinkError::NotGdb { .. } | LinkError::Closed { .. }) => guard.done(),
            // The stub may serve us yet, and stop the guest then; nobody waits for that.
            _ => guard.leave(),
        })?;
        let stops = link.stops();
        step(Step::Found);
        // From here on, whatever goes wrong, the guest is let go by the state's end.
        let mut state = State {
            link,
            pages: Pages::new(features.packet, features.binary),
            registers: Vec::new(),
            addresses: Addresses::AsTheyAre,
            physical: false,
            running: false,
            let_run: let_run(stops > 0),
            continues: features.continues,
            stops,
            released: false,
            at_step: options.at_step,
            guard,
            local: Local::Untried,
        };
        let mut warnings = Vec::new();
        if !state.guard.is_there() && options.leave != Leave::Stopped {
            warnings.push("no guardian could be started: killed now, vmc leaves the guest stopped".into());
        }
        let link = &mut state.link;
        let addresses = handshake::addresses(link, options, &mut state.guard);
        let is_qemu = matches!(addresses, Ok(Addresses::Switched { .. }));
        if !is_qemu && stops == 0 && options.leave == Leave::AsFound {
            // It is not known what it was doing. A debugger that leaves lets go.
            state.let_run = true;
            state.guard.run(true);
            warnings
                .push("the stub does not say whether the guest ran before; it is let go in the end".into());
        }
        state.addresses = addresses?;
        state.physical = is_qemu;
        step(Step::Physical);
        let threads = handshake::threads(link)?;
        let plan = handshake::registers(link, &features)?;
        let missing = plan.missing();
        if !missing.is_empty() {
            warnings.push(format!("the stub does not tell these registers: {}", missing.join(" ")));
        }
        let vmm = handshake::version(link)?;
        let layout = handshake::layout(link, &features, options, vmm.is_some() || is_qemu)?;
        state.registers = vec![None; threads.len()];
        if !options.process || layout.host.is_none() {
            state.local = Local::Off;
        }
        step(Step::Attached);
        state.link.limit(None);
        let mut gdb = Self { state: Mutex::new(state), threads, layout, plan, vmm, peer: name, warnings };
        if stops > 0 && options.leave != Leave::Stopped {
            gdb.run_on()?;
        }
        Ok(gdb)
    }

    /// Lets a guest that ran go on, if it can be read while it runs.
    fn run_on(&mut self) -> Result<(), LinkError> {
        let mut state = self.lock();
        // Those of this moment, so that nobody needs another stop for them.
        state.read_all(&self.threads, &self.plan);
        self.try_local(&mut state);
        if !matches!(state.local, Local::On(..)) {
            drop(state);
            self.warnings
                .push("the guest's memory is read by its stub alone: it stands as long as it is read".into());
            return Ok(());
        }
        state.resume()?;
        state.step(Step::Running);
        Ok(())
    }

    /// Lets the guest go as it was found, or as the options say, and ends the connection.
    ///
    /// # Errors
    /// [`LiveError::Resume`] where the guest may still be stopped.
    pub fn detach(self) -> Result<(), LiveError> {
        self.lock().release().map_err(|error| LiveError::Resume { reason: error.to_string() })
    }

    /// The stub's name of a vCPU: `01`, `p01.01`.
    #[must_use]
    pub fn thread(&self, index: usize) -> Option<&str> {
        self.threads.get(index).map(String::as_str)
    }

    /// Finds out whether the memory can be read from the process, while the guest is stopped.
    fn try_local(&self, state: &mut State) {
        if !matches!(state.local, Local::Untried) || state.running || state.released {
            return;
        }
        state.local = Local::Off;
        let socket = state.link.socket();
        // A Unix socket has one process behind it; whoever else holds it is not asked.
        let pid = if socket.is_unix() { peer::listener(socket) } else { peer::holders(socket).next() };
        let Some((pid, ram)) = pid.zip(self.layout.host.as_ref()) else { return };
        let registers = state.registers(0, &self.threads, &self.plan).ok();
        let State { link, pages, .. } = state;
        if let Ok(memory) = local::open(pid, ram, link, pages, &self.layout.regions, registers.as_ref()) {
            memory.forget();
            state.local = Local::On(pid, memory);
            // All that was compared is the same; it is kept in one place.
            state.pages.forget();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PhysMemory for Gdb {
    fn regions(&self) -> &[Region] {
        &self.layout.regions
    }

    fn read(&self, addr: PhysAddr, buf: &mut [u8]) -> Result<(), PhysError> {
        let mut state = self.lock();
        self.try_local(&mut state);
        if let Local::On(_, memory) = &state.local {
            return memory.read(addr, buf);
        }
        let State { link, pages, running, released, .. } = &mut *state;
        let link = if *running || *released { Err(RUNS) } else { Ok(link) };
        pages.read(link, &self.layout.regions, addr, buf)
    }
}

impl Vcpus for Gdb {
    fn count(&self) -> usize {
        self.threads.len()
    }

    fn registers(&self, index: usize) -> Result<Registers, VcpuError> {
        if index >= self.threads.len() {
            return Err(VcpuError::NoSuchVcpu { index, count: self.threads.len() });
        }
        let read = self.lock().registers(index, &self.threads, &self.plan);
        read.map_err(|reason| VcpuError::Failed { index, reason })
    }
}

impl vmc::LiveGuest for Gdb {
    fn stop(&self) -> Result<(), LiveError> {
        self.lock().stop().map_err(|error| LiveError::Stop { reason: error.to_string() })
    }

    fn resume(&self) -> Result<(), LiveError> {
        let mut state = self.lock();
        self.try_local(&mut state);
        state.resume().map_err(|error| LiveError::Resume { reason: error.to_string() })
    }

    fn running(&self) -> bool {
        self.lock().running
    }

    fn forget(&self) {
        let mut state = self.lock();
        state.forget_memory();
        if state.running {
            state.registers.fill(None);
        }
    }

    fn facts(&self) -> LiveFacts {
        let mut state = self.lock();
        self.try_local(&mut state);
        let (pid, memory) = match &state.local {
            Local::On(pid, memory) => (Some(*pid), memory.how()),
            Local::Untried | Local::Off => (None, "gdb packets"),
        };
        LiveFacts {
            backend: "gdb",
            vmm: self.vmm.clone(),
            pid,
            layout: self.layout.how.clone(),
            memory: memory.into(),
            registers: "gdb".into(),
            ram_bytes: self.layout.ram_bytes,
            warnings: self.warnings.clone(),
        }
    }

    fn as_memory(&self) -> &dyn PhysMemory {
        self
    }

    fn as_vcpus(&self) -> &dyn Vcpus {
        self
    }
}

impl Monitor for Gdb {
    fn hmp(&mut self, line: &str) -> Result<String, MonitorError> {
        let peer = self.peer.clone();
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        let answered = state.standing(|state| match state.held() {
            Ok(link) => Console(link).hmp(line),
            Err(reason) => Err(MonitorError::Live(LiveError::Gone { what: format!("{peer}: {reason}") })),
        });
        answered.map_err(LiveError::from)?
    }
}
