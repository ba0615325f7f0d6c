//! The system call `bpf`: one of the places of this crate where `unsafe` stands.
//!
//! Source: `include/uapi/linux/bpf.h`, `union bpf_attr`. Each command's part of the union is a structure here, with all that
//! the command reads; what follows it the kernel takes for zero.
#![allow(unsafe_code, reason = "there is no safe wrapper of this system call; see SAFETY below")]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::libc;

const MAP_CREATE: libc::c_int = 0;
const MAP_LOOKUP: libc::c_int = 1;
const PROG_LOAD: libc::c_int = 5;
const PROG_TEST_RUN: libc::c_int = 10;
const LINK_CREATE: libc::c_int = 28;
const ITER_CREATE: libc::c_int = 33;

const MAP_TYPE_ARRAY: u32 = 2;

/// Bytes of what the kernel says of a program that it refuses.
const LOG: usize = 64 << 10;

/// A program to be loaded.
#[derive(Debug)]
pub(super) struct Program<'p> {
    /// `BPF_PROG_TYPE_…`.
    pub(super) kind: u32,
    pub(super) instructions: &'p [u64],
    /// `BPF_F_…`.
    pub(super) flags: u32,
    /// `BPF_TRACE_…` and the number of the function in the kernel's BTF, where it is attached.
    pub(super) attach: (u32, u32),
}

/// An array of the kernel's with one element of `SIZE` bytes.
#[derive(Debug)]
pub(super) struct Cell<const SIZE: usize>(OwnedFd);

impl<const SIZE: usize> Cell<SIZE> {
    pub(super) fn new() -> io::Result<Self> {
        #[repr(C)]
        struct Attr {
            map_type: u32,
            key_size: u32,
            value_size: u32,
            max_entries: u32,
            map_flags: u32,
        }
        let value_size = u32::try_from(SIZE).map_err(io::Error::other)?;
        let mut attr =
            Attr { map_type: MAP_TYPE_ARRAY, key_size: 4, value_size, max_entries: 1, map_flags: 0 };
        // SAFETY: the command takes no pointer, and what it returns is a descriptor that is ours.
        unsafe { Ok(Self(owned(bpf(MAP_CREATE, &mut attr)?))) }
    }

    /// What is in it.
    pub(super) fn get(&self) -> io::Result<Box<[u8; SIZE]>> {
        #[repr(C)]
        struct Attr {
            map_fd: RawFd,
            padding: u32,
            key: u64,
            value: u64,
            flags: u64,
        }
        let key = 0u32;
        let mut value = Box::new([0u8; SIZE]);
        let mut attr = Attr {
            map_fd: self.0.as_raw_fd(),
            padding: 0,
            key: (&raw const key).expose_provenance() as u64,
            value: value.as_mut_ptr().expose_provenance() as u64,
            flags: 0,
        };
        // SAFETY: `key` and `value` live until the call returns and have the sizes that the map was made with.
        unsafe { bpf(MAP_LOOKUP, &mut attr) }?;
        Ok(value)
    }

