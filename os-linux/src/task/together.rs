//! What several processes have: their threads, their open files, one process after the other, bounded all together.
//!
//! Each list of a process has a bound of its own, and so has the list of processes; but a guest can hang the same long list
//! on each of its processes.

use vmc::view::OpenFile;

use crate::error::LinuxError;
use crate::kernel::Linux;
use crate::task::Task;

impl<'m> Linux<'m> {
    /// The threads of `processes`, [`Limits::tasks`](vmc::Limits::tasks) at most. Where those of one process cannot be read to
    /// the end, an error says whose, and the next process follows; at the bound an error is the last thing that comes.
    pub fn threads_of<'k>(
        &'k self,
        processes: impl IntoIterator<Item = Task<'k, 'm>>,
    ) -> impl Iterator<Item = Result<Task<'k, 'm>, LinuxError>> {
        let all = processes.into_iter().flat_map(|process| {
            let (threads, failed) = match process.threads() {
                Ok(threads) => (Some(threads), None),
                Err(why) => (None, Some(Err(why))),
            };
            let items = threads.into_iter().flatten().chain(failed);
            items.map(move |item| item.map_err(|why| process.incomplete(why)))
        });
        bounded(all, self.limits().tasks, "the threads of all processes")
    }

    /// The files that `processes` have open, [`Limits::all_open_files`](vmc::Limits::all_open_files) at most. Where those of one
    /// process cannot be read to the end, an error says whose, and the next process follows; at the bound an error is the last
    /// thing that comes.
    pub fn open_files_of<'k>(
        &'k self,
        processes: impl IntoIterator<Item = Task<'k, 'm>>,
    ) -> impl Iterator<Item = Result<OpenFile, LinuxError>> {
        let all = processes.into_iter().flat_map(|process| {
            let (files, ended) = match process.open_files() {
                Ok((files, ended)) => (Some(files), ended),
                Err(why) => (None, Some(why)),
            };
            let ended = ended.map(|why| Err(process.incomplete(why)));
            files.into_iter().flatten().map(Ok).chain(ended)
        });
        bounded(all, self.limits().all_open_files, "the open files of all processes")
    }
}

impl Task<'_, '_> {
    /// An error of this process among those of others.
    fn incomplete(&self, why: LinuxError) -> LinuxError {
        LinuxError::OfProcess { pid: self.pid().unwrap_or_default(), source: alloc::boxed::Box::new(why) }
    }
}

/// The first `limit` items, and an error where there are more.
fn bounded<T>(
    items: impl Iterator<Item = Result<T, LinuxError>>,
    limit: usize,
    what: &'static str,
) -> impl Iterator<Item = Result<T, LinuxError>> {
    let mut items = items;
    let mut left = Some(limit);
    core::iter::from_fn(move || {
        let now = left?;
        let item = items.next()?;
        left = now.checked_sub(1);
        Some(if left.is_some() { item } else { Err(LinuxError::TooMany { what, limit }) })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn the_bound_is_the_last_thing_that_comes() {
        let take = |count: u32, limit| bounded((0..count).map(Ok), limit, "numbers").collect::<Vec<_>>();
        assert_eq!(take(3, 3), [Ok(0), Ok(1), Ok(2)]);
        assert_eq!(take(4, 2), [Ok(0), Ok(1), Err(LinuxError::TooMany { what: "numbers", limit: 2 })]);
        assert_eq!(take(1, 0), [Err(LinuxError::TooMany { what: "numbers", limit: 0 })]);
        assert_eq!(take(0, 0), []);
    }
}
