//! Targets: what a user names, opened.

use std::path::PathBuf;

use vmc::PhysAddr;
use vmc_dump::{Image, OpenOptions};

use crate::args::{Common, Os};
use crate::failure::Failure;
use crate::notes::Notes;

/// Opens the target that was named.
pub(crate) fn open(name: &str, common: &Common, notes: &Notes) -> Result<Image, Failure> {
    if common.os == Some(Os::Windows) {
        return Err(Failure::Said("--os windows: Windows guests are not read yet".into()));
    }
    for live in ["kvm:", "gdb:", "qmp:"] {
        if name.starts_with(live) && !std::path::Path::new(name).exists() {
            return Err(Failure::Said(format!(
                "{name}: live targets are not read yet; take a memory image (dump-guest-memory) and give its path"
            )));
        }
    }
    let bar = notes.progress("unpacking");
    let mut progress = |done: u64, total: u64| {
        bar.set_length(total);
        bar.set_position(done);
    };
    let cache_dir = if common.no_cache { None } else { common.cache_dir.clone().or_else(default_cache_dir) };
    let mut options = OpenOptions {
        cache_dir,
        unpacked_limit: common.unpacked_limit,
        ram_base: common.ram_base.map(PhysAddr::new),
        progress: Some(&mut progress),
    };
    let opened = Image::open_with(name, &mut options);
    bar.finish_and_clear();
    Ok(opened?)
}

/// `$XDG_CACHE_HOME/vmc`, or `~/.cache/vmc`.
fn default_cache_dir() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CACHE_HOME").filter(|path| path.is_absolute());
    base.or_else(|| set("HOME").map(|home| home.join(".cache"))).map(|base| base.join("vmc"))
}
