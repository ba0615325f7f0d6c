//! The sampler on guests that are no virtual machines: the sample image as a live one whose stacks change as soon as it runs, and a
//! machine whose program counter follows a known schedule.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use vmc::arch::x86_64::Registers as X86;
use vmc::vcpu::VcpuError;
use vmc::{
    LiveError, LiveFacts, LiveGuest, PhysAddr, PhysError, PhysMemory, Region, Registers, Vcpus, VirtAddr,
};
use vmc_linux::Linux;
use vmc_unwind::Cache;

use super::sampler::{Sampler, Wanted};
use super::{Moment, Ticks};
use crate::live::fake::{Behaviour, Fake, sample};

const WANTED: Wanted = Wanted {
    pid: None,
    cpu: None,
    kernel: true,
    user: true,
    idle: true,
    stacks: true,
    demangled_bytes: 2048,
};

#[test]
fn samples_are_of_the_moment_at_which_the_guest_stood() {
    let linux = Linux::open(sample(), sample()).unwrap();
    let running: Vec<_> = linux.running().collect();
    let stacks = linux.stacks(&running);
    let mut behaviour = Behaviour::default();
    let mut expected: HashMap<u32, Vec<u64>> = HashMap::new();
    for task in &running {
        let stack = stacks.stack(task, false, &mut Cache::new());
        assert!(stack.frames.len() > 1);
        for frame in &stack.frames {
            // Where the stacks lie is noise as soon as the guest runs.
            let page = match task.memory() {
                Ok(memory) if frame.sp.get() >> 63 == 0 => memory.tables().translate(frame.sp),
                _ => linux.space().translate(frame.sp),
            };
            behaviour.noise.extend(page.map(|at| at.align_down(4096).get()));
        }
        let row = task.thread_row();
        expected.insert(row.cpu.unwrap(), stack.frames.iter().map(|frame| frame.ip.get()).collect());
    }
    let lively = Fake::new(behaviour);
    let moment = Moment::new(&lively);
    lively.stop().unwrap();
    let seen = Linux::open(&moment, &moment).unwrap();
    lively.resume().unwrap();
    let mut sampler = Sampler::new(&lively, &moment, Some(&seen), WANTED);
    for _ in 0..20 {
        let before = lively.reads_standing();
        let met = sampler.take().unwrap();
        assert_eq!(met.len(), running.len());
        let reads = lively.reads_standing() - before;
        assert!(reads <= 40, "{reads} reads of the guest while it stood");
    }
    let counts = sampler.counts;
    assert_eq!((counts.torn, counts.unknown, counts.lost, counts.rounds), (0, 0, 0, 20), "{counts:?}");
    assert_eq!(sampler.profile.samples(), 20 * running.len() as u64);
    assert_eq!(counts.cut, 0, "{counts:?}");
    for (key, count) in sampler.profile.sorted() {
        assert_eq!(count, 20);
        let places = sampler.profile.stacks.get(key.stack).unwrap();
        let places: Vec<u64> =
            places.iter().map(|place| sampler.profile.places.get(*place).unwrap().address).collect();
        let expected = &expected[&key.cpu];
        assert_eq!(places.len(), expected.len());
        // A return address is looked up one byte before it.
        assert!(places.iter().zip(expected).all(|(place, ip)| ip - place <= 1), "{places:x?} {expected:x?}");
    }
}

#[test]
fn a_guest_that_is_gone_leaves_what_was_recorded() {
    let lively = Fake::new(Behaviour { lasts: Some(4), ..Behaviour::default() });
    let moment = Moment::new(&lively);
    let linux = Linux::open(&moment, &moment).unwrap();
    let mut sampler = Sampler::new(&lively, &moment, Some(&linux), WANTED);
    let taken = (0..10).map_while(|_| sampler.take().ok()).count();
    assert_eq!(taken, 4);
    assert_eq!(sampler.profile.samples(), 4 * sample().count() as u64);
}

#[test]
fn only_what_is_asked_for_is_counted() {
    let lively = Fake::default();
    let moment = Moment::new(&lively);
    let linux = Linux::open(&moment, &moment).unwrap();
    let take = |wanted: Wanted| {
        let mut sampler = Sampler::new(&lively, &moment, Some(&linux), wanted);
        sampler.take().unwrap();
        sampler
    };
    let all = take(WANTED);
    let one_cpu = take(Wanted { cpu: Some(0), ..WANTED });
    assert_eq!(all.profile.samples(), sample().count() as u64);
    assert!(one_cpu.profile.sorted().iter().all(|(key, _)| key.cpu == 0));
    assert_eq!((one_cpu.profile.samples(), one_cpu.counts.others), (1, sample().count() as u64 - 1));
    let kernel = take(Wanted { user: false, ..WANTED });
    assert!(kernel.profile.places.iter().all(|place| place.kernel));
    let user = take(Wanted { kernel: false, ..WANTED });
    assert!(user.profile.places.iter().all(|place| !place.kernel));
    let busy = take(Wanted { idle: false, ..WANTED });
    assert_eq!(busy.profile.samples() + busy.counts.idle, sample().count() as u64);
    let nobody = take(Wanted { pid: Some(u32::MAX), ..WANTED });
    assert_eq!((nobody.profile.samples(), nobody.counts.others), (0, sample().count() as u64));
}

