// Generics, closures, trait objects, spawned threads; blocked in sleep, park and a
// channel. The chain is what libgcc's unwinder reports, so there is no pushed one.
//
// `--cfg lean` (LEAN=1 of build-workloads) does without std: the same functions over
// libc alone, a tenth of the size. There the two threads wait for a semaphore each.
#![cfg_attr(lean, no_std, no_main)]
#[cfg(lean)]
extern crate alloc;
#[cfg(lean)]
use alloc::{boxed::Box, collections::BTreeMap, format, string::String, string::ToString, vec, vec::Vec};
#[cfg(lean)]
use core as std;
#[cfg(lean)]
use core::ffi::{c_int, c_void};
#[cfg(not(lean))]
use std::collections::BTreeMap;
use std::fmt::{Debug, Write as _};
#[cfg(not(lean))]
use std::os::raw::{c_int, c_void};

extern "C" {
    fn _Unwind_Backtrace(cb: extern "C" fn(*mut c_void, *mut c_void) -> c_int, arg: *mut c_void) -> c_int;
    fn _Unwind_GetIP(ctx: *mut c_void) -> usize;
    fn _Unwind_GetCFA(ctx: *mut c_void) -> usize;
    fn syscall(n: i64, ...) -> i64;
    fn getpid() -> c_int;
}
#[cfg(target_arch = "x86_64")]
const SYS_GETTID: i64 = 186;
#[cfg(target_arch = "aarch64")]
const SYS_GETTID: i64 = 178;

extern "C" fn cb(ctx: *mut c_void, arg: *mut c_void) -> c_int {
    let v = unsafe { &mut *(arg as *mut Vec<(usize, usize)>) };
    v.push(unsafe { (_Unwind_GetIP(ctx), _Unwind_GetCFA(ctx)) });
    0
}

/// Writes the report of this thread: its names, what it expects, what libgcc sees.
#[inline(never)]
fn report(label: &str, wait: &str, expect: &[&str]) {
    let mut v: Vec<(usize, usize)> = Vec::with_capacity(128);
    unsafe { _Unwind_Backtrace(cb, &mut v as *mut _ as *mut c_void) };
    let (pid, tid) = unsafe { (getpid(), syscall(SYS_GETTID)) };
    let mut s = String::new();
    let comm = os::read(&format!("/proc/self/task/{tid}/comm\0"));
    write!(s, "{{\"workload\":\"rusty\",\"label\":\"{label}\",\"pid\":{pid},\"tid\":{tid},\"comm\":\"{}\",\"wait\":\"{wait}\",\"note\":\"expect: substrings of the demangled names, innermost first\",\"expect\":[", comm.trim()).unwrap();
    for (i, e) in expect.iter().enumerate() {
        write!(s, "{}\"{e}\"", if i > 0 { "," } else { "" }).unwrap();
    }
    s.push_str("],\"bt\":[");
    for (i, (ip, cfa)) in v.iter().enumerate() {
        let comma = if i > 0 { "," } else { "" };
        write!(s, "{comma}{{\"ip\":\"0x{ip:x}\",\"cfa\":\"0x{cfa:x}\",\"signal\":0}}").unwrap();
    }
    s.push_str("]}\n");
    let (tmp, fin) = (format!("/run/lab/{pid}.{tid}.tmp\0"), format!("/run/lab/{pid}.{tid}.json\0"));
    os::write(&tmp, &s);
    os::rename(&tmp, &fin);
}

trait Visit {
    fn visit(&self, depth: u32) -> u64;
}

struct Node<T> {
    val: T,
    next: Option<Box<dyn Visit>>,
}

impl<T: Debug + Clone + Into<u64>> Visit for Node<T> {
    #[inline(never)]
    fn visit(&self, depth: u32) -> u64 {
        let s = format!("{:?}/{depth}", self.val);
        let r = match &self.next {
            Some(n) => n.visit(depth + 1),
            None => with_map(s.len() as u64, |m| leaf_sleep(m.len() as u64)),
        };
        std::hint::black_box(r) + self.val.clone().into() + s.len() as u64
    }
}

