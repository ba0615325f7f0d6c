//! The options of `record` and `top`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args as ClapArgs;
use vmc::Limits;

use super::values::{rate, seconds, time};
use crate::record::{Per, Wanted};

/// What is recorded, for how long, and what it becomes.
#[derive(Debug, ClapArgs)]
pub(crate) struct RecordOptions {
    /// Samples of each vCPU in a second
    #[arg(long, value_name = "HZ", value_parser = rate, default_value = "99")]
    pub(crate) rate: f64,
    /// For how long, in seconds [default: until Ctrl-C]
    #[arg(long, value_name = "SECONDS", value_parser = time)]
    pub(crate) duration: Option<Duration>,
    /// Only this process
    #[arg(long, value_name = "PID")]
    pub(crate) pid: Option<u32>,
    /// Only this CPU
    #[arg(long, value_name = "CPU")]
    pub(crate) cpu: Option<u32>,
    /// The kernel's frames alone
    #[arg(long, conflicts_with = "user")]
    pub(crate) kernel: bool,
    /// The programs' frames alone
    #[arg(long)]
    pub(crate) user: bool,
    /// Idle CPUs too
    #[arg(long)]
    pub(crate) idle: bool,
    /// What stacks are put together by
    #[arg(long, value_enum, default_value_t = Per::Process)]
    pub(crate) per: Per,
    /// Where to: a .svg (flame graph), .folded, .pb.gz (pprof) or .txt (perf script) [default: folded, to stdout]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

impl RecordOptions {
    /// What is sampled.
    pub(crate) fn wanted(&self) -> Wanted {
        Wanted {
            pid: self.pid,
            cpu: self.cpu,
            kernel: !self.user,
            user: !self.kernel,
            idle: self.idle,
            stacks: true,
            demangled_bytes: Limits::DEFAULT.demangled_bytes,
        }
    }
}

/// How often, and how, the table is shown.
#[derive(Debug, ClapArgs)]
pub(crate) struct TopOptions {
    /// Samples of each vCPU in a second
    #[arg(long, value_name = "HZ", value_parser = rate, default_value = "99")]
    pub(crate) rate: f64,
    /// How long a round takes, in seconds
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "2")]
    pub(crate) interval: Duration,
    /// Threads in place of processes
    #[arg(long)]
    pub(crate) threads: bool,
    /// Plain rounds, one below the other, as where stdout is no terminal
    #[arg(long)]
    pub(crate) batch: bool,
    /// So many rounds [default: until q or Ctrl-C; 1 where stdout is no terminal]
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) rounds: Option<u64>,
}
