//! What parent and child say to one another over the line: commands of 8 bytes, replies of a head and a block for each vCPU.
//!
//! Both are of one program, so nothing here is a promise to anybody.

use crate::arch::{BLOCK, bytes, put};
use crate::options::Step;

/// The bytes of a command.
pub(crate) const COMMAND: usize = 8;
/// The bytes of a reply's head.
pub(crate) const HEAD: usize = 24;
/// The bytes of a reply's vCPU: where its registers come from, in its second half the thread, then the block.
pub(crate) const VCPU: usize = 8 + BLOCK;

/// What the child is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Hold the vCPUs; registers that cost nothing come with the reply.
    Stop,
    /// The registers of held vCPUs, by injection where there is no other way.
    Registers,
    /// Let go.
    Resume,
    /// All three at once.
    Sample,
    /// Go on after a step that was reported.
    GoOn,
}

const COMMANDS: [Command; 5] =
    [Command::Stop, Command::Registers, Command::Resume, Command::Sample, Command::GoOn];

impl Command {
    /// With the number of the parent's thread that runs before others; 0 where there is none.
    pub(crate) fn encode(self, thread: i32) -> [u8; COMMAND] {
        let index = COMMANDS.iter().position(|one| *one == self).unwrap_or(0);
        let mut command = [0; COMMAND];
        put(&mut command, 0, &(index as u32).to_le_bytes());
        put(&mut command, 4, &thread.to_le_bytes());
        command
    }

    pub(crate) fn decode(from: [u8; COMMAND]) -> Option<(Self, i32)> {
        let index = usize::try_from(u32::from_le_bytes(bytes(&from, 0))).ok()?;
        Some((COMMANDS.get(index).copied()?, i32::from_le_bytes(bytes(&from, 4))))
    }
}

/// Where a vCPU's registers come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Source {
    /// They are not there.
    #[default]
    None,
    /// The page that the vCPU shares with its VMM.
    Page,
    /// An injected system call.
    Injected,
}

/// Why the child could not do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// No thread of the machine is left.
    Gone,
    /// A thread did not stop in time.
    Silent { tid: i32 },
    /// `PTRACE_SEIZE` was refused.
    Seize { tid: i32, errno: i32 },
    /// Another `ptrace` call failed.
    Trace { tid: i32, errno: i32 },
    /// The seccomp filter of a thread could not be suspended.
    Jailed { tid: i32, errno: i32 },
    /// The thread of a vCPU has ended.
    Unplugged { vcpu: i32 },
    /// The threads are not held.
    NotHeld,
    /// A call of ours brought a signal about.
    Signal { tid: i32, signal: i32 },
    /// There is no instruction that makes a system call.
    NoInstruction { tid: i32 },
    /// The stack of a thread could not be borrowed.
    NoScratch { tid: i32, errno: i32 },
    /// KVM refused to tell the registers.
    Refused { vcpu: i32, errno: i32 },
    /// The shared page has no registers, and nothing may be injected.
    Stale { vcpu: i32 },
}

impl Fault {
    fn encode(self) -> [i32; 3] {
        match self {
            Self::Gone => [1, 0, 0],
            Self::Silent { tid } => [2, tid, 0],
            Self::Seize { tid, errno } => [3, tid, errno],
            Self::Trace { tid, errno } => [4, tid, errno],
            Self::Jailed { tid, errno } => [5, tid, errno],
            Self::NoInstruction { tid } => [6, tid, 0],
            Self::NoScratch { tid, errno } => [7, tid, errno],
            Self::Refused { vcpu, errno } => [8, vcpu, errno],
            Self::Stale { vcpu } => [9, vcpu, 0],
            Self::NotHeld => [11, 0, 0],
            Self::Unplugged { vcpu } => [12, vcpu, 0],
            Self::Signal { tid, signal } => [10, tid, signal],
        }
    }

