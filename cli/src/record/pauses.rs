//! For how long the guest stood for each sample.

use std::time::Duration;

/// Pauses that are kept one by one; from then on the oldest ones give way.
const MOST: usize = 1 << 20;

/// Pauses.
#[derive(Debug, Default)]
pub(crate) struct Pauses {
    all: Vec<u32>,
    count: u64,
    longest: Duration,
    together: Duration,
}

impl Pauses {
    pub(crate) fn add(&mut self, pause: Duration) {
        let nanos = u32::try_from(pause.as_nanos()).unwrap_or(u32::MAX);
        if self.all.len() < MOST {
            self.all.push(nanos);
        } else if let Some(place) = self.all.get_mut((self.count % MOST as u64) as usize) {
            *place = nanos;
        }
        self.count += 1;
        self.longest = self.longest.max(pause);
        self.together += pause;
    }

    /// The one below which this share of all is.
    pub(crate) fn quantile(&self, share: f64) -> Option<Duration> {
        let mut all = self.all.clone();
        let last = all.len().checked_sub(1)?;
        let at = (last as f64 * share).round() as usize;
        let (_, found, _) = all.select_nth_unstable(at.min(last));
        Some(Duration::from_nanos(u64::from(*found)))
    }

    /// All of them.
    pub(crate) const fn together(&self) -> Duration {
        self.together
    }

    /// In words.
    pub(crate) fn told(&self) -> Option<String> {
        let (median, high) = (self.quantile(0.5)?, self.quantile(0.99)?);
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        Some(format!(
            "the guest stood {:.2} ms for a sample at the median, {:.2} ms at the 99th percentile, {:.2} ms at the most, {:.1} ms in all",
            ms(median),
            ms(high),
            ms(self.longest),
            ms(self.together)
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_a_known_row() {
        let mut pauses = Pauses::default();
        assert!(pauses.told().is_none());
        for micros in (1..=101).rev() {
            pauses.add(Duration::from_micros(micros));
        }
        assert_eq!(pauses.quantile(0.5), Some(Duration::from_micros(51)));
        assert_eq!(pauses.quantile(0.99), Some(Duration::from_micros(100)));
        assert_eq!(pauses.longest, Duration::from_micros(101));
    }
}
