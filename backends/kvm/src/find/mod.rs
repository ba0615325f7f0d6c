//! What /proc tells of a process that uses KVM: the descriptors of its machine and vCPUs, the pages that these share with it, and the
//! threads that may run them.

mod permission;
mod proc_files;
mod tasks;

use std::collections::BTreeMap;

use crate::arch::{Arch, Host, is_one_of, vcpu_run};
use crate::error::AttachError;
use crate::tracer::memory;
pub(crate) use permission::{name, why_not};
pub(crate) use proc_files::stopped_by_signal;
use proc_files::{Mapping, mappings, read_fds, threads};
pub(crate) use tasks::{Tasks, vcpu_runner};

/// The most bytes in which an instruction is looked for.
const MOST_CODE: u64 = 16 << 20;

/// A vCPU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FoundVcpu {
    /// KVM's number of it.
    pub(crate) number: u32,
    pub(crate) fds: Vec<i32>,
    /// Where its `kvm_run` lies.
    pub(crate) page: Option<u64>,
    /// The thread that runs it, where that is certain.
    pub(crate) tid: Option<i32>,
}

/// A process with a virtual machine.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) name: String,
    /// When it was started, in ticks of the clock since the host was.
    pub(crate) started: u64,
    pub(crate) vm: Option<i32>,
    pub(crate) vcpus: Vec<FoundVcpu>,
    /// The threads that have to be held.
    pub(crate) threads: Vec<i32>,
    /// All that there were.
    pub(crate) tasks: Tasks,
    /// Where an instruction lies that makes a system call.
    pub(crate) instruction: Option<u64>,
}

/// Looks at process `pid`.
pub(crate) fn find(pid: u32, no_inject: bool) -> Result<Found, AttachError> {
    let name = name(pid).ok_or(AttachError::NoProcess { pid })?;
    let started = proc_files::started(pid).ok_or(AttachError::NoProcess { pid })?;
    let fds = read_fds(pid, &name)?;
    if proc_files::is_narrow(pid) {
        return Err(AttachError::Narrow { pid, name });
    }
    let mut vcpus: BTreeMap<u32, FoundVcpu> = BTreeMap::new();
    let (mut vm, mut secret) = (None, None);
    for (fd, target) in fds {
        if target == "anon_inode:kvm-vm" {
            vm.get_or_insert(fd);
        } else if let Some(number) = vcpu_number(&target, vcpus.len()) {
            vcpus.entry(number).or_default().fds.push(fd);
        } else if keeps_secret(&target) {
            secret = Some(target);
        }
    }
    if vm.is_none() && vcpus.is_empty() {
        let hint = if name.contains("qemu") {
            "a QEMU that emulates (TCG) is looked into by its monitor or its gdb stub, as qmp:ADDRESS or gdb:ADDRESS"
        } else {
            "give the process that has /dev/kvm open; ls -l /proc/PID/fd shows kvm-vm there"
        };
        return Err(AttachError::NoMachine { pid, name, hint });
    }
    if vcpus.is_empty() {
        return Err(AttachError::NoVcpus { pid, name });
    }
    if let Some(what) = secret.filter(|_| no_inject) {
        return Err(AttachError::Secret { pid, name, what });
    }
    let mappings = mappings(pid)?;
    for (number, vcpu) in &mut vcpus {
        vcpu.number = *number;
        let mut pages = mappings.iter().filter(|mapping| vcpu_number(&mapping.name, 0) == Some(*number));
        vcpu.page = pages.next().map(|mapping| mapping.start);
        let count = 1 + pages.count();
        if count > 1 {
            return Err(AttachError::SeveralMachines { pid, name, vcpu: *number, count });
        }
    }
    let mut vcpus: Vec<FoundVcpu> = vcpus.into_values().collect();
    let tasks = Tasks::now(pid);
    let threads = who_runs(pid, vm, &mut vcpus);
    let instruction = instruction(pid, &mappings);
    Ok(Found { name, started, vm, vcpus, threads, tasks, instruction })
}

/// Is that what a VMM has open whose guest's state is secret? `[kvm-gmem]` is the name of the files of `virt/kvm/guest_memfd.c`, which
/// are of the kernel's anonymous inodes or of a file system of their own.
fn keeps_secret(target: &str) -> bool {
    matches!(target, "/dev/sev" | "anon_inode:[kvm-gmem]")
        || target.strip_prefix("/[kvm-gmem]").is_some_and(|rest| matches!(rest, "" | " (deleted)"))
}