#[inline(never)]
fn with_map<F: Fn(&BTreeMap<u64, String>) -> u64>(n: u64, f: F) -> u64 {
    let m: BTreeMap<u64, String> = (0..n).map(|i| (i, i.to_string())).collect();
    let r = f(&m);
    std::hint::black_box(r + m.len() as u64)
}

#[inline(never)]
fn leaf_sleep(n: u64) -> u64 {
    report(
        "main",
        "nanosleep",
        &["rusty::leaf_sleep", "rusty::with_map", "visit", "visit", "visit", "rusty::main"],
    );
    loop {
        os::sleep(100_000 + n);
    }
}

#[inline(never)]
fn generic_park<A, B: Fn(A) -> A>(a: A, f: B) -> A {
    report("park", os::PARK, &["rusty::generic_park", os::OUTER]);
    loop {
        os::park();
        if std::hint::black_box(false) {
            break;
        }
    }
    f(a)
}

#[inline(never)]
fn recv_forever(r: &os::Receiver) -> u8 {
    report("recv", os::RECV, &["rusty::recv_forever", os::OUTER]);
    std::hint::black_box(r.recv().unwrap_or(0))
}

#[cfg_attr(lean, inline(never))]
fn main() {
    let t = os::spawn("rust-park", || {
        let x = generic_park(vec![1u32], |v| v);
        std::hint::black_box(x.len())
    });
    let (tx, rx) = os::channel();
    let u = os::spawn("rust-recv", move || {
        let v: Vec<u8> = (0..3).map(|_| recv_forever(&rx)).collect();
        std::hint::black_box(v.len())
    });
    let n: Box<dyn Visit> = Box::new(Node {
        val: 1u8,
        next: Some(Box::new(Node { val: 2u32, next: Some(Box::new(Node { val: 3u64, next: None })) })),
    });
    std::hint::black_box(n.visit(0));
    let _ = (t.join(), u.join(), tx.send(1));
}

/// What the program asks of the system, by std. Paths end with a NUL.
#[cfg(not(lean))]
mod os {
    pub type Receiver = std::sync::mpsc::Receiver<u8>;
    pub const PARK: &str = "futex:park";
    pub const RECV: &str = "futex:mpsc::recv";
    pub const OUTER: &str = "closure";
    pub use std::thread::park;
    pub fn read(path: &str) -> String {
        std::fs::read_to_string(path.trim_end_matches('\0')).unwrap_or_default()
    }
    pub fn write(path: &str, s: &str) {
        let _ = std::fs::write(path.trim_end_matches('\0'), s);
    }
    pub fn rename(from: &str, to: &str) {
        let _ = std::fs::rename(from.trim_end_matches('\0'), to.trim_end_matches('\0'));
    }
    pub fn sleep(seconds: u64) {
        std::thread::sleep(std::time::Duration::from_secs(seconds));
    }
    pub fn channel() -> (std::sync::mpsc::Sender<u8>, Receiver) {
        std::sync::mpsc::channel()
    }
    pub fn spawn<T: Send + 'static>(
        name: &str,
        f: impl FnOnce() -> T + Send + 'static,
    ) -> std::thread::JoinHandle<T> {
        std::thread::Builder::new().name(name.into()).spawn(f).unwrap()
    }
}

/// The same by libc alone.
#[cfg(lean)]
mod os {
    use super::*;
    use core::alloc::{GlobalAlloc, Layout};
    use core::ptr::null_mut;
    extern "C" {
        fn malloc(n: usize) -> *mut u8;
        fn free(p: *mut u8);
        fn abort() -> !;
        #[link_name = "open"]
        fn c_open(path: *const u8, flags: c_int, mode: c_int) -> c_int;
        #[link_name = "read"]
        fn c_read(fd: c_int, p: *mut u8, n: usize) -> isize;
        #[link_name = "write"]
        fn c_write(fd: c_int, p: *const u8, n: usize) -> isize;
        #[link_name = "rename"]
        fn c_rename(from: *const u8, to: *const u8) -> c_int;
        fn close(fd: c_int) -> c_int;
        fn nanosleep(t: *const [i64; 2], left: *mut [i64; 2]) -> c_int;
        fn sem_init(s: *mut Sem, shared: c_int, value: u32) -> c_int;
        fn sem_wait(s: *mut Sem) -> c_int;
        fn sem_post(s: *mut Sem) -> c_int;
        fn pthread_create(
            t: *mut usize,
            attr: *const c_void,
            f: extern "C" fn(*mut c_void) -> *mut c_void,
            arg: *mut c_void,
        ) -> c_int;
        fn pthread_join(t: usize, ret: *mut *mut c_void) -> c_int;
        fn pthread_self() -> usize;
        fn pthread_setname_np(t: usize, name: *const u8) -> c_int;
    }
    #[link(name = "gcc_s")]
    #[link(name = "c")]
    extern "C" {}

