//! A real triage dump of Windows 10: ranges of kernel memory without page tables.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::panic,
    reason = "tests and their helpers may panic and tell what they saw"
)]

#[path = "common/shared.rs"]
mod shared;

use vmc::bytes::{u32_at, u64_at};
use vmc::vcpu::NoVcpus;
use vmc::{Fault, Limits, ReadError, VirtAddr, VirtualMemory};
use vmc_windows::{Hints, LoadedModule, Windows};

use shared::{Files, folder, json, missing, number, skip};

/// The data blocks of the dump: address, place in the file, size.
struct Blocks<'a> {
    file: &'a [u8],
    blocks: Vec<(u64, usize, usize)>,
}

impl<'a> Blocks<'a> {
    fn new(file: &'a [u8]) -> Self {
        // TRIAGE_DUMP64 at 0x2000: DataBlocksOffset and DataBlocksCount behind the debugger's data.
        let word = |at: usize| u32_at(file, 0x2000 + at).unwrap() as usize;
        let (place, count) = (word(0x78), word(0x7c));
        let block = |index: usize| {
            let at = place + index * 16;
            let size = u32_at(file, at + 12).unwrap() as usize;
            (u64_at(file, at).unwrap(), u32_at(file, at + 8).unwrap() as usize, size)
        };
        Self { file, blocks: (0..count).map(block).collect() }
    }
}

impl VirtualMemory for Blocks<'_> {
    fn read(&self, addr: VirtAddr, buf: &mut [u8]) -> Result<(), ReadError> {
        for (done, byte) in buf.iter_mut().enumerate() {
            let at = addr.wrapping_add(done as u64);
            let block =
                self.blocks.iter().find(|(start, _, size)| at.get().wrapping_sub(*start) < *size as u64);
            let Some((start, place, _)) = block else {
                return Err(ReadError { addr: at, done, fault: Fault::NotMapped });
            };
            *byte = self.file[place + (at.get() - start) as usize];
        }
        Ok(())
    }
}

#[test]
fn a_triage_dump_is_known_by_its_variables() {
    if let Some(why) = missing() {
        return skip(why);
    }
    let file = std::fs::read(folder().join("triage/triage_x64.dmp")).unwrap();
    let expected = json(&folder().join("triage/expected.json"));
    let mut memory = Blocks::new(&file);
    assert_eq!(memory.blocks.len() as u64, number(&expected["data_blocks"]));
    // TRIAGE_DUMP64.Process: the failing process' object, besides the blocks.
    let process = u32_at(&file, 0x2020).unwrap() as usize;
    memory.blocks.insert(0, (number(&expected["system_process"]["eprocess"]), process, 0xa40));
    // DUMP_HEADER64: PsLoadedModuleList at 0x20, PsActiveProcessHead at 0x28, KdDebuggerDataBlock at 0x80.
    let pointer = |at| Some(VirtAddr::new(u64_at(&file, at).unwrap()));
    let hints = Hints {
        loaded_module_list: pointer(0x20),
        active_process_head: pointer(0x28),
        debugger_data: pointer(0x80),
        // MinorVersion, NumberProcessors.
        build: u32_at(&file, 0xc),
        processors: u32_at(&file, 0x34),
        modules: drivers(&file),
        ..Hints::default()
    };
    let mut files = Files::default();
    let windows =
        Windows::open_virtual(&memory, &NoVcpus, &hints, Limits::default(), Some(&mut files)).unwrap();
    assert_eq!(windows.identity().base.get(), number(&expected["kernel_base"]));
    let facts = windows.facts();
    assert_eq!(facts.page_table_root.map(|root| root.get()), Some(number(&expected["dtb"])));
    assert_eq!(facts.version.as_deref(), Some("10.0.19041"));
    assert_eq!(facts.processors.map(u64::from), Some(number(&expected["processors"])));
    assert_eq!(facts.kernel_size, number(&expected["kernel_size"]));
    assert_eq!(windows.identity().timestamp.map(u64::from), Some(number(&expected["kernel_timestamp"])));
    let modules: Vec<_> = windows.modules().unwrap().map(Result::unwrap).collect();
    assert_eq!(modules.len() as u64, number(&expected["modules"]));
    let faulting = &expected["faulting_module"];
    let row = modules.iter().find(|row| Some(row.name.as_str()) == faulting["name"].as_str()).unwrap();
    assert_eq!((row.base.get(), row.size), (number(&faulting["base"]), number(&faulting["size"])));
    // The list of processes leads out of the dump; the System process is in it all the same, with the thread that failed.
    let system = &expected["system_process"];
    let process = windows.process(4).unwrap();
    let row = process.row();
    assert_eq!(row.object.get(), number(&system["eprocess"]));
    assert_eq!(
        (row.name.as_str(), row.threads.map(u64::from)),
        ("System", Some(number(&system["active_threads"])))
    );
    assert_eq!(row.page_table.map(|root| root.get()), Some(number(&system["dtb"])));
    // 2021-02-21 01:38:22 UTC.
    assert_eq!(row.start_time.map(|time| time / 1_000_000_000), Some(1_613_871_502));
    let tid = number(&expected["current_thread"]["tid"]);
    let thread = process.threads().flatten().find(|thread| u64::from(thread.tid()) == tid).unwrap().row();
    assert!(thread.on_cpu && thread.state == Some("Running"), "{thread:?}");
    let start = thread.start_address.unwrap().get() - number(&expected["kernel_base"]);
    assert_eq!(start, number(&expected["current_thread"]["start_address_rva"]));
    // Variables that contradict one another fit no table.
    let wrong = Hints { debugger_data: pointer(0x28), ..hints };
    assert!(Windows::open_virtual(&memory, &NoVcpus, &wrong, Limits::default(), Some(&mut files)).is_err());
}

/// The list of drivers: entries of 0x90 bytes with the place of the name and the loader's entry.
fn drivers(file: &[u8]) -> Vec<LoadedModule> {
    let word = |at: usize| u32_at(file, at).unwrap();
    let (place, count) = (word(0x2030) as usize, word(0x2034) as usize);
    let driver = |index: usize| {
        let at = place + index * 0x90;
        let name = word(at) as usize;
        let units = file[name + 4..][..word(name) as usize * 2].chunks(2);
        let units: Vec<_> = units.map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
        LoadedModule {
            name: String::from_utf16(&units).unwrap(),
            base: VirtAddr::new(u64_at(file, at + 8 + 0x30).unwrap()),
            size: word(at + 8 + 0x40).into(),
            timestamp: Some(word(at + 8 + 0x80)),
        }
    };
    (0..count).map(driver).collect()
}