/// The number in `anon_inode:kvm-vcpu:N`; older kernels have no number there, then it is `next`.
fn vcpu_number(target: &str, next: usize) -> Option<u32> {
    let rest = target.strip_prefix("anon_inode:kvm-vcpu")?;
    match rest.strip_prefix(':') {
        Some(number) => number.parse().ok(),
        None if rest.is_empty() => u32::try_from(next).ok(),
        None => None,
    }
}

/// The threads that have to be held: those that run vCPUs, where that is known of all, else every thread that may.
fn who_runs(pid: u32, vm: Option<i32>, vcpus: &mut [FoundVcpu]) -> Vec<i32> {
    let all = threads(pid);
    for vcpu in vcpus.iter_mut() {
        let told = vm.and_then(|vm| proc_files::by_debugfs(pid, vm, vcpu.number));
        vcpu.tid = told.filter(|tid| all.contains(tid));
    }
    let certain = |vcpus: &[FoundVcpu]| vcpus.iter().all(|vcpu| vcpu.tid.is_some());
    for tid in &all {
        if certain(vcpus) {
            break;
        }
        if let Some(fd) = proc_files::system_call(pid, *tid).and_then(vcpu_run)
            && let Some(vcpu) = vcpus.iter_mut().find(|vcpu| is_one_of(fd, &vcpu.fds))
            && proc_files::runs_its_code(pid, *tid)
        {
            vcpu.tid = Some(*tid);
        }
    }
    if certain(vcpus) {
        let mut tids: Vec<i32> = vcpus.iter().filter_map(|vcpu| vcpu.tid).collect();
        tids.sort_unstable();
        tids.dedup();
        return tids;
    }
    all.into_iter().filter(|tid| proc_files::runs_its_code(pid, *tid)).collect()
}

/// An instruction that makes a system call: in the vDSO, which every program has, or in any other code.
fn instruction(pid: u32, mappings: &[Mapping]) -> Option<u64> {
    let pid = i32::try_from(pid).ok()?;
    let vdso = |mapping: &&Mapping| mapping.name == "[vdso]";
    let others = mappings
        .iter()
        .filter(|mapping| mapping.executable && !vdso(mapping) && mapping.name != "[vsyscall]");
    let mut left = MOST_CODE;
    for mapping in mappings.iter().filter(vdso).chain(others) {
        let mut at = mapping.start;
        while at < mapping.end && left > 0 {
            let len = (mapping.end - at).min(64 << 10);
            let mut code = vec![0; usize::try_from(len).ok()?];
            if memory::read(pid, at, &mut code).is_err() {
                break;
            }
            let found = code.windows(Host::SYSTEM_CALL.len()).position(|bytes| bytes == Host::SYSTEM_CALL);
            if let Some(offset) = found {
                return Some(at + offset as u64);
            }
            at += len;
            left = left.saturating_sub(len);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vcpus_are_told_by_their_links() {
        assert_eq!(vcpu_number("anon_inode:kvm-vcpu:12", 3), Some(12));
        assert_eq!(vcpu_number("anon_inode:kvm-vcpu", 3), Some(3));
        for other in
            ["anon_inode:kvm-vm", "anon_inode:kvm-vcpu-stats:1", "anon_inode:kvm-vcpu:x", "/tmp/kvm-vcpu:1"]
        {
            assert_eq!(vcpu_number(other, 0), None, "{other}");
        }
    }

    #[test]
    fn a_name_alone_makes_no_secret() {
        for secret in ["/dev/sev", "anon_inode:[kvm-gmem]", "/[kvm-gmem]", "/[kvm-gmem] (deleted)"] {
            assert!(keeps_secret(secret), "{secret}");
        }
        for other in
            ["/images/bigmem.img", "/images/guest_memfd.raw", "/images/[kvm-gmem]", "/memfd:gmem (deleted)"]
        {
            assert!(!keeps_secret(other), "{other}");
        }
    }

    #[test]
    fn this_process_has_no_machine_but_an_instruction() {
        let pid = std::process::id();
        let error = find(pid, false).unwrap_err();
        assert!(matches!(error, AttachError::NoMachine { .. }), "{error}");
        let at = instruction(pid, &mappings(pid).unwrap()).unwrap();
        let mut bytes = [0; 4];
        let bytes = &mut bytes[..Host::SYSTEM_CALL.len()];
        memory::read(i32::try_from(pid).unwrap(), at, bytes).unwrap();
        assert_eq!(bytes, Host::SYSTEM_CALL);
        assert!(matches!(find(u32::MAX / 2, false), Err(AttachError::NoProcess { .. })));
    }
}