    fn decode(from: [i32; 3]) -> Option<Self> {
        let [kind, who, errno] = from;
        Some(match kind {
            1 => Self::Gone,
            2 => Self::Silent { tid: who },
            3 => Self::Seize { tid: who, errno },
            4 => Self::Trace { tid: who, errno },
            5 => Self::Jailed { tid: who, errno },
            6 => Self::NoInstruction { tid: who },
            7 => Self::NoScratch { tid: who, errno },
            8 => Self::Refused { vcpu: who, errno },
            9 => Self::Stale { vcpu: who },
            11 => Self::NotHeld,
            12 => Self::Unplugged { vcpu: who },
            10 => Self::Signal { tid: who, signal: errno },
            _ => return None,
        })
    }
}

/// The head of what the child says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Head {
    /// It is done; so many vCPUs follow.
    Done { vcpus: usize },
    /// It is not; are the threads held all the same?
    Failed { fault: Fault, held: bool },
    /// It is at a step, and waits.
    At(Step),
}

impl Head {
    pub(crate) fn encode(self, to: &mut [u8]) {
        let words: [i32; 6] = match self {
            Self::Done { vcpus } => [0, i32::try_from(vcpus).unwrap_or(0), 0, 0, 0, 0],
            Self::Failed { fault, held } => {
                let [kind, who, errno] = fault.encode();
                [1, i32::from(held), kind, who, errno, 0]
            }
            Self::At(step) => [2, i32::try_from(step.index()).unwrap_or(0), 0, 0, 0, 0],
        };
        for (index, word) in words.iter().enumerate() {
            put(to, 4 * index, &word.to_le_bytes());
        }
    }

    pub(crate) fn decode(from: &[u8; HEAD]) -> Option<Self> {
        let word = |index: usize| i32::from_le_bytes(bytes(from, 4 * index));
        Some(match word(0) {
            0 => Self::Done { vcpus: usize::try_from(word(1)).ok()? },
            1 => Self::Failed { fault: Fault::decode([word(2), word(3), word(4)])?, held: word(1) != 0 },
            2 => Self::At(Step::ALL.get(usize::try_from(word(1)).ok()?).copied()?),
            _ => return None,
        })
    }
}

impl Source {
    pub(crate) fn encode(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Page => 1,
            Self::Injected => 2,
        }
    }

    pub(crate) fn decode(from: u8) -> Self {
        match from {
            1 => Self::Page,
            2 => Self::Injected,
            _ => Self::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_understood() {
        for command in COMMANDS {
            assert_eq!(Command::decode(command.encode(77)), Some((command, 77)));
        }
        assert_eq!(Command::decode([9; 8]), None);
        let faults = [
            Fault::Gone,
            Fault::Silent { tid: 5 },
            Fault::Seize { tid: 6, errno: 1 },
            Fault::Trace { tid: 7, errno: 2 },
            Fault::Jailed { tid: 8, errno: 3 },
            Fault::NoInstruction { tid: 9 },
            Fault::NoScratch { tid: 10, errno: 14 },
            Fault::Refused { vcpu: 1, errno: 22 },
            Fault::Stale { vcpu: 2 },
            Fault::Signal { tid: 3, signal: 31 },
            Fault::NotHeld,
            Fault::Unplugged { vcpu: 4 },
        ];
        let failed = |held| faults.map(|fault| Head::Failed { fault, held });
        let heads = failed(true).into_iter().chain(failed(false)).chain([Head::Done { vcpus: 3 }]);
        for head in heads.chain(Step::ALL.iter().map(|step| Head::At(*step))) {
            let mut bytes = [0; HEAD];
            head.encode(&mut bytes);
            assert_eq!(Head::decode(&bytes), Some(head));
        }
        assert_eq!(Head::decode(&[0xff; HEAD]), None);
        for source in [Source::None, Source::Page, Source::Injected] {
            assert_eq!(Source::decode(source.encode()), source);
        }
    }
}