/// A machine without a system, whose vCPU is in one of three functions, by the time.
struct Scheduled {
    began: Instant,
}

/// Each function's address and its share of a round, in microseconds.
const SCHEDULE: [(u64, u64); 3] = [(0x1000, 5000), (0x2000, 3000), (0x3000, 2000)];
const ROUND: u64 = 10_000;
static MEMORY: [Region; 1] = [Region { start: PhysAddr::new(0), len: 1 << 20 }];

impl PhysMemory for Scheduled {
    fn regions(&self) -> &[Region] {
        &MEMORY
    }

    fn read(&self, _addr: PhysAddr, buf: &mut [u8]) -> Result<(), PhysError> {
        buf.fill(0);
        Ok(())
    }
}

impl Vcpus for Scheduled {
    fn count(&self) -> usize {
        1
    }

    fn registers(&self, _index: usize) -> Result<Registers, VcpuError> {
        let mut at = self.began.elapsed().as_micros() as u64 % ROUND;
        let mut rip = 0;
        for (address, share) in SCHEDULE {
            rip = address;
            if at < share {
                break;
            }
            at -= share;
        }
        Ok(Registers::X86_64(X86 { rip, ..X86::default() }))
    }
}

impl LiveGuest for Scheduled {
    fn stop(&self) -> Result<(), LiveError> {
        Ok(())
    }

    fn resume(&self) -> Result<(), LiveError> {
        Ok(())
    }

    fn running(&self) -> bool {
        true
    }

    fn forget(&self) {}

    fn facts(&self) -> LiveFacts {
        LiveFacts::default()
    }

    fn as_memory(&self) -> &dyn PhysMemory {
        self
    }

    fn as_vcpus(&self) -> &dyn Vcpus {
        self
    }
}

#[test]
fn shares_are_those_of_the_schedule_though_the_beat_is_the_same() {
    let guest = Scheduled { began: Instant::now() };
    let moment = Moment::new(&guest);
    let mut sampler = Sampler::new(&guest, &moment, None, WANTED);
    // A beat that the guest's rounds are a multiple of: without the jitter each round would be met at the same places.
    let mut ticks = Ticks::new(Instant::now(), 2000.0, 99);
    while sampler.counts.rounds < 6000 {
        let deadline = ticks.next(Instant::now());
        std::thread::sleep(deadline.saturating_duration_since(Instant::now()));
        sampler.take().unwrap();
    }
    let mut met: HashMap<u64, u64> = HashMap::new();
    for (key, count) in sampler.profile.sorted() {
        let place = sampler.profile.stacks.get(key.stack).unwrap()[0];
        *met.entry(sampler.profile.places.get(place).unwrap().address).or_default() += count;
    }
    assert_eq!(met.values().sum::<u64>(), 6000);
    for (address, share) in SCHEDULE {
        let found = met[&address] as f64 * 100.0 / 6000.0;
        let asked = share as f64 * 100.0 / ROUND as f64;
        assert!((found - asked).abs() < 3.0, "{address:#x}: {found} for {asked}");
    }
    assert!(sampler.pauses.quantile(0.5).unwrap() < Duration::from_millis(1));
}

#[test]
fn frame_pointers_are_followed_where_they_hold() {
    // One page table of each level: 0x0 to 0x1fffff is mapped as it is, executable.
    let mut ram = vec![0u8; 0x9000];
    let mut put = |at: usize, word: u64| ram[at..at + 8].copy_from_slice(&word.to_le_bytes());
    put(0x1000, 0x2003);
    put(0x2000, 0x3003);
    put(0x3000, 0x83);
    // Three frames: the last one's caller is nobody.
    for (frame, next, back) in [(0x8000, 0x8100, 0x4444), (0x8100, 0x8200, 0x5555), (0x8200, 0, 0)] {
        put(frame, next);
        put(frame + 8, back);
    }
    let memory = vmc::memory::FlatMemory::new(PhysAddr::new(0), &ram);
    let mut general = [0; 16];
    (general[6], general[7]) = (0x8000, 0x7ff0);
    let paged = X86 { general, rip: 0x4000, cr0: 1 << 31, cr3: 0x1000, ..X86::default() };
    let walk = |registers: &X86| -> Vec<VirtAddr> {
        let found = super::bare::walk(&memory, &Registers::X86_64(registers.clone()));
        found.iter().map(|address| address.address()).collect()
    };
    let at = |addresses: &[u64]| addresses.iter().map(|at| VirtAddr::new(*at)).collect::<Vec<_>>();
    assert_eq!(walk(&paged), at(&[0x4000, 0x4444, 0x5555]));
    assert_eq!(walk(&X86 { cr0: 0, ..paged.clone() }), at(&[0x4000]));
    // A pointer that leads nowhere, below itself, or in a circle, is none.
    for wrong in [0, 0x7000, 0x8001, 0x7f_ffff_f000, u64::MAX] {
        let mut general = general;
        general[6] = wrong;
        assert_eq!(walk(&X86 { general, ..paged.clone() }), at(&[0x4000]), "{wrong:#x}");
    }
}
