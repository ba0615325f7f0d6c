//! When the guest booted, by its own clock.
//!
//! `offs_real` leads from the monotonic clock to the wall clock, `offs_boot` to the time since boot; their difference is
//! the wall clock at boot (`getboottime64()`, `kernel/time/timekeeping.c`).

use vmc::VirtAddr;
use vmc::layout::Types;

use crate::error::LinuxError;
use crate::kernel::Linux;

/// Nanoseconds of the year 2200: a wall clock beyond is none.
const LATEST: i128 = 7_258_118_400 * 1_000_000_000;

impl Linux<'_> {
    /// The `struct timekeeper` of the system's clock.
    fn timekeeper_at(&self) -> Result<VirtAddr, LinuxError> {
        // One of several clocks since 6.17: the first is the one that everybody reads.
        let Some(core) = self.known.tk_core.or(self.known.timekeeper_data) else {
            return self
                .found
                .timekeeper
                .get(|| self.find_timekeeper())?
                .ok_or(LinuxError::NoSymbol { name: "tk_core" });
        };
        // A sequence counter comes first, with a pointer to its lock on real-time kernels; since 6.13 the whole has a name.
        let counter = self.types().size_of("seqcount_raw_spinlock").unwrap_or(8).clamp(8, 64);
        let offset = self.types().member("tk_data", "timekeeper").map(|member| member.offset);
        let offset = offset.unwrap_or(counter.next_multiple_of(8));
        Ok(core.wrapping_add(offset))
    }

    /// When the guest booted, in nanoseconds since 1970 (UTC), by its own wall clock.
    ///
    /// # Errors
    /// [`LinuxError`] where the clock is not to be found, or cannot be right.
    pub fn boot_time(&self) -> Result<i128, LinuxError> {
        let keeper = self.timekeeper_at()?;
        let fields = self.timekeeper()?;
        let read = LinuxError::read("the clock");
        let real = fields.offset_real.read(self.space(), keeper).map_err(&read)?;
        let boot = fields.offset_boot.read(self.space(), keeper).map_err(&read)?;
        let at_boot = i128::from(real.cast_signed()) - i128::from(boot.cast_signed());
        if (0..LATEST).contains(&at_boot) {
            Ok(at_boot)
        } else {
            Err(LinuxError::Broken {
                what: "the clock",
                at: keeper,
                reason: "the boot time is before 1970 or after 2200",
            })
        }
    }
}
