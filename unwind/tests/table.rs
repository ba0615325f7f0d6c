//! Tables: which FDE is found for an address, by header and by index, whole and with holes.

#![allow(clippy::panic, reason = "a test may panic, and so may its helpers")]

mod common;

use common::{Cfi, DEF_CFA_OFFSET, EH_FRAME, EH_FRAME_HDR, NO_CALLER};
use vmc_unwind::cfi::{CfaRule, RegisterRule};
use vmc_unwind::gimli::X86_64;
use vmc_unwind::{RowError, Scratch, Section, Sections, UnwindTable, eh_frame_address};

/// Three functions, the first two without a gap between them.
fn three() -> Cfi {
    let mut cfi = Cfi::default();
    let cie = cfi.cie("zR", &[]);
    cfi.fde(cie, 0x2000, 0x100, &[DEF_CFA_OFFSET, 32]);
    // After 4 bytes: CFA = rsp + 16, rbp at CFA - 16.
    cfi.fde(cie, 0x1000, 0x1000, &[0x44, DEF_CFA_OFFSET, 16, 0x86, 2]);
    cfi.fde(cie, 0x3000, 0x10, &NO_CALLER);
    cfi
}

fn cfa_offset(table: &UnwindTable, address: u64) -> Result<i64, RowError> {
    let row = table.row_for(address, &mut Scratch::new())?;
    match row.cfa {
        CfaRule::RegisterAndOffset { register: X86_64::RSP, offset } => Ok(offset),
        other => panic!("{other:?}"),
    }
}

#[test]
fn first_last_and_one_past_by_header_and_by_index() {
    let indexed = Sections { eh_frame_hdr: Section::default(), ..three().sections() };
    for table in [three().table(), UnwindTable::new(indexed)] {
        for (address, expected) in [
            (0xfff, None),
            (0x1000, Some(8)),
            (0x1003, Some(8)),
            (0x1004, Some(16)),
            (0x1fff, Some(16)),
            (0x2000, Some(32)),
            (0x20ff, Some(32)),
            (0x2100, None),
            (0x2fff, None),
            (0x3000, Some(8)),
            (0x300f, Some(8)),
            (0x3010, None),
            (0, None),
            (u64::MAX, None),
            (1 << 40, None),
        ] {
            assert_eq!(
                cfa_offset(&table, address),
                expected.ok_or(RowError::NoFde { address }),
                "{address:#x}"
            );
        }
    }
}

#[test]
fn rows_say_all_their_rules() {
    let row = three().table().row_for(0x1004, &mut Scratch::new()).unwrap();
    assert_eq!(
        (row.range.clone(), row.function.clone(), row.signal_frame),
        (0x1004..0x2000, 0x1000..0x2000, false)
    );
    assert_eq!(row.return_address, RegisterRule::Offset(-8));
    assert_eq!(row.register(X86_64::RBP), RegisterRule::Offset(-16));
    assert_eq!(row.register(X86_64::RBX), RegisterRule::Unspecified);
    let all: Vec<_> = row.registers().map(|(register, _)| register).collect();
    assert_eq!(all, [X86_64::RBP, X86_64::RA]);
    let row = three().table().row_for(0x3000, &mut Scratch::new()).unwrap();
    assert_eq!(row.return_address, RegisterRule::Undefined);
}

#[test]
fn signal_frames_are_marked() {
    let mut cfi = Cfi::default();
    let cie = cfi.cie("zRS", &[]);
    cfi.fde(cie, 0x1000, 0x10, &[]);
    assert!(cfi.table().row_for(0x1000, &mut Scratch::new()).unwrap().signal_frame);
}

#[test]
fn expressions_are_lent_from_the_section() {
    let mut cfi = Cfi::default();
    let cie = cfi.cie("zR", &[]);
    // DW_CFA_def_cfa_expression: rsp + 8.
    cfi.fde(cie, 0x1000, 0x10, &[0x0f, 2, 0x77, 8]);
    let table = cfi.table();
    let CfaRule::Expression(at) = table.row_for(0x1000, &mut Scratch::new()).unwrap().cfa else { panic!() };
    assert_eq!(table.expression(at), Some(&[0x77, 8][..]));
}

#[test]
fn an_fde_in_a_hole_is_not_resident() {
    let cfi = three();
    let at = cfi.fdes[1].1;
    for holes in [at..at + 1, at + 20..at + 21, 0..1, 2..8] {
        let mut sections = cfi.sections();
        sections.eh_frame.missing.push(holes.clone());
        let table = UnwindTable::new(sections);
        let missing = EH_FRAME + holes.start;
        assert_eq!(cfa_offset(&table, 0x1000), Err(RowError::NotResident { address: missing }));
        // The others need the CIE, but not this FDE.
        assert_eq!(cfa_offset(&table, 0x2000).is_ok(), holes.start >= at);
    }
}