    pub(super) fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Loads a program; where the kernel refuses it, its reasons come with the error.
pub(super) fn load(program: &Program<'_>) -> Result<OwnedFd, (io::Error, String)> {
    #[repr(C)]
    struct Attr {
        prog_type: u32,
        insn_cnt: u32,
        insns: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log_buf: u64,
        kern_version: u32,
        prog_flags: u32,
        prog_name: [u8; 16],
        prog_ifindex: u32,
        expected_attach_type: u32,
        prog_btf_fd: u32,
        func_info_rec_size: u32,
        func_info: u64,
        func_info_cnt: u32,
        line_info_rec_size: u32,
        line_info: u64,
        line_info_cnt: u32,
        attach_btf_id: u32,
        attach_prog_fd: u32,
        padding: u32,
    }
    // The kernel's helpers that are wanted are for programs with a licence that it calls compatible.
    let license = c"Dual MIT/GPL";
    let mut log = vec![0u8; LOG];
    let mut attr = Attr {
        prog_type: program.kind,
        insn_cnt: program.instructions.len() as u32,
        insns: program.instructions.as_ptr().expose_provenance() as u64,
        license: license.as_ptr().expose_provenance() as u64,
        log_level: 1,
        log_size: LOG as u32,
        log_buf: log.as_mut_ptr().expose_provenance() as u64,
        kern_version: 0,
        prog_flags: program.flags,
        prog_name: *b"vmc\0\0\0\0\0\0\0\0\0\0\0\0\0",
        prog_ifindex: 0,
        expected_attach_type: program.attach.0,
        prog_btf_fd: 0,
        func_info_rec_size: 0,
        func_info: 0,
        func_info_cnt: 0,
        line_info_rec_size: 0,
        line_info: 0,
        line_info_cnt: 0,
        attach_btf_id: program.attach.1,
        attach_prog_fd: 0,
        padding: 0,
    };
    // SAFETY: instructions, licence and log live until the call returns and have the lengths that are given; the licence ends
    // with a NUL. What the command returns is a descriptor that is ours.
    match unsafe { bpf(PROG_LOAD, &mut attr).map(|fd| owned(fd)) } {
        Ok(program) => Ok(program),
        Err(error) => {
            let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
            log.truncate(end);
            Err((error, String::from_utf8_lossy(&log).trim().to_owned()))
        }
    }
}

/// Attaches an iterator over the files of the process `pid`; over those of all processes where there is `None`: kernels that
/// cannot choose (before Linux 6.1) refuse to be told.
pub(super) fn link_task(program: &OwnedFd, attach: u32, pid: Option<u32>) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attr {
        prog_fd: RawFd,
        target_fd: u32,
        attach_type: u32,
        flags: u32,
        iter_info: u64,
        iter_info_len: u32,
        padding: u32,
    }
    // struct { __u32 tid; __u32 pid; __u32 pid_fd; } task, of union bpf_iter_link_info.
    let info = [0u32, pid.unwrap_or(0), 0];
    let (iter_info, iter_info_len) = match pid {
        Some(_) => (info.as_ptr().expose_provenance() as u64, size_of_val(&info) as u32),
        None => (0, 0),
    };
    let mut attr = Attr {
        prog_fd: program.as_raw_fd(),
        target_fd: 0,
        attach_type: attach,
        flags: 0,
        iter_info,
        iter_info_len,
        padding: 0,
    };
    // SAFETY: `info` lives until the call returns and has the length that is given, if any; a descriptor that is ours is returned.
    unsafe { Ok(owned(bpf(LINK_CREATE, &mut attr)?)) }
}

/// The file that runs a linked iterator when it is read.
pub(super) fn iterator(link: &OwnedFd) -> io::Result<std::fs::File> {
    #[repr(C)]
    struct Attr {
        link_fd: RawFd,
        flags: u32,
    }
    let mut attr = Attr { link_fd: link.as_raw_fd(), flags: 0 };
    // SAFETY: the command takes no pointer, and what it returns is a descriptor that is ours.
    unsafe { Ok(owned(bpf(ITER_CREATE, &mut attr)?).into()) }
}

/// Runs a program of the kind `BPF_PROG_TYPE_SYSCALL` on `context`: what it returned.
pub(super) fn run(program: &OwnedFd, context: [u64; 2]) -> io::Result<i32> {
    #[repr(C)]
    struct Attr {
        prog_fd: RawFd,
        retval: u32,
        data_size_in: u32,
        data_size_out: u32,
        data_in: u64,
        data_out: u64,
        repeat: u32,
        duration: u32,
        ctx_size_in: u32,
        ctx_size_out: u32,
        ctx_in: u64,
        ctx_out: u64,
    }
    let mut context = context;
    let mut attr = Attr {
        prog_fd: program.as_raw_fd(),
        retval: 0,
        data_size_in: 0,
        data_size_out: 0,
        data_in: 0,
        data_out: 0,
        repeat: 0,
        duration: 0,
        ctx_size_in: size_of_val(&context) as u32,
        ctx_size_out: 0,
        // The kernel writes the context back to where it came from.
        ctx_in: (&raw mut context).expose_provenance() as u64,
        ctx_out: 0,
    };
    // SAFETY: `context` lives until the call returns, may be written to and has the length that is given; the program was
    // checked by the kernel, and writes nothing but its own map.
    unsafe { bpf(PROG_TEST_RUN, &mut attr) }?;
    Ok(attr.retval.cast_signed())
}

/// The system call.
///
/// # Safety
/// The pointers in `attr` have to be good for what `command` does with them.
unsafe fn bpf<A>(command: libc::c_int, attr: &mut A) -> io::Result<RawFd> {
    let attr: *mut A = attr;
    // SAFETY: `attr` is good for reads and writes of its size, which is given with it.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attr, size_of::<A>()) };
    match RawFd::try_from(result) {
        Ok(fd) if fd >= 0 => Ok(fd),
        _ => Err(io::Error::last_os_error()),
    }
}

/// # Safety
/// `fd` has to be open and nobody else's.
unsafe fn owned(fd: RawFd) -> OwnedFd {
    // SAFETY: as the caller promises.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
