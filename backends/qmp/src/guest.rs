//! [`Qmp`]: a live guest of QEMU's.

use std::fs::File;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use vmc::{
    LiveError, LiveFacts, LiveGuest, PhysAddr, PhysError, PhysMemory, Region, Registers, VcpuError, Vcpus,
};
use vmc_process::Layout;

use crate::connection::Connection;
use crate::dump;
use crate::error::{CommandError, ConnectError, DumpError};
use crate::hmp::{excerpt, layout_by_monitor};
use crate::link::Link;
use crate::memory::{self, Memory};
use vmc_process::Address;

/// Attaching takes no longer than so many times the time for an answer: a peer could answer each command in the last moment.
const HANDSHAKE: u32 = 10;

/// How to attach.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// How long the greeting and each answer are waited for.
    pub timeout: Duration,
    /// How long stopping and resuming may take: QEMU finishes first what its disks are at.
    pub stop_timeout: Duration,
    /// Is memory to be read in QEMU's process, where that is on this host and may be read?
    pub process: bool,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(5), stop_timeout: Duration::from_secs(30), process: true }
    }
}

/// A guest of QEMU's, by its machine protocol.
///
/// Nothing is changed by attaching: the guest runs on, or stays paused. Dropping it resumes what [`stop`](LiveGuest::stop) held;
/// a process of its own does so where ours is killed.
#[derive(Debug)]
pub struct Qmp {
    link: Mutex<Link>,
    memory: Memory,
    layout: Layout,
    regions: Vec<Region>,
    vcpus: usize,
    pid: Option<u32>,
    version: String,
    warnings: Vec<String>,
}

impl Qmp {
    /// Attaches to the QEMU that listens at `address`: `HOST:PORT`, `[V6]:PORT`, or the path of a socket.
    ///
    /// # Errors
    /// [`ConnectError`]: one line that says what was looked for, what was found and what to do.
    pub fn connect(address: &str, options: &ConnectOptions) -> Result<Self, ConnectError> {
        let address =
            Address::parse(address).map_err(|_| ConnectError::Address { text: address.to_owned() })?;
        let mut connection = Connection::open(&address, options.timeout)?;
        connection.limit(Some(options.timeout.saturating_mul(HANDSHAKE)));
        let peer = || address.to_string();
        let (status, cpus) = connection.begin().map_err(|error| match error {
            CommandError::Refused { description, .. } => {
                ConnectError::NoMachine { peer: peer(), what: description }
            }
            other => other.into(),
        })?;
        if status.status == "inmigrate" {
            return Err(ConnectError::Incoming { peer: peer() });
        }
        if let Some(found) = cpus.iter().filter_map(|cpu| cpu.target.as_deref()).find(|target| !known(target))
        {
            return Err(ConnectError::Architecture { peer: peer(), found: excerpt(found) });
        }
        let mut warnings: Vec<String> = warning(&status.status).into_iter().collect();
        let layout = layout_by_monitor(&mut connection)
            .map_err(|source| ConnectError::Layout { peer: peer(), source })?;
        connection.limit(None);
        let opened = memory::open(&connection, &layout, options.process);
        warnings.extend(opened.warning);
        Ok(Self {
            regions: layout.regions(),
            version: connection.version.clone(),
            link: Mutex::new(Link::new(connection, first_page(&layout), options.stop_timeout)),
            memory: opened.memory,
            layout,
            vcpus: cpus.len(),
            pid: opened.pid,
            warnings,
        })
    }

    /// What QEMU says of the machine: `running`, `paused`, `internal-error`, …
    ///
    /// # Errors
    /// [`CommandError`] where it does not say.
    pub fn status(&self) -> Result<String, CommandError> {
        Ok(self.link().connection.status()?.status)
    }

    /// The physical layout.
    #[must_use]
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Has QEMU write an ELF core of the guest, with its vCPUs' registers, into `file`. A guest that runs is stopped while that
    /// lasts, by QEMU itself. `progress` is told the bytes that were written and how many there are.
    ///
    /// # Errors
    /// [`DumpError`] where QEMU refuses, gives up, or is not connected to by a Unix socket.
    pub fn dump_guest_memory(
        &self,
        file: &File,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), DumpError> {
        dump::dump_guest_memory(&mut self.link().connection, file, progress)
    }

    fn link(&self) -> MutexGuard<'_, Link> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What there is to say of a machine that neither runs nor was paused by somebody.
fn warning(status: &str) -> Option<String> {
    let what = match status {
        "running" | "paused" | "suspended" | "debug" => return None,
        "internal-error" => "QEMU could not go on emulating it, and it stands where it stood then",
        "postmigrate" | "finish-migrate" => {
            "it has moved to another host, and what is left here is how it was then"
        }
        "guest-panicked" => "its kernel has panicked",
        "io-error" => "it stands since a disk failed",
        "prelaunch" | "preconfig" => "it has not been started yet",
        "shutdown" => "it has shut down",
        "save-vm" | "restore-vm" => "its state is being saved or restored",
        _ => "it does not run",
    };
    Some(format!("the machine is in state {status}: {what}"))
}

/// Is an architecture, as QEMU names it, known here?
fn known(target: &str) -> bool {
    matches!(target, "x86_64" | "aarch64")
}

/// A page that the guest has.
fn first_page(layout: &Layout) -> u64 {
    layout.pieces.first().map_or(0, |piece| piece.guest.get())
}

impl PhysMemory for Qmp {
    fn regions(&self) -> &[Region] {
        &self.regions
    }

    fn read(&self, addr: PhysAddr, buf: &mut [u8]) -> Result<(), PhysError> {
        self.memory.read(&self.link, addr, buf)
    }
}

impl Vcpus for Qmp {
    fn count(&self) -> usize {
        self.vcpus
    }

    fn registers(&self, index: usize) -> Result<Registers, VcpuError> {
        self.link().registers(index, self.vcpus)
    }
}

impl LiveGuest for Qmp {
    fn stop(&self) -> Result<(), LiveError> {
        // The connection is let go before memory is locked: reads take both in the other order.
        let stopped = self.link().stop()?;
        if stopped {
            self.memory.forget();
        }
        Ok(())
    }

    fn resume(&self) -> Result<(), LiveError> {
        self.link().resume()
    }

    fn running(&self) -> bool {
        self.link().running()
    }

    fn forget(&self) {
        self.memory.forget();
        self.link().forget();
    }

    fn facts(&self) -> LiveFacts {
        let link = self.link();
        let mut warnings = self.warnings.clone();
        warnings.extend(link.problem.clone());
        LiveFacts {
            backend: "qmp",
            vmm: Some(self.version.clone()),
            pid: self.pid,
            layout: self.layout.how.clone(),
            memory: self.memory.how().to_owned(),
            registers: link.how().to_owned(),
            ram_bytes: self.layout.ram_bytes,
            warnings,
        }
    }

    fn as_memory(&self) -> &dyn PhysMemory {
        self
    }

    fn as_vcpus(&self) -> &dyn Vcpus {
        self
    }
}
