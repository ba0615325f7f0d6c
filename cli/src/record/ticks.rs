//! When samples are taken: by absolute deadlines, each a little off the beat, so that a guest that works in the same beat is
//! not always met at the same place.

use std::time::{Duration, Instant};

/// The deadlines of a recording.
#[derive(Debug)]
pub(crate) struct Ticks {
    start: Instant,
    period: Duration,
    next: u64,
    missed: u64,
    random: u64,
}

impl Ticks {
    /// From now on, `rate` in a second.
    pub(crate) fn new(start: Instant, rate: f64, seed: u64) -> Self {
        Self { start, period: Duration::from_secs_f64(1.0 / rate), next: 0, missed: 0, random: seed | 1 }
    }

    /// The time between two.
    pub(crate) const fn period(&self) -> Duration {
        self.period
    }

    /// How many came while the one before was still worked on.
    pub(crate) const fn missed(&self) -> u64 {
        self.missed
    }

    fn beat(&self, index: u64) -> Instant {
        let nanos = self.period.as_nanos().saturating_mul(u128::from(index));
        let whole = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.start.checked_add(whole).unwrap_or(self.start)
    }

    /// The next deadline that is not past `now`; those that are were missed.
    pub(crate) fn next(&mut self, now: Instant) -> Instant {
        let late = now.saturating_duration_since(self.beat(self.next + 1)).as_nanos();
        if now > self.beat(self.next + 1) {
            let beats =
                u64::try_from(late / self.period.as_nanos().max(1)).unwrap_or(u64::MAX).saturating_add(1);
            self.missed = self.missed.saturating_add(beats);
            self.next = self.next.saturating_add(beats);
        }
        // xorshift (Marsaglia, 2003): any numbers do that the guest's do not follow.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let part = (self.random >> 40) as f64 / (1u64 << 24) as f64;
        let deadline = self.beat(self.next) + self.period.mul_f64(part / 2.0);
        self.next += 1;
        deadline
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_keep_the_beat_and_missed_ones_count() {
        let start = Instant::now();
        let mut ticks = Ticks::new(start, 100.0, 7);
        let mut places = Vec::new();
        for index in 0..1000u32 {
            let beat = start + Duration::from_millis(10) * index;
            let deadline = ticks.next(beat);
            let off = deadline.duration_since(beat);
            assert!(off <= Duration::from_millis(5), "{index}: {off:?}");
            places.push(off.as_micros());
        }
        assert_eq!(ticks.missed(), 0);
        places.sort_unstable();
        places.dedup();
        assert!(places.len() > 500, "they are not in lockstep");
        // 35 ms late: three whole beats were missed.
        let late = start + Duration::from_millis(10_000 + 35);
        let deadline = ticks.next(late);
        assert_eq!(ticks.missed(), 3);
        assert!(deadline >= start + Duration::from_millis(10_030));
    }
}
