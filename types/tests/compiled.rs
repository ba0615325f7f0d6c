//! DWARF of a compiler against what the compiled program says of its own structures.
#![cfg(feature = "dwarf")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic and tell what they saw"
)]

mod common;

use std::path::PathBuf;
use std::process::Command;

use object::{Object, ObjectSection};
use vmc::Limits;
use vmc::layout::{LayoutError, Layouts, Types};
use vmc_types::{DwarfTypes, Sections};

/// Prints a line a member: structure, path, offset and size in bytes; or, after `bits`, both in bits.
const SOURCE: &str = r#"
#include <stddef.h>
#include <stdio.h>
#include <string.h>
typedef unsigned long word_t;
struct only_declared;
enum colour { RED, GREEN = 0x1000 };
struct inner { char c; short s[3]; };
typedef const volatile struct inner alias_t;
union both { long l; struct inner i; };
struct outer {
    char first;
    struct { int anon_a; union { short anon_b; long long anon_c; }; };
    alias_t aliased;
    union both choice;
    struct only_declared *pointer;
    int (*function)(int);
    word_t words[2][5];
    enum colour colour;
    char bytes256[256], bytes65536[65536]; short shorts256[3][256];
    unsigned one:1, five:5, eleven:11;
    long long wide:40;
    struct { unsigned char deep:3, deeper:4; } packed_bits;
    char flexible[];
};
#define SAY(s, m) printf(#s " " #m " %zu %zu\n", offsetof(struct s, m), sizeof(((struct s *)0)->m))
/* The lowest bit that is set when the member is one, and how many are set when it is all ones. */
#define BITS(m) do { unsigned char b[sizeof(struct outer)]; struct outer o; size_t i, low = 0, n = 0; \
    memset(&o, 0, sizeof o); o.m = 1; memcpy(b, &o, sizeof o); \
    for (i = 0; i < 8 * sizeof o; i++) if (b[i / 8] >> i % 8 & 1) { low = i; break; } \
    memset(&o, 0, sizeof o); o.m = -1; memcpy(b, &o, sizeof o); \
    for (i = 0; i < 8 * sizeof o; i++) n += b[i / 8] >> i % 8 & 1; \
    printf("bits " #m " %zu %zu\n", low, n); } while (0)
struct outer global; struct inner other; union both third;
int main(void) {
    SAY(outer, first); SAY(outer, anon_a); SAY(outer, anon_b); SAY(outer, anon_c); SAY(outer, aliased);
    SAY(outer, aliased.s); SAY(outer, choice); SAY(outer, choice.l); SAY(outer, choice.i.s); SAY(outer, pointer);
    SAY(outer, function); SAY(outer, words); SAY(outer, colour);
    SAY(outer, bytes256); SAY(outer, bytes65536); SAY(outer, shorts256); SAY(outer, packed_bits); SAY(inner, s);
    BITS(one); BITS(five); BITS(eleven); BITS(wide); BITS(packed_bits.deep); BITS(packed_bits.deeper);
    printf("outer . 0 %zu\ninner . 0 %zu\n", sizeof(struct outer), sizeof(struct inner));
    return 0;
}
"#;

/// A program built with `options`: its file, and what it says.
fn build(name: &str, options: &[&str]) -> Option<(Vec<u8>, String)> {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let (source, program) = (directory.join(format!("{name}.c")), directory.join(name));
    std::fs::write(&source, SOURCE).unwrap();
    let built = Command::new("gcc").args(options).arg("-o").arg(&program).arg(&source).output();
    if !built.is_ok_and(|built| built.status.success()) {
        common::skip(&format!("gcc {options:?} does not work here"));
        return None;
    }
    let said = Command::new(&program).output().unwrap();
    Some((std::fs::read(&program).unwrap(), String::from_utf8(said.stdout).unwrap()))
}

fn sections(file: &[u8]) -> Sections {
    let file = object::read::elf::ElfFile64::<object::LittleEndian>::parse(file).unwrap();
    let section = |name| {
        let data = file.section_by_name(name).map(|section| section.data().unwrap().to_vec());
        data.unwrap_or_default().into()
    };
    Sections {
        info: section(".debug_info"),
        abbrev: section(".debug_abbrev"),
        str: section(".debug_str"),
        line_str: section(".debug_line_str"),
        str_offsets: section(".debug_str_offsets"),
    }
}

#[test]
fn layouts_are_those_of_the_program() {
    let versions: [&[&str]; 5] = [
        &["-g", "-gdwarf-2", "-gstrict-dwarf"],
        &["-g", "-gdwarf-3", "-gstrict-dwarf"],
        &["-g", "-gdwarf-4"],
        &["-g", "-gdwarf-5"],
        &["-g", "-gdwarf-5", "-O2"],
    ];
    for (number, options) in versions.into_iter().enumerate() {
        let Some((file, said)) = build(&format!("layouts{number}"), options) else { return };
        let types = DwarfTypes::load(sections(&file), &Limits::default()).unwrap();
        let layout = types.layout("outer", &Limits::default()).unwrap();
        let mut compared = 0;
        for line in said.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let (offset, size): (u64, u64) = (words[2].parse().unwrap(), words[3].parse().unwrap());
            let told = match (words[0], words[1]) {
                ("bits", path) => {
                    let (base, name) = path.split_once('.').unwrap_or(("", path));
                    let (base, layout) = match base {
                        "" => (0, &layout),
                        // Of a nested one: its own offset, and within it what the member's bytes tell.
                        base => {
                            let member = types.member("outer", path).unwrap();
                            assert_eq!(member.offset, offset / 8, "{options:?} {line}");
                            assert_eq!(types.member("outer", base).unwrap().offset, offset / 8);
                            assert!(name.starts_with("deep"));
                            compared += 1;
                            continue;
                        }
                    };
                    let member = layout.members.iter().find(|member| member.name == name).unwrap();
                    (base + member.bit_offset, member.bit_size)
                }
                (structure, ".") => (0, types.size_of(structure).unwrap()),
                (structure, path) => {
                    let member = types.member(structure, path).unwrap();
                    (member.offset, member.size)
                }
            };
            assert_eq!(told, (offset, size), "{options:?} {line}");
            compared += 1;
        }
        assert_eq!(compared, 26);
        let words = layout.members.iter().find(|member| member.name == "words").unwrap();
        assert_eq!((words.type_name.as_str(), words.bit_size), ("word_t[10]", 640));
        let pointer = layout.members.iter().find(|member| member.name == "pointer").unwrap();
        assert_eq!(pointer.type_name, "struct only_declared *");
        assert!(matches!(types.member("outer", "nothing"), Err(LayoutError::NoMember { .. })));
        assert!(matches!(types.size_of("only_declared"), Err(LayoutError::NoType { .. })));
        assert!(matches!(types.size_of("nowhere"), Err(LayoutError::NoType { .. })));
    }
}

/// Whatever is cut off or changed: an error, or other numbers; never a panic, never an end that does not come.
#[test]
fn damaged_dwarf_is_an_error() {
    let Some((file, _)) = build("damaged", &["-g", "-gdwarf-5"]) else { return };
    let whole = sections(&file);
    let ask = |sections: Sections| {
        if let Ok(types) = DwarfTypes::load(sections, &Limits::default()) {
            let _ = types.member("outer", "choice.i.s");
            let _ = types.layout("outer", &Limits::default());
        }
    };
    let info = whole.info.to_vec();
    for cut in 0..info.len() {
        ask(Sections { info: info[..cut].to_vec().into(), ..whole.clone() });
    }
    for at in 0..info.len() {
        for mask in [0x01, 0x80, 0xff] {
            let mut changed = info.clone();
            changed[at] ^= mask;
            ask(Sections { info: changed.into(), ..whole.clone() });
        }
    }
    let abbrev = whole.abbrev.to_vec();
    for at in 0..abbrev.len() {
        let mut changed = abbrev.clone();
        changed[at] ^= 0x55;
        ask(Sections { abbrev: changed.into(), ..whole.clone() });
        ask(Sections { abbrev: abbrev[..at].to_vec().into(), ..whole.clone() });
    }
}
