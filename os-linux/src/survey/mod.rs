//! What is there, by independent ways, so that what was taken off one of them shows.
//!
//! Whoever hides a process or a module unlinks it from the list that tools go by. The kernel keeps the same things in other
//! places too, because it has to work with them: numbers, run queues, family ties, the memory they lie in. Each way is
//! walked by itself, and each promises only what the kernel keeps in it: a sleeping task is on no run queue, a thread is on
//! no list of processes, a task that is being made or taken down may be anywhere.

mod limited;
mod modules;
mod numbers;
mod queues;
mod scan;
mod standing;
mod tasks;

use alloc::vec::Vec;

use vmc::view::{RowErrors, Ways};

/// A thing, and which ways lead to it.
#[derive(Clone, Debug)]
pub struct Surveyed<T> {
    /// The thing.
    pub what: T,
    /// The ways.
    pub ways: Ways,
}

/// Everything of a kind that any way leads to.
#[derive(Clone, Debug)]
pub struct Survey<T> {
    /// What there is.
    pub rows: Vec<Surveyed<T>>,
    /// How many more lie in memory that have ended, or are only being set up: no list has to hold them.
    pub ended: usize,
    /// Why a way could not be walked, or not to its end.
    pub errors: RowErrors,
}