#[test]
fn a_header_entry_in_a_hole_is_not_resident() {
    // Entries: 0x1000 at 12, 0x2000 at 20, 0x3000 at 28; the search begins in the middle.
    let mut sections = three().sections();
    sections.eh_frame_hdr.missing.push(28..30);
    let table = UnwindTable::new(sections);
    assert_eq!(cfa_offset(&table, 0x1000), Ok(8));
    for address in [0x2000, 0x3000] {
        assert_eq!(cfa_offset(&table, address), Err(RowError::NotResident { address: EH_FRAME_HDR + 28 }));
    }
}

#[test]
fn without_the_header_s_first_bytes_the_index_answers() {
    let mut sections = three().sections();
    sections.eh_frame_hdr.missing.push(0..12);
    assert_eq!(eh_frame_address(&sections.eh_frame_hdr, sections.address_size), None);
    let table = UnwindTable::new(sections);
    assert_eq!(cfa_offset(&table, 0x2000), Ok(32));
}

#[test]
fn an_index_with_a_hole_does_not_say_that_there_is_nothing() {
    let cfi = three();
    let (at, next) = (cfi.fdes[1].1, cfi.fdes[2].1);
    let mut sections = Sections { eh_frame_hdr: Section::default(), ..cfi.sections() };
    // Its length can be read, the rest not.
    sections.eh_frame.missing.push(at + 8..next);
    let table = UnwindTable::new(sections);
    assert_eq!((cfa_offset(&table, 0x2000), cfa_offset(&table, 0x3000)), (Ok(32), Ok(8)));
    assert_eq!(cfa_offset(&table, 0x1000), Err(RowError::NotResident { address: EH_FRAME + at + 8 }));
}

#[test]
fn unusual_headers_fall_back_to_the_index() {
    let mut sections = three().sections();
    // A table of absolute pointers, which it is not.
    sections.eh_frame_hdr.bytes[3] = 0x03;
    assert_eq!(cfa_offset(&UnwindTable::new(sections.clone()), 0x1000), Ok(8));
    assert_eq!(eh_frame_address(&sections.eh_frame_hdr, sections.address_size), Some(EH_FRAME));
    sections.eh_frame_hdr.bytes.truncate(3);
    assert_eq!(cfa_offset(&UnwindTable::new(sections), 0x1000), Ok(8));
}

#[test]
fn tables_have_numbers_of_their_own() {
    assert_ne!(three().table().id(), three().table().id());
}

#[test]
fn an_entry_beyond_the_bound_is_malformed() {
    let mut cfi = Cfi::default();
    let cie = cfi.cie("zR", &[]);
    cfi.fde(cie, 0x1000, 0x10, &vec![0; 300 << 10]);
    let row = cfi.table().row_for(0x1000, &mut Scratch::new());
    assert!(matches!(row, Err(RowError::Malformed { address: 0x1000, .. })), "{row:?}");
}

#[test]
fn debug_frame_serves_where_there_is_no_eh_frame() {
    // CIE of version 4: CFA = rsp + 8, return address at CFA - 8; its id is all ones.
    let mut bytes = vec![20, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 4, 0, 8, 0, 1, 0x78, 16, 0x0c, 7, 8, 0x90, 1];
    bytes.resize(24, 0);
    for (start, offset) in [(0x2000u64, 32), (0x1000, 16)] {
        bytes.extend([28, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend(start.to_le_bytes());
        bytes.extend(0x100u64.to_le_bytes());
        bytes.extend([0x0e, offset, 0, 0, 0, 0, 0, 0]);
    }
    let whole = Section::new(0, bytes);
    let table = |debug_frame: &Section| {
        UnwindTable::new(Sections { debug_frame: debug_frame.clone(), ..Sections::default() })
    };
    let mut scratch = Scratch::new();
    for (address, offset) in [(0x1000, 16), (0x10ff, 16), (0x2080, 32)] {
        let row = table(&whole).row_for(address, &mut scratch).unwrap();
        assert_eq!(row.cfa, CfaRule::RegisterAndOffset { register: X86_64::RSP, offset });
        assert_eq!(row.return_address, RegisterRule::Offset(-8));
    }
    assert!(table(&whole).row_for(0x1100, &mut scratch).is_err());
    // Cut off anywhere, or with holes: an error at the worst.
    for len in 0..whole.bytes.len() {
        let cut = Section::new(0, whole.bytes[..len].to_vec());
        let _ = table(&cut).row_for(0x1000, &mut scratch);
        let missing = std::iter::once(len as u64..len as u64 + 1).collect();
        let hole = Section { missing, ..whole.clone() };
        let found = table(&hole).row_for(0x1000, &mut scratch);
        assert!(found.is_ok() || matches!(found, Err(RowError::NotResident { .. })), "{len}: {found:?}");
    }
}
