//! What a Windows kernel's ISF costs, on those of the shared data: unpacking it, finding what is in it, and being asked.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, reason = "a bench may panic and tell")]

use std::hint::black_box;
use std::path::{Path, PathBuf};

use criterion::{Criterion, criterion_group, criterion_main};
use lzma_rust2::XzReader;
use vmc::Limits;
use vmc::layout::Types;
use vmc_types::IsfTypes;

fn unpacked(packed: &[u8]) -> Vec<u8> {
    let mut reader = XzReader::new(packed, true);
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match lzma_rust2::Read::read(&mut reader, &mut buffer).unwrap() {
            0 => return bytes,
            read => bytes.extend_from_slice(buffer.get(..read).unwrap()),
        }
    }
}

fn reading(c: &mut Criterion) {
    let shared = std::env::var_os("VMC_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"), PathBuf::from);
    let path = shared.join("windows/symbols/ntkrnlmp.pdb/5278AFF86C341677D7D7835C85B7B844-1.json.xz");
    let Ok(packed) = std::fs::read(path) else {
        println!("skipped: the shared data's ISFs are not there");
        return;
    };
    let limits = Limits::default();
    let json = unpacked(&packed);
    c.bench_function("isf/unpack", |b| b.iter(|| unpacked(black_box(&packed))));
    c.bench_function("isf/parse", |b| b.iter(|| IsfTypes::parse(black_box(&json), &limits).unwrap()));
    c.bench_function("isf/parse and ask", |b| {
        b.iter(|| {
            let isf = IsfTypes::parse(black_box(&json), &limits).unwrap();
            for member in ["UniqueProcessId", "ActiveProcessLinks", "Peb", "Pcb.DirectoryTableBase"] {
                black_box(isf.member("_EPROCESS", member).unwrap());
            }
            isf.symbols().map(|symbol| symbol.address).max()
        });
    });
}

criterion_group!(benches, reading);
criterion_main!(benches);
