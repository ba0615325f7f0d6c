//! From a function's start to a place in it, by all its branches: what is the same on every architecture.

/// Branches that wait to be taken.
const WAITING: usize = 48;

/// Where an instruction leads: on, and elsewhere.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ways {
    pub(crate) on: Option<usize>,
    pub(crate) branch: Option<usize>,
}

/// What has become of `first` where `place` is reached from `start`; nothing where it is not. `step` does the instruction at an
/// offset. Each offset below `64 * N` is gone to once.
pub(crate) fn reach<T: Copy, const N: usize>(
    start: usize,
    place: usize,
    first: T,
    step: impl Fn(usize, &mut T) -> Option<Ways>,
) -> Option<T> {
    let mut seen = [0u64; N];
    let mut waiting = [(start, first); WAITING];
    let mut count = 1usize;
    while let Some(left) = count.checked_sub(1) {
        count = left;
        let (at, mut state) = *waiting.get(count)?;
        let mut next = Some(at);
        while let Some(at) = next {
            if at == place {
                return Some(state);
            }
            let bit = 1u64 << (at % 64);
            let Some(word) = seen.get_mut(at / 64).filter(|word| **word & bit == 0) else { break };
            *word |= bit;
            let Some(ways) = step(at, &mut state) else { break };
            if let (Some(target), Some(slot)) = (ways.branch, waiting.get_mut(count)) {
                *slot = (target, state);
                count += 1;
            }
            next = ways.on;
        }
    }
    None
}
