//! The synthetic images and symbols of the shared data.

#![allow(dead_code, unused_imports, reason = "each test uses some of it")]

#[path = "skipped.rs"]
mod skipped;

pub(crate) use skipped::skip;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use vmc::arch::Registers;
use vmc::arch::x86_64::Registers as X86Registers;
use vmc::layout::{LayoutError, Layouts, Member, StructLayout, Types};
use vmc::symbols::{SymbolTable, SymbolTableBuilder};
use vmc::{Limits, VcpuError, Vcpus};
use vmc_types::IsfTypes;
use vmc_windows::{CodeView, Fits, GivenKernel, KernelIdentity, SymbolFiles};

pub(crate) fn folder() -> PathBuf {
    std::env::var_os("VMC_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"), PathBuf::from)
        .join("windows")
}

pub(crate) fn number(value: &Value) -> u64 {
    match value {
        Value::String(text) => u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap(),
        other => other.as_u64().unwrap(),
    }
}

/// Lone surrogates (`\\ud800`), which names of hostile guests have, are replaced: strings of Rust cannot hold them.
pub(crate) fn json(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap();
    let mut parts = text.split("\\ud");
    let mut sound = parts.next().unwrap().to_owned();
    for part in parts {
        let lone = matches!(part.as_bytes()[0], b'8'..=b'9' | b'a'..=b'f');
        let (surrogate, rest) = part.split_at(3);
        sound += if lone { "\\ufffd" } else { "\\ud" };
        sound += if lone { "" } else { surrogate };
        sound += rest;
    }
    serde_json::from_str(&sound).unwrap()
}

pub(crate) fn unpack(path: &Path) -> Vec<u8> {
    let out = std::process::Command::new("xz").arg("-dc").arg(path).output().unwrap();
    assert!(out.status.success(), "xz: {}", String::from_utf8_lossy(&out.stderr));
    out.stdout
}

/// Is what the tests need there?
pub(crate) fn missing() -> Option<&'static str> {
    if !folder().join("images").is_dir() {
        return Some("the shared data's windows/images is not there");
    }
    let xz = std::process::Command::new("xz").arg("--version").output();
    xz.is_err().then_some("xz is not installed")
}

/// The registers of `registers.json`, as far as QEMU's notes have them.
pub(crate) struct Ledger(Vec<X86Registers>);

impl Ledger {
    pub(crate) fn new(rows: &Value) -> Self {
        const ORDER: [&str; 16] = [
            "rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12", "r13",
            "r14", "r15",
        ];
        let vcpu = |row: &Value| X86Registers {
            general: ORDER.map(|name| number(&row[name])),
            rip: number(&row["rip"]),
            rflags: number(&row["rflags"]),
            cs: number(&row["cs"]) as u16,
            ss: number(&row["ss"]) as u16,
            fs_base: number(&row["fs_base"]),
            gs_base: number(&row["gs_base"]),
            kernel_gs_base: Some(number(&row["kernel_gs_base"])),
            cr0: number(&row["cr0"]),
            cr2: number(&row["cr2"]),
            cr3: number(&row["cr3"]),
            cr4: number(&row["cr4"]),
        };
        Self(rows["vcpus"].as_array().unwrap().iter().map(vcpu).collect())
    }

    /// Those in user mode alone.
    pub(crate) fn in_user_mode(mut self) -> Self {
        self.0.retain(X86Registers::in_user_mode);
        self
    }
}

impl Vcpus for Ledger {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn registers(&self, index: usize) -> Result<Registers, VcpuError> {
        let registers = self.0.get(index).cloned().map(Registers::X86_64);
        registers.ok_or(VcpuError::NoSuchVcpu { index, count: self.0.len() })
    }
}

struct Shared(Arc<IsfTypes>);

impl Types for Shared {
    fn member(&self, structure: &str, path: &str) -> Result<Member, LayoutError> {
        self.0.member(structure, path)
    }

    fn size_of(&self, structure: &str) -> Result<u64, LayoutError> {
        self.0.size_of(structure)
    }
}

impl Layouts for Shared {
    fn layout(&self, name: &str, limits: &Limits) -> Result<StructLayout, LayoutError> {
        self.0.layout(name, limits)
    }
}

/// The ISF files, each read once.
#[derive(Default)]
pub(crate) struct Files(HashMap<String, (Arc<IsfTypes>, SymbolTable)>);

impl Files {
    fn load(&mut self, id: &str) -> Option<&(Arc<IsfTypes>, SymbolTable)> {
        if !self.0.contains_key(id) {
            let path = folder().join(format!("symbols/ntkrnlmp.pdb/{id}.json.xz"));
            let types =
                path.exists().then(|| IsfTypes::parse(&unpack(&path), &Limits::default()).unwrap())?;
            let mut symbols = SymbolTableBuilder::default();
            for symbol in types.symbols() {
                symbols.push(symbol.name.as_bytes(), symbol.address, 0, 'T');
            }
            self.0.insert(id.to_owned(), (Arc::new(types), symbols.build()));
        }
        self.0.get(id)
    }
}

impl SymbolFiles for Files {
    fn kernel(&mut self, kernel: &KernelIdentity, fits: &Fits<'_>) -> Option<GivenKernel> {
        let found = if let Some(record) = &kernel.code_view {
            format!("{}-{:X}", record.guid_text(), record.age)
        } else {
            let names = std::fs::read_dir(folder().join("symbols/ntkrnlmp.pdb")).unwrap();
            let names = names.map(|name| name.unwrap().file_name().into_string().unwrap());
            let names: Vec<_> = names.map(|name| name.trim_end_matches(".json.xz").to_owned()).collect();
            let fitting: Vec<_> = names
                .into_iter()
                .filter(|id| self.load(id).is_some_and(|(_, symbols)| fits(symbols)))
                .collect();
            assert!(fitting.len() <= 1, "{fitting:?}");
            fitting.into_iter().next()?
        };
        let (types, symbols) = self.load(&found)?;
        Some(GivenKernel {
            source: "isf",
            types: Box::new(Shared(Arc::clone(types))),
            symbols: symbols.clone(),
            code_view: kernel.code_view.clone(),
        })
    }

    fn image(&mut self, _: &CodeView) -> Option<Arc<SymbolTable>> {
        None
    }
}
