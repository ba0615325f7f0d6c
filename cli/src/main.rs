//! `vmc`: what runs in a virtual machine and where every thread stands, seen from outside.
//!
//! This binary parses, asks the library crates and prints; no kernel structure is known here. The way of the data:
//! [`args`] -> [`target`] -> [`commands`] -> [`output`].

mod args;
mod commands;
mod crash;
mod debug;
mod demangle;
mod failure;
mod guest;
mod live;
mod notes;
mod output;
mod record;
#[cfg(test)]
mod skipped;
mod target;
mod top;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use args::Args;
use failure::Failure;
use notes::Notes;

fn main() -> ExitCode {
    // A damaged PDB is told of in a line, like other files.
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !vmc_types::reading_pdb() {
            told(info);
        }
    }));
    let args = Args::parse();
    if let Err(why) = args.command.check() {
        Args::command().error(ErrorKind::ValueValidation, why).exit();
    }
    // Without the handler the system's own word has to do.
    let _ = vmc_dump::say_when_lost(
        "vmc: the image's file was cut short while it was read, or its disk failed\n",
    );
    let notes = Notes::new(&args.common);
    match commands::run(&args, &notes) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has gone: nobody is left to tell.
        Err(Failure::Output(why)) if why.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(why) => {
            notes.failure(&why);
            ExitCode::from(1)
        }
    }
}
