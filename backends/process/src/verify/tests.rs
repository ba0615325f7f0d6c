//! Layouts of a guest that is made by hand in this process' memory, right ones and wrong ones.

use super::*;
use crate::layout::Piece;

const MIB: u64 = 1 << 20;
const HIGH: u64 = 4 << 30;
/// RAM is one block of this size; this much of it lies low in the guest.
const SIZE: u64 = 64 * MIB;
const LOW: u64 = 32 * MIB;

const KERNEL: u64 = 0xffff_ffff_8100_0000;
const DIRECT: u64 = 0xffff_8880_0000_0000;

/// A guest's RAM as its monitor has it.
struct Guest {
    block: Vec<u8>,
}

impl Guest {
    fn layout(&self, low: u64) -> Layout {
        let host = self.block.as_ptr().addr() as u64;
        let piece = |guest, len, host| Piece { guest: PhysAddr::new(guest), len, host };
        let pieces = vec![piece(0, low, host), piece(HIGH, SIZE - low, host + low)];
        Layout::new(pieces, format!("a cut at {low:#x}")).unwrap()
    }

    /// Writes at a guest-physical address, where the guest really has it.
    fn put(&mut self, guest: u64, bytes: &[u8]) {
        let at = if guest < HIGH { guest } else { guest - HIGH + LOW } as usize;
        self.block[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn entry(&mut self, table: u64, va: u64, level: u32, value: u64) {
        self.put(table + (va >> (12 + 9 * (level - 1)) & 0x1ff) * 8, &value.to_le_bytes());
    }

    /// A kernel whose code lies low, and whose page tables for all memory lie high.
    fn new() -> Self {
        let mut guest = Self { block: vec![0; SIZE as usize] };
        let (root, tables) = (0x1000, HIGH + 8 * MIB);
        // The code: one large page.
        guest.entry(root, KERNEL, 4, 0x2003);
        guest.entry(0x2000, KERNEL, 3, 0x3003);
        guest.entry(0x3000, KERNEL, 2, (2 * MIB) | 0x83);
        guest.put(2 * MIB, &[0xf3, 0x0f, 0x1e, 0xfa, 0x0f, 0x01, 0xf8, 0x90]);
        // All RAM, not to be executed.
        let none = 1 << 63;
        guest.entry(root, DIRECT, 4, tables | 3);
        guest.entry(tables, DIRECT, 3, tables + 0x1003);
        guest.entry(tables, DIRECT + HIGH, 3, tables + 0x2003);
        for at in (0..LOW).step_by(2 << 20) {
            guest.entry(tables + 0x1000, DIRECT + at, 2, at | 0x83 | none);
        }
        for at in (HIGH..HIGH + SIZE - LOW).step_by(2 << 20) {
            guest.entry(tables + 0x2000, DIRECT + at, 2, at | 0x83 | none);
        }
        guest
    }

    fn verify(&self, low: u64, registers: &[Registers], code: &[u64]) -> Result<Verified, VerifyError> {
        let layout = self.layout(low);
        let memory = ProcessMemory::open(std::process::id(), &layout).unwrap();
        let code: Vec<_> = code.iter().map(|at| VirtAddr::new(*at)).collect();
        verify_with(&layout, &memory, registers, &code)
    }
}

fn registers(cr3: u64, rip: u64) -> Registers {
    let registers = arch::x86_64::Registers { cr3, rip, cr0: 0x8005_0033, cr4: 0x20, ..Default::default() };
    Registers::X86_64(registers)
}

#[test]
fn the_right_cut_is_confirmed_and_says_by_what() {
    let verified = Guest::new().verify(LOW, &[registers(0x1000, KERNEL)], &[KERNEL + 4]).unwrap();
    assert!(verified.whole);
    assert_eq!(
        verified.confirmed,
        ["the code that vCPU 0 executes", "the kernel's entry at 0xffffffff81000004", "6 page tables"]
    );
}

#[test]
fn each_wrong_cut_is_refused() {
    let guest = Guest::new();
    for low in (4..64).step_by(4).map(|mib| mib * MIB).filter(|low| *low != LOW) {
        let refused = guest.verify(low, &[registers(0x1000, KERNEL)], &[]);
        assert!(
            matches!(refused, Err(VerifyError::Tables { .. } | VerifyError::Ram { .. })),
            "{low:#x} {refused:?}"
        );
    }
}

#[test]
fn of_several_the_right_one_is_chosen() {
    let guest = Guest::new();
    let candidates = || [LOW - 4 * MIB, LOW, LOW + 8 * MIB].map(|low| guest.layout(low)).to_vec();
    let pid = std::process::id();
    let (layout, memory, verified) = choose(pid, candidates(), &[registers(0x1000, KERNEL)]).unwrap();
    assert_eq!((layout, verified.whole), (guest.layout(LOW), true));
    assert_eq!(memory.total(), SIZE);
    // Without registers nothing tells them apart, and none is taken.
    let undecided = choose(pid, candidates(), &[]).unwrap_err();
    assert!(matches!(undecided, ChooseError::Undecided { count: 3 }), "{undecided}");
    let wrong = choose(pid, vec![guest.layout(4 * MIB)], &[registers(0x1000, KERNEL)]).unwrap_err();
    assert!(wrong.to_string().starts_with("the guest's memory contradicts a cut at 0x400000: "), "{wrong}");
}

#[test]
fn what_is_executed_has_to_be_code() {
    let mut guest = Guest::new();
    let verify = |guest: &Guest, cr3, rip, code: &[u64]| guest.verify(LOW, &[registers(cr3, rip)], code);
    let code = |result| matches!(result, Err(VerifyError::Code { .. }));
    assert!(code(verify(&guest, 0x1000, KERNEL + 4 * MIB, &[])), "not mapped");
    assert!(code(verify(&guest, 0x1000, DIRECT, &[])), "mapped as data");
    assert!(code(verify(&guest, 0x1000, KERNEL + 0x1000, &[])), "only zeroes");
    assert!(code(verify(&guest, 0x1000, KERNEL, &[KERNEL + 0x1000])), "only zeroes at the entry");
    assert!(matches!(verify(&guest, LOW, KERNEL, &[]), Err(VerifyError::Root { vcpu: 0, .. })));
    // A page table that leads out of memory.
    guest.entry(0x2000, KERNEL, 3, (2 * LOW) | 3);
    assert!(verify(&guest, 0x1000, KERNEL, &[]).is_err());
    // A processor that walks no page tables says nothing.
    let real = Registers::X86_64(arch::x86_64::Registers { cr0: 0x10, rip: 0xfff0, ..Default::default() });
    assert_eq!(guest.verify(LOW, &[real], &[]), Ok(Verified { confirmed: Vec::new(), whole: false }));
}

/// Boot parameters as Firecracker writes them: they tell a wrong cut without any register.
#[test]
fn the_memory_map_of_the_boot_tells_the_cut() {
    let mut guest = Guest { block: vec![0; SIZE as usize] };
    guest.put(0x7202, b"HdrS");
    guest.put(0x71e8, &[3]);
    let rows = [(0, 0x9_fc00, 1u32), (MIB, LOW - MIB, 1), (HIGH, SIZE - LOW, 1), (0xfee0_0000, 4096, 2)];
    for (index, (start, len, kind)) in rows.into_iter().enumerate() {
        let row = [&start.to_le_bytes()[..], &len.to_le_bytes(), &kind.to_le_bytes()].concat();
        guest.put(0x72d0 + index as u64 * 20, &row);
    }
    let verified = guest.verify(LOW, &[], &[]).unwrap();
    assert_eq!((verified.confirmed.len(), verified.whole), (1, true));
    for low in [LOW - 4 * MIB, LOW + 4 * MIB] {
        assert!(matches!(guest.verify(low, &[], &[]), Err(VerifyError::Firmware { .. })));
    }
}

#[test]
fn acpis_pointer_has_to_lead_to_a_table() {
    let mut guest = Guest { block: vec![0; SIZE as usize] };
    let place = LOW - 0x1000;
    let with_sum = |bytes: &mut [u8], at: usize| {
        bytes[at] = 0;
        bytes[at] = bytes.iter().fold(0u8, |sum, byte| sum.wrapping_sub(*byte));
    };
    let mut pointer = [0; 20];
    pointer[..8].copy_from_slice(b"RSD PTR ");
    pointer[16..].copy_from_slice(&(place as u32).to_le_bytes());
    with_sum(&mut pointer, 8);
    guest.put(0xf_5aa0, &pointer);
    let mut table = [0; 40];
    table[..8].copy_from_slice(b"RSDT\x28\0\0\0");
    table[36..].copy_from_slice(&[1, 2, 3, 4]);
    with_sum(&mut table, 9);
    guest.put(place, &table);
    assert_eq!(guest.verify(LOW, &[], &[]).unwrap().confirmed, ["ACPI's tables"]);
    let what = |result: Result<Verified, VerifyError>| result.unwrap_err().to_string();
    assert_eq!(
        what(guest.verify(LOW - MIB, &[], &[])),
        "by the layout, ACPI's table RSDT at 0x1fff000 is not in memory"
    );
    guest.put(place + 36, &[9]);
    assert_eq!(what(guest.verify(LOW, &[], &[])), "by the layout, ACPI's table RSDT at 0x1fff000 is damaged");
}
