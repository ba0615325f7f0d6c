//! `registers`: the registers of all vCPUs.

use std::io::Write;

use serde_json::{Value, json};
use vmc::Registers;
use vmc::arch::{aarch64, x86_64};
use vmc::view::RowErrors;

use crate::args::Format;
use crate::commands::Question;
use crate::failure::Failure;
use crate::output::{Align, Column, Object, Row, address, object, optional};

/// Registers by name, in the order in which they are shown; those that the target does not tell are null.
type Named = Vec<(&'static str, Value)>;

/// The general registers' names, in the order of [`x86_64::Registers::general`].
const X86_64: [&str; 16] = [
    "rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
    "r15",
];
const AARCH64: [&str; 31] = [
    "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15",
    "x16", "x17", "x18", "x19", "x20", "x21", "x22", "x23", "x24", "x25", "x26", "x27", "x28", "x29", "x30",
];
/// Registers in a line of the table.
const IN_LINE: usize = 2;

/// A vCPU with its registers.
struct VcpuRow {
    index: usize,
    user: bool,
    named: Named,
    errors: RowErrors,
}

/// The same, for CSV, whose columns are those of the first vCPU's architecture.
struct X86Row<'r>(&'r VcpuRow);
struct ArmRow<'r>(&'r VcpuRow);

fn x86_64(registers: &x86_64::Registers) -> Named {
    let mut named: Named = vec![("rip", address(registers.rip)), ("rflags", address(registers.rflags))];
    named.extend(X86_64.into_iter().zip(registers.general.iter().map(address)));
    named.extend([
        ("cs", address(registers.cs)),
        ("ss", address(registers.ss)),
        ("fs_base", address(registers.fs_base)),
        ("gs_base", address(registers.gs_base)),
        ("kernel_gs_base", optional(registers.kernel_gs_base, address)),
        ("cr0", address(registers.cr0)),
        ("cr2", address(registers.cr2)),
        ("cr3", address(registers.cr3)),
        ("cr4", address(registers.cr4)),
    ]);
    named
}

fn aarch64(registers: &aarch64::Registers) -> Named {
    let mut named: Named = vec![("pc", address(registers.pc)), ("pstate", address(registers.pstate))];
    named.push(("sp", address(registers.sp)));
    named.extend(AARCH64.into_iter().zip(registers.x.iter().map(address)));
    let system = [
        ("ttbr0_el1", registers.ttbr0),
        ("ttbr1_el1", registers.ttbr1),
        ("tcr_el1", registers.tcr),
        ("sp_el0", registers.sp_el0),
        ("sp_el1", registers.sp_el1),
        ("tpidr_el0", registers.tpidr_el0),
        ("tpidr_el1", registers.tpidr_el1),
        ("vbar_el1", registers.vbar),
        ("mair_el1", registers.mair),
    ];
    named.extend(system.map(|(name, value)| (name, optional(value, address))));
    named
}

impl VcpuRow {
    fn fields(&self) -> Object {
        let mode = if self.user { "user" } else { "kernel" };
        let mode = if self.named.is_empty() { Value::Null } else { json!(mode) };
        let fields = [("vcpu", json!(self.index)), ("mode", mode)];
        object(fields.into_iter().chain(self.named.iter().cloned()), &self.errors)
    }

    /// The heading, and two registers a line.
    fn print(&self, out: &mut impl Write) -> std::io::Result<()> {
        let mode = match (self.named.is_empty(), self.user) {
            (true, _) => "",
            (_, true) => " in user mode",
            (_, false) => " in kernel mode",
        };
        writeln!(out, "vCPU {}{mode}", self.index)?;
        self.errors.messages.iter().try_for_each(|message| writeln!(out, "    ({message})"))?;
        let told = self.named.iter().filter_map(|(name, value)| Some((*name, value.as_str()?)));
        let cells: Vec<String> = told.map(|(name, value)| cell(name, value)).collect();
        for line in cells.chunks(IN_LINE) {
            writeln!(out, "{}", line.join("   ").trim_end())?;
        }
        writeln!(out)
    }
}

/// A name and a value, as wide as the longest name and a whole address are.
fn cell(name: &str, value: &str) -> String {
    format!("{name:<14} {value:<18}")
}

impl Row for X86Row<'_> {
    const FIELDS: &'static [&'static str] = &[
        "vcpu",
        "mode",
        "rip",
        "rflags",
        "rax",
        "rdx",
        "rcx",
        "rbx",
        "rsi",
        "rdi",
        "rbp",
        "rsp",
        "r8",
        "r9",
        "r10",
        "r11",
        "r12",
        "r13",
        "r14",
        "r15",
        "cs",
        "ss",
        "fs_base",
        "gs_base",
        "kernel_gs_base",
        "cr0",
        "cr2",
        "cr3",
        "cr4",
    ];
    const COLUMNS: &'static [Column] = &[("VCPU", Align::Right)];

    fn json(&self) -> Object {
        self.0.fields()
    }

    fn cells(&self) -> Vec<String> {
        vec![self.0.index.to_string()]
    }
}

impl Row for ArmRow<'_> {
    const FIELDS: &'static [&'static str] = &[
        "vcpu",
        "mode",
        "pc",
        "pstate",
        "sp",
        "x0",
        "x1",
        "x2",
        "x3",
        "x4",
        "x5",
        "x6",
        "x7",
        "x8",
        "x9",
        "x10",
        "x11",
        "x12",
        "x13",
        "x14",
        "x15",
        "x16",
        "x17",
        "x18",
        "x19",
        "x20",
        "x21",
        "x22",
        "x23",
        "x24",
        "x25",
        "x26",
        "x27",
        "x28",
        "x29",
        "x30",
        "ttbr0_el1",
        "ttbr1_el1",
        "tcr_el1",
        "sp_el0",
        "sp_el1",
        "tpidr_el0",
        "tpidr_el1",
        "vbar_el1",
        "mair_el1",
    ];
    const COLUMNS: &'static [Column] = &[("VCPU", Align::Right)];

    fn json(&self) -> Object {
        self.0.fields()
    }

    fn cells(&self) -> Vec<String> {
        vec![self.0.index.to_string()]
    }
}

pub(crate) fn run(question: &Question<'_>) -> Result<(), Failure> {
    let vcpus = question.target.vcpus();
    let limits = vmc::Limits::default();
    let count = vcpus.count().min(limits.cpus);
    if count == 0 {
        return Err(Failure::Said(format!("{}: it holds no registers", question.name())));
    }
    let mut arm = false;
    let rows: Vec<VcpuRow> = (0..count)
        .map(|index| {
            let mut errors = RowErrors::default();
            let (user, named) = match errors.keep(&limits, "registers", vcpus.registers(index)) {
                Some(Registers::X86_64(registers)) => (registers.in_user_mode(), x86_64(&registers)),
                Some(Registers::Aarch64(registers)) => {
                    arm = true;
                    (registers.in_user_mode(), aarch64(&registers))
                }
                _ => (false, Vec::new()),
            };
            question.notes.row(&format_args!("vCPU {index}"), &errors);
            VcpuRow { index, user, named, errors }
        })
        .collect();
    let mut output = question.output();
    if output.format() == Format::Table {
        let out = output.stream();
        rows.iter().try_for_each(|row| row.print(out))?;
        return Ok(out.flush()?);
    }
    if arm { output.rows(rows.iter().map(ArmRow)) } else { output.rows(rows.iter().map(X86Row)) }
}
