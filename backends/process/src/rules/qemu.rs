//! QEMU: its RAM is one block of memory, or one for each node, that the machine cuts in two.

use vmc::PhysAddr;

use super::blocks::{Block, blocks};
use super::machine::Machine;
use super::options::{Properties, mebibytes, values};
use super::{GIB, Monitor, Rules, RulesError, split};
use crate::layout::{Layout, Piece};

const VMM: &str = "QEMU";

/// RAM that QEMU gives a guest which was given no size.
const DEFAULT_RAM: u64 = 128 << 20;

/// QEMU rounds the size of RAM up to this.
const ROUND: u64 = 8192;

/// `microvm` has its firmware here, over RAM.
const MICROVM_BIOS: (u64, u64) = (0xf_0000, 0x10_0000);

/// Where the RAM of `virt` begins.
const VIRT_RAM: u64 = GIB;

/// What the command line says.
#[derive(Debug)]
struct Options<'c> {
    machine: Machine,
    ram: u64,
    /// As large as it can become.
    most: u64,
    max_below: Option<u64>,
    /// The objects that are its RAM, in the guest's order: size and path.
    backends: Vec<(u64, Option<&'c str>)>,
}

pub(super) fn rules(monitor: &Monitor) -> Result<Rules, RulesError> {
    let options = options(monitor)?;
    // Ordinary memory of the process, and files that it maps for itself, are copied at a fork.
    let ram = blocks(&monitor.maps, |map| map.has("dc") && map.writable);
    let mut candidates = Vec::new();
    for order in find(&options, &ram)? {
        for above in options.machine.above(options.most) {
            candidates.push(layout(&options, &order, *above)?);
            if options.machine.below(options.ram, options.max_below) == options.ram {
                break;
            }
        }
    }
    Ok(Rules { vmm: VMM, candidates })
}

fn options(monitor: &Monitor) -> Result<Options<'_>, RulesError> {
    let wrong = |reason: String| RulesError::Options { vmm: VMM, reason };
    let command = &monitor.command;
    let machines: Vec<_> = values(command, &["machine", "M"]).into_iter().map(Properties::parse).collect();
    let property = |name: &str| machines.iter().rev().find_map(|machine| machine.get(name));
    let name = machines.iter().rev().find_map(|machine| machine.first.or_else(|| machine.get("type")));
    let program = monitor.program.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let machine = Machine::of(program.trim_end_matches(" (deleted)"), name).ok_or_else(|| {
        RulesError::Machine { vmm: VMM, machine: format!("{program} {}", name.unwrap_or("(default)")) }
    })?;

    let objects: Vec<_> = values(command, &["object"]).into_iter().map(Properties::parse).collect();
    let backend = |id: &str| {
        let object = objects.iter().find(|object| object.get("id") == Some(id));
        let size = object.and_then(|object| object.size("size"));
        let size = size.ok_or_else(|| wrong(format!("there is no size of the object `{id}`")))?;
        Ok::<_, RulesError>((round(size), object.and_then(|object| object.get("mem-path"))))
    };
    let nodes = values(command, &["numa"]).into_iter().map(Properties::parse);
    let nodes: Vec<_> = nodes.filter_map(|node| node.get("memdev")).collect();
    let backends = match property("memory-backend") {
        Some(id) => vec![backend(id)?],
        None => nodes.into_iter().map(backend).collect::<Result<Vec<_>, _>>()?,
    };

    let memory = values(command, &["m"]).last().map(|memory| Properties::parse(memory));
    let size = memory.as_ref().and_then(|memory| memory.first.or_else(|| memory.get("size")));
    let ram = match size {
        Some(size) => mebibytes(size).ok_or_else(|| wrong(format!("`-m {size}` is no size")))?,
        None if backends.is_empty() => DEFAULT_RAM,
        None => backends.iter().fold(0u64, |sum, (size, _)| sum.saturating_add(*size)),
    };
    let ram = round(ram);
    let most = memory.as_ref().and_then(|memory| mebibytes(memory.get("maxmem")?)).unwrap_or(ram).max(ram);
    let max_below = property("max-ram-below-4g").and_then(crate::parse::size);
    Ok(Options { machine, ram, most, max_below, backends })
}

