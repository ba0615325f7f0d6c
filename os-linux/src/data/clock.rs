//! The kernel's clock (`tk_core`), by its clock source and by an equation that always holds in it.
//!
//! Source: `kernel/time/timekeeping.c`: `tk_set_wall_to_mono()` keeps `offs_real` equal to the negative of `wall_to_monotonic`,
//! `tk_update_ktime_data()` keeps `tkr_mono.base` equal to the sum of `xtime_sec` and `wall_to_monotonic`, and both readers
//! (`tkr_mono`, `tkr_raw`) use one clock source, which is a variable of the image. The second equation tells the clock from the
//! pairs of readers that are kept for NMIs (`struct tk_fast`), which are laid out alike and followed by zeros.

use vmc::layout::{Field, Types};
use vmc::{ReadExt, VirtAddr};

use crate::error::LinuxError;
use crate::kernel::Linux;

const NANOSECONDS: i128 = 1_000_000_000;

impl Linux<'_> {
    /// The first `struct timekeeper` in the image: that of the system's clock, or its copy, which tells the same boot time.
    pub(crate) fn find_timekeeper(&self) -> Result<Option<VirtAddr>, LinuxError> {
        let types = self.types();
        let offset = |path| types.member("timekeeper", path).map(|member| member.offset);
        let (mono, raw) = (offset("tkr_mono.clock")?, offset("tkr_raw.clock")?);
        let seconds: Field<u64> = Field::new(types, "timekeeper", "wall_to_monotonic.tv_sec")?;
        let nanoseconds: Field<u64> = Field::new(types, "timekeeper", "wall_to_monotonic.tv_nsec")?;
        let base: Field<u64> = Field::new(types, "timekeeper", "tkr_mono.base")?;
        let wall: Field<u64> = Field::new(types, "timekeeper", "xtime_sec")?;
        let real = self.timekeeper()?.offset_real;
        let Some(distance) = raw.checked_sub(mono) else { return Ok(None) };
        let (space, image) = (self.space(), self.image());
        Ok(image.find_words(space, |place, bytes| {
            let clock = vmc::bytes::u64_at(bytes, 0)?;
            if clock == 0 || !image.spans(VirtAddr::new(clock)) {
                return None;
            }
            if vmc::bytes::u64_at(bytes, usize::try_from(distance).ok()?) != Some(clock) {
                return None;
            }
            let at = place.checked_sub(mono)?;
            let number = |field: Field<u64>| field.read(space, at).map(u64::cast_signed).map(i128::from).ok();
            let nanoseconds = number(nanoseconds).filter(|part| (0..NANOSECONDS).contains(part))?;
            let wall_to_monotonic = number(seconds)? * NANOSECONDS + nanoseconds;
            // Names of clock sources are short.
            let named = types.member("clocksource", "name").is_ok_and(|member| {
                let name = space.read_pointer(VirtAddr::new(clock).wrapping_add(member.offset));
                name.and_then(|name| space.read_cstr(name, 64))
                    .is_ok_and(|name| !name.is_empty() && name.is_ascii())
            });
            let monotonic = number(wall)? * NANOSECONDS + wall_to_monotonic;
            (number(real)? == -wall_to_monotonic && number(base)? == monotonic && named).then_some(at)
        }))
    }
}
