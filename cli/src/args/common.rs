//! The options that every command takes.

use std::path::PathBuf;

use clap::{Args as ClapArgs, ValueEnum};

use super::live::Live;
use super::values::{address, size};
use crate::debug::check_url;

/// Options that every command takes.
#[derive(Debug, ClapArgs)]
pub(crate) struct Common {
    /// How results are printed
    #[arg(long, global = true, value_enum, default_value_t = Format::Table, value_name = "FORMAT")]
    pub(crate) format: Format,
    /// Debug files (by build-id or .gnu_debuglink), and for kernels that do not tell themselves their vmlinux,
    /// BTF, volatility3 ISF, System.map or modules with DWARF (.ko, .ko.debug); for Windows PDBs (a symbol store,
    /// too) and volatility3 ISFs: anywhere below (repeatable)
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) symbols: Vec<PathBuf>,
    /// Windows: fetch PDBs that are not there from a symbol server, by curl, into the cache
    /// [without URL: https://msdl.microsoft.com/download/symbols]
    #[arg(
        long,
        global = true,
        value_name = "URL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "https://msdl.microsoft.com/download/symbols",
        value_parser = check_url,
        conflicts_with = "no_cache"
    )]
    pub(crate) download: Option<String>,
    /// Where unpacked images and fetched PDBs are kept [default: ~/.cache/vmc]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) cache_dir: Option<PathBuf>,
    /// Refuse a compressed image that unpacks to more than this: 4096, 64G, 2T [default: by its size]
    #[arg(long, global = true, value_parser = size, value_name = "SIZE")]
    pub(crate) unpacked_limit: Option<u64>,
    /// Where the memory in a raw image begins: 0x40000000 for QEMU's Arm machine virt [default: 0x0]
    #[arg(long, global = true, value_parser = address, value_name = "0xADDR")]
    pub(crate) ram_base: Option<u64>,
    /// Keep nothing on disk
    #[arg(long, global = true)]
    pub(crate) no_cache: bool,
    /// Say nothing but failures on stderr
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Say more on stderr
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// When to use colour
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto, value_name = "WHEN")]
    pub(crate) color: Color,
    /// The guest's operating system [default: found]
    #[arg(long, global = true, value_enum, value_name = "OS")]
    pub(crate) os: Option<Os>,
    #[command(flatten)]
    pub(crate) live: Live,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Aligned, for people
    Table,
    /// One JSON document
    Json,
    /// A JSON object a line
    Jsonl,
    /// Comma-separated values
    Csv,
}

/// When to use colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// Where stdout is a terminal
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// A guest's operating system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Os {
    /// Linux
    Linux,
    /// Windows
    Windows,
}
