//! The host kernel's memory, read by its own leave: `struct kvm` of a process' virtual machine, and what lies at an address.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::OnceLock;

use vmc::layout::Types as _;
use vmc::{Limits, layout};
use vmc_types::Btf;

use super::bpf::{self, Cell, Program};
use super::program::{self, FileOffsets};
use super::walk::Offsets;
use super::{SlotsError, layout_error};

/// Bytes that are copied out of the kernel at once.
const AT_ONCE: usize = 4096;

/// Values of `enum bpf_prog_type` and `enum bpf_attach_type`, and a flag (`include/uapi/linux/bpf.h`).
const PROG_TYPE_TRACING: u32 = 26;
const PROG_TYPE_SYSCALL: u32 = 31;
const TRACE_ITER: u32 = 28;
const F_SLEEPABLE: u32 = 1 << 4;

/// Where the kernel tells of its own types.
const VMLINUX: &str = "/sys/kernel/btf/vmlinux";
/// And of those of kvm, where that is a module.
const KVM: &str = "/sys/kernel/btf/kvm";

/// The types of the host's kernel.
fn types(limits: &Limits) -> Result<Btf<'static>, SlotsError> {
    parse(VMLINUX, limits, |data| Btf::parse(data, limits))?.ok_or(SlotsError::NoTypes {
        path: VMLINUX,
        reason: "there is no such file (CONFIG_DEBUG_INFO_BTF)".into(),
    })
}

/// Those of kvm on top of them, where it is a module.
fn module_types<'b>(kernel: &'b Btf<'b>, limits: &Limits) -> Result<Option<Btf<'b>>, SlotsError> {
    parse(KVM, limits, |data| kernel.split(data, limits))
}

fn parse<'b>(
    path: &'static str,
    limits: &Limits,
    parse: impl FnOnce(Cow<'b, [u8]>) -> Result<Btf<'b>, &'static str>,
) -> Result<Option<Btf<'b>>, SlotsError> {
    let wrong = |reason: String| SlotsError::NoTypes { path, reason };
    let file = match File::open(Path::new(path)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(wrong(error.to_string())),
    };
    let mut data = Vec::new();
    file.take(limits.btf_bytes as u64).read_to_end(&mut data).map_err(|error| wrong(error.to_string()))?;
    parse(Cow::Owned(data)).map(Some).map_err(|reason| wrong(reason.to_owned()))
}

/// What has to be known of the host's kernel; it is the same for as long as that runs.
#[derive(Debug)]
pub(super) struct Host {
    files: FileOffsets,
    /// The number of the iterator over a process' files.
    place: u32,
    pub(super) slots: Offsets,
}

impl Host {
    /// Asks the kernel once; its types are long.
    pub(super) fn get(limits: &Limits) -> Result<&'static Self, SlotsError> {
        static HOST: OnceLock<Host> = OnceLock::new();
        if let Some(host) = HOST.get() {
            return Ok(host);
        }
        let host = Self::ask(limits)?;
        Ok(HOST.get_or_init(|| host))
    }

    fn ask(limits: &Limits) -> Result<Self, SlotsError> {
        let types = types(limits)?;
        let module = module_types(&types, limits)?;
        let slots = Offsets::find(module.as_ref().unwrap_or(&types))?;
        let offset = |structure, member| -> Result<i16, SlotsError> {
            let offset = types.member(structure, member).map_err(layout_error)?.offset;
            i16::try_from(offset).map_err(|_| too_far(structure, member))
        };
        // Kernels that can be told the process go through its files alone; others through all files there are.
        let chooses = types.member("bpf_iter_link_info", "task.pid").is_ok();
        let tgid = if chooses { None } else { Some(offset("task_struct", "tgid")?) };
        let files = FileOffsets { private_data: offset("file", "private_data")?, tgid };
        let place = types.function("bpf_iter_task_file").ok_or_else(|| SlotsError::Unsupported {
            reason: "it has no iterator over the files of a process (Linux 5.8 and later)".into(),
        })?;
        Ok(Self { files, place, slots })
    }
}