fn round(size: u64) -> u64 {
    size.checked_next_multiple_of(ROUND).unwrap_or(size)
}

/// The blocks that are RAM, in the guest's order: more than one order where they cannot be told apart.
fn find(options: &Options<'_>, ram: &[Block<'_>]) -> Result<Vec<Vec<u64>>, RulesError> {
    let one = [(options.ram, None)];
    let wanted = if options.backends.is_empty() { &one[..] } else { &options.backends };
    let mut orders: Vec<Vec<u64>> = vec![Vec::new()];
    for (size, path) in wanted {
        // A path may be a directory (of huge pages), in which QEMU makes a file.
        let is =
            |block: &&Block<'_>| block.len() == *size && path.is_none_or(|path| block.path.starts_with(path));
        let fit: Vec<_> = ram.iter().filter(is).map(|block| block.start).collect();
        let what = || format!("is a block of {size:#x} bytes");
        if fit.is_empty() {
            return Err(RulesError::NoRam { vmm: VMM, wanted: what() });
        }
        let longer = |order: &Vec<u64>| {
            let rest = fit.iter().filter(|start| !order.contains(start)).copied().collect::<Vec<_>>();
            rest.into_iter().map(|start| order.iter().copied().chain([start]).collect()).collect::<Vec<_>>()
        };
        orders = orders.iter().flat_map(longer).collect();
        if orders.len() > 6 {
            return Err(RulesError::Ambiguous { vmm: VMM, wanted: what(), count: fit.len() });
        }
        if orders.is_empty() {
            return Err(RulesError::NoRam { vmm: VMM, wanted: what() });
        }
    }
    Ok(orders)
}

/// The layout of RAM in the blocks that begin at `starts`, one behind the other.
fn layout(options: &Options<'_>, starts: &[u64], above: u64) -> Result<Layout, RulesError> {
    let below = options.machine.below(options.ram, options.max_below);
    let mut pieces = Vec::new();
    let mut done = 0u64;
    for (index, start) in starts.iter().enumerate() {
        let size = options.backends.get(index).map_or(options.ram, |(size, _)| *size);
        let low = below.saturating_sub(done).min(size);
        for mut piece in split(*start, size, low, above) {
            // What `split` takes for the start of RAM is the start of this block.
            let before = if piece.host == *start && low > 0 { done } else { done.saturating_sub(below) };
            piece.guest = piece.guest.wrapping_add(before);
            if piece.len > 0 {
                pieces.push(piece);
            }
        }
        done = done.saturating_add(size);
    }
    match options.machine {
        Machine::Virt => pieces.iter_mut().for_each(|piece| piece.guest = piece.guest.wrapping_add(VIRT_RAM)),
        Machine::Microvm => cut(&mut pieces, MICROVM_BIOS),
        Machine::Pc { .. } | Machine::Q35 { .. } => {}
    }
    let how = format!("the rule for QEMU's {}: {below:#x} bytes below 4 GiB", name(options.machine));
    let how = if options.machine == Machine::Virt {
        "the rule for QEMU's virt: RAM at 1 GiB".to_owned()
    } else {
        how
    };
    Ok(Layout::new(pieces, how)?)
}

/// Takes the range out of the first piece.
fn cut(pieces: &mut Vec<Piece>, (start, end): (u64, u64)) {
    if let Some(first) = pieces.first_mut().filter(|first| first.guest.get() == 0 && first.len > end) {
        let behind =
            Piece { guest: PhysAddr::new(end), len: first.len - end, host: first.host.saturating_add(end) };
        first.len = start;
        pieces.insert(1, behind);
    }
}

fn name(machine: Machine) -> &'static str {
    match machine {
        Machine::Pc { .. } => "pc",
        Machine::Q35 { .. } => "q35",
        Machine::Microvm => "microvm",
        Machine::Virt => "virt",
    }
}