    struct Malloc;
    unsafe impl GlobalAlloc for Malloc {
        unsafe fn alloc(&self, l: Layout) -> *mut u8 {
            malloc(l.size())
        }
        unsafe fn dealloc(&self, p: *mut u8, _: Layout) {
            free(p)
        }
    }
    #[global_allocator]
    static MALLOC: Malloc = Malloc;
    #[panic_handler]
    fn panicked(_: &core::panic::PanicInfo) -> ! {
        unsafe { abort() }
    }
    #[no_mangle]
    extern "C" fn rust_eh_personality() {}
    #[export_name = "main"]
    extern "C" fn entry() -> c_int {
        main();
        0
    }

    #[repr(C, align(16))]
    pub struct Sem([u8; 32]);
    #[derive(Clone, Copy)]
    pub struct Receiver(*mut Sem);
    unsafe impl Send for Receiver {}
    impl Receiver {
        pub fn recv(&self) -> Option<u8> {
            (unsafe { sem_wait(self.0) } == 0).then_some(1)
        }
        pub fn send(&self, _: u8) -> c_int {
            unsafe { sem_post(self.0) }
        }
    }
    pub const PARK: &str = "futex:sem_wait";
    pub const RECV: &str = "futex:sem_wait";
    pub const OUTER: &str = "rusty::os::start"; // the closure is inlined there
    pub fn channel() -> (Receiver, Receiver) {
        let s = Box::into_raw(Box::new(Sem([0; 32])));
        unsafe { sem_init(s, 0, 0) };
        (Receiver(s), Receiver(s))
    }
    pub fn park() {
        channel().1.recv();
    }
    pub fn read(path: &str) -> String {
        let mut b = [0u8; 64];
        let n = unsafe {
            let fd = c_open(path.as_ptr(), 0, 0);
            let n = c_read(fd, b.as_mut_ptr(), b.len());
            close(fd);
            n
        };
        String::from_utf8_lossy(&b[..n.max(0) as usize]).to_string()
    }
    pub fn write(path: &str, s: &str) {
        let mut at = 0;
        unsafe {
            let fd = c_open(path.as_ptr(), 0o1101, 0o666);
            while at < s.len() {
                let n = c_write(fd, s[at..].as_ptr(), s.len() - at);
                if n <= 0 {
                    break;
                }
                at += n as usize;
            }
            close(fd);
        }
    }
    pub fn rename(from: &str, to: &str) {
        unsafe { c_rename(from.as_ptr(), to.as_ptr()) };
    }
    pub fn sleep(seconds: u64) {
        unsafe { nanosleep(&[seconds as i64, 0], null_mut()) };
    }
    pub struct Thread(usize);
    impl Thread {
        pub fn join(self) -> c_int {
            unsafe { pthread_join(self.0, null_mut()) }
        }
    }
    extern "C" fn start<T, F: FnOnce() -> T>(arg: *mut c_void) -> *mut c_void {
        let (name, f) = *unsafe { Box::from_raw(arg as *mut (String, F)) };
        unsafe { pthread_setname_np(pthread_self(), name.as_ptr()) };
        core::hint::black_box(f());
        null_mut()
    }
    pub fn spawn<T, F: FnOnce() -> T + Send + 'static>(name: &str, f: F) -> Thread {
        let mut t = 0;
        let arg = Box::into_raw(Box::new((format!("{name}\0"), f)));
        unsafe { pthread_create(&mut t, null_mut(), start::<T, F>, arg.cast()) };
        Thread(t)
    }
}