/// The address of what the file behind descriptor `fd` of process `pid` keeps for itself: `struct kvm` for a virtual machine.
pub(super) fn private_data(host: &Host, pid: u32, fd: i32) -> Result<u64, SlotsError> {
    let cell = Cell::<8>::new().map_err(|error| system("an array", error))?;
    let pid_there = i32::try_from(pid).unwrap_or(i32::MAX);
    let program = load(&Program {
        kind: PROG_TYPE_TRACING,
        instructions: &program::find(cell.fd(), fd, pid_there, host.files),
        flags: 0,
        attach: (TRACE_ITER, host.place),
    })?;
    // A program that looks for the process itself goes through all files.
    let chosen = host.files.tgid.is_none().then_some(pid);
    let link = bpf::link_task(&program, TRACE_ITER, chosen).map_err(|error| system("the iterator", error))?;
    let mut iterator = bpf::iterator(&link).map_err(|error| system("the iterator", error))?;
    // It prints nothing; the kernel may ask to be called again after many files.
    let mut nothing = [0; 64];
    loop {
        match iterator.read(&mut nothing) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
            Err(error) => return Err(system("the iterator", error)),
        }
    }
    let found = u64::from_le_bytes(*cell.get().map_err(|error| system("an array", error))?);
    if found == 0 { Err(SlotsError::Lost { pid, fd }) } else { Ok(found) }
}

/// Reads the kernel's memory.
#[derive(Debug)]
pub(super) struct Peek {
    cell: Cell<AT_ONCE>,
    program: OwnedFd,
}

impl Peek {
    pub(super) fn new() -> Result<Self, SlotsError> {
        let cell = Cell::<AT_ONCE>::new().map_err(|error| system("an array", error))?;
        let instructions = program::peek(cell.fd(), AT_ONCE as i32);
        let program = load(&Program {
            kind: PROG_TYPE_SYSCALL,
            instructions: &instructions,
            flags: F_SLEEPABLE,
            attach: (0, 0),
        })?;
        Ok(Self { cell, program })
    }

    /// `len` bytes at `address`, at most 4096, and what is left of 4096 behind them.
    fn bytes(&self, address: u64, len: usize) -> Result<Box<[u8; AT_ONCE]>, SlotsError> {
        let ran = bpf::run(&self.program, [address, len as u64]);
        match ran.map_err(|error| system("a read of its memory", error))? {
            0 => self.cell.get().map_err(|error| system("an array", error)),
            _ => Err(SlotsError::Unreadable { address }),
        }
    }

    /// `N` bytes at `address`.
    pub(super) fn array<const N: usize>(&self, address: u64) -> Result<[u8; N], SlotsError> {
        let bytes = self.bytes(address, N)?;
        bytes.first_chunk::<N>().copied().ok_or(SlotsError::Unreadable { address })
    }

    /// `len` bytes at `address`.
    pub(super) fn vec(&self, address: u64, len: usize) -> Result<Vec<u8>, SlotsError> {
        let mut all = Vec::new();
        while all.len() < len {
            let at = address.wrapping_add(all.len() as u64);
            let here = (len - all.len()).min(AT_ONCE);
            let bytes = self.bytes(at, here)?;
            all.extend_from_slice(bytes.get(..here).unwrap_or_default());
        }
        Ok(all)
    }

    pub(super) fn u64(&self, address: u64) -> Result<u64, SlotsError> {
        Ok(u64::from_le_bytes(self.array(address)?))
    }

    pub(super) fn i32(&self, address: u64) -> Result<i32, SlotsError> {
        Ok(i32::from_le_bytes(self.array(address)?))
    }
}

fn load(program: &Program<'_>) -> Result<OwnedFd, SlotsError> {
    bpf::load(program).map_err(|(error, log)| {
        // The last lines of the log say why; the many before them what was tried.
        let last: Vec<_> = log.lines().rev().take(3).collect();
        match error.raw_os_error() {
            Some(nix::libc::EPERM) if log.is_empty() => SlotsError::NotPermitted,
            _ if log.is_empty() => system("a program", error),
            _ => SlotsError::Unsupported { reason: last.into_iter().rev().collect::<Vec<_>>().join("; ") },
        }
    })
}

fn system(what: &'static str, source: io::Error) -> SlotsError {
    match source.raw_os_error() {
        Some(nix::libc::EPERM | nix::libc::EACCES) => SlotsError::NotPermitted,
        Some(nix::libc::ENOSYS) => {
            SlotsError::Unsupported { reason: "it has no BPF (CONFIG_BPF_SYSCALL)".into() }
        }
        Some(nix::libc::ESRCH) => SlotsError::Unsupported { reason: "the process has ended".into() },
        _ => SlotsError::System { what, source },
    }
}

fn too_far(structure: &str, member: &str) -> SlotsError {
    layout_error(layout::LayoutError::NoMember { structure: structure.into(), member: member.into() })
}
