//! The sample's image as a live guest, with what such a one does besides: it lends nothing, runs and stands, changes while it is read.

use std::collections::HashSet;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use vmc::{
    LiveError, LiveFacts, LiveGuest, PhysAddr, PhysError, PhysMemory, Region, Registers, VcpuError, Vcpus,
};
use vmc_dump::{Image, OpenOptions};

/// The sample's image.
pub(crate) fn open_sample() -> Image {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../guests/sample/mem.elf.zst");
    Image::open_with(path, &mut OpenOptions::default()).unwrap()
}

/// The same, opened once.
pub(crate) fn sample() -> &'static Image {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    IMAGE.get_or_init(open_sample)
}

/// How a guest behaves.
#[derive(Clone, Debug, Default)]
pub(crate) struct Behaviour {
    /// The word at this address reads as zero while the guest runs, for so many times that things are forgotten.
    pub(crate) torn: Option<(u64, usize)>,
    /// The pages at these addresses are noise while the guest runs.
    pub(crate) noise: HashSet<u64>,
    /// Panics at a read of a guest that stands.
    pub(crate) panics: bool,
    /// Has not been running when it was attached to.
    pub(crate) paused: bool,
    /// Has memory that holds no kernel.
    pub(crate) empty: bool,
    /// Cannot be stopped.
    pub(crate) stuck: bool,
    /// Is gone after so many stops.
    pub(crate) lasts: Option<usize>,
}

/// The guest.
#[derive(Debug, Default)]
pub(crate) struct Fake {
    behaviour: Behaviour,
    standing: AtomicBool,
    forgotten: AtomicUsize,
    stops: AtomicUsize,
    reads: AtomicUsize,
}

static NO_KERNEL: [Region; 1] = [Region { start: PhysAddr::new(0), len: 4 << 20 }];

impl Fake {
    pub(crate) fn new(behaviour: Behaviour) -> Self {
        Self { behaviour, ..Self::default() }
    }

    /// How often it was read while it stood.
    pub(crate) fn reads_standing(&self) -> usize {
        self.reads.load(Ordering::SeqCst)
    }
}

impl PhysMemory for Fake {
    fn regions(&self) -> &[Region] {
        if self.behaviour.empty { &NO_KERNEL } else { sample().regions() }
    }

    fn read(&self, addr: PhysAddr, buf: &mut [u8]) -> Result<(), PhysError> {
        let standing = self.standing.load(Ordering::SeqCst);
        assert!(!(self.behaviour.panics && standing), "a read that panics");
        if self.behaviour.empty {
            buf.fill(0);
            return Ok(());
        }
        sample().read(addr, buf)?;
        if standing {
            self.reads.fetch_add(1, Ordering::SeqCst);
            return Ok(());
        }
        if self.behaviour.noise.contains(&addr.align_down(4096).get()) {
            buf.fill(0xa5);
        }
        if let Some((at, times)) = self.behaviour.torn
            && self.forgotten.load(Ordering::SeqCst) < times
        {
            for (place, byte) in (addr.get()..).zip(buf) {
                if (at..at + 8).contains(&place) {
                    *byte = 0;
                }
            }
        }
        Ok(())
    }
}

impl Vcpus for Fake {
    fn count(&self) -> usize {
        sample().count()
    }

    fn registers(&self, index: usize) -> Result<Registers, VcpuError> {
        sample().registers(index)
    }
}

impl LiveGuest for Fake {
    fn stop(&self) -> Result<(), LiveError> {
        if self.behaviour.stuck {
            return Err(LiveError::Stop { reason: "it does not want to".into() });
        }
        let stops = self.stops.fetch_add(1, Ordering::SeqCst);
        if self.behaviour.lasts.is_some_and(|lasts| stops >= lasts) {
            return Err(LiveError::Gone { what: "its process has ended".into() });
        }
        self.standing.store(true, Ordering::SeqCst);
        Ok(())
    }

    fn resume(&self) -> Result<(), LiveError> {
        self.standing.store(false, Ordering::SeqCst);
        Ok(())
    }

    fn running(&self) -> bool {
        !self.behaviour.paused && !self.standing.load(Ordering::SeqCst)
    }

    fn forget(&self) {
        self.forgotten.fetch_add(1, Ordering::SeqCst);
    }

    fn facts(&self) -> LiveFacts {
        LiveFacts {
            backend: "fake",
            layout: "one piece".into(),
            ram_bytes: 256 << 20,
            ..LiveFacts::default()
        }
    }

    fn as_memory(&self) -> &dyn PhysMemory {
        self
    }

    fn as_vcpus(&self) -> &dyn Vcpus {
        self
    }
}
