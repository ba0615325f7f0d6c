use super::*;
use alloc::format;

const FILE: &str = r#"{
    "metadata": {"format": "6.2.0"},
    "base_types": {"int": {"size": 4, "signed": true, "kind": "int", "endian": "little"},
        "void": {"size": 0, "signed": false, "kind": "void", "endian": "little"}},
    "enums": {"colour": {"size": 4, "base": "int", "constants": {"RED": 0}}},
    "symbols": {"linux_banner": {"address": 18446744071587234304, "constant_data": "Zm9v", "type": {"kind": "base", "name": "int"}},
        "init_task": {"address": 18446744071590592512}},
    "user_types": {
        "unnamed_1": {"kind": "union", "size": 8, "fields": {
            "low": {"offset": 0, "type": {"kind": "base", "name": "int"}},
            "pointer": {"offset": 0, "type": {"kind": "pointer", "subtype": {"kind": "base", "name": "void"}}}}},
        "task": {"kind": "struct", "size": 64, "fields": {
            "unnamed_field_8": {"offset": 8, "anonymous": true, "type": {"kind": "union", "name": "unnamed_1"}},
            "next": {"offset": 16, "type": {"kind": "pointer", "subtype": {"kind": "struct", "name": "task"}}},
            "table": {"offset": 24, "type": {"kind": "array", "count": 3, "subtype": {"kind": "array", "count": 2, "subtype": {"kind": "base", "name": "int"}}}},
            "flag": {"offset": 48, "type": {"kind": "bitfield", "bit_length": 3, "bit_position": 9, "type": {"kind": "base", "name": "int"}}},
            "colour": {"offset": 52, "type": {"kind": "enum", "name": "colour"}},
            "call": {"offset": 56, "type": {"kind": "pointer", "subtype": {"kind": "function"}}},
            "gone": {"offset": 64, "type": {"kind": "struct", "name": "elsewhere"}}}}}}"#;

#[test]
fn every_kind_of_type() {
    let isf = IsfTypes::parse(FILE.as_bytes(), &Limits::default()).unwrap();
    let member = |path| isf.member("task", path).map(|member| (member.offset, member.size));
    assert_eq!(member("low"), Ok((8, 4)));
    assert_eq!(member("pointer"), Ok((8, 8)));
    assert_eq!(member("table"), Ok((24, 24)));
    assert_eq!(member("flag"), Ok((49, 1)));
    assert_eq!(member("colour"), Ok((52, 4)));
    assert!(member("gone").is_err() && member("unnamed_field_8").is_err());
    assert_eq!(isf.size_of("task"), Ok(64));
    let symbol = isf.symbol("linux_banner").unwrap();
    assert_eq!((symbol.address, symbol.constant_data), (0xffff_ffff_8180_0200, Some("Zm9v")));
    assert_eq!(isf.symbols().count(), 2);
}

#[test]
fn damaged_files_are_errors() {
    for cut in 0..FILE.len() {
        if FILE.is_char_boundary(cut) {
            assert!(IsfTypes::parse(&FILE.as_bytes()[..cut], &Limits::default()).is_err());
        }
    }
    let few = Limits { btf_types: 3, ..Limits::default() };
    assert!(IsfTypes::parse(FILE.as_bytes(), &few).is_err());
    // A type within a type, and so on.
    let deep = (0..90).fold(String::from(r#"{"kind": "base", "name": "int"}"#), |inner, _| {
        format!(r#"{{"kind": "array", "count": 2, "subtype": {inner}}}"#)
    });
    let file = FILE.replace(r#"{"kind": "enum", "name": "colour"}"#, &deep);
    let isf = IsfTypes::parse(file.as_bytes(), &Limits::default()).unwrap();
    assert!(isf.member("task", "colour").is_err() && isf.member("task", "flag").is_ok());
}

#[test]
fn descriptions_are_read_where_they_are_needed() {
    let structure = |fields: &str| {
        format!(
            r#"{{"user_types": {{"Option\u003cT>": {{"kind": "struct", "size": 8, "fields": {{{fields}}}}},
            "other": {{"kind": "union", "size": 8, "fields": {{}}}}}}, "base_types": {{}}}}"#
        )
    };
    let parse = |fields: &str| IsfTypes::parse(structure(fields).as_bytes(), &Limits::default()).unwrap();
    // Escapes that need not be are undone.
    let whole = parse(r#""a\/b": {"offset": 4, "type": {"kind": "union", "name": "other"}}"#);
    assert_eq!(whole.member("Option<T>", "a/b").map(|member| (member.offset, member.size)), Ok((4, 8)));
    // What is wrong with one is not with others.
    let damaged = parse(r#""a": {"offset": "4", "type": {"kind": "union", "name": "other"}}"#);
    assert_eq!(
        damaged.member("Option<T>", "a"),
        Err(LayoutError::Damaged { id: 0, reason: "a whole number is missing" })
    );
    assert_eq!(damaged.size_of("other"), Ok(8));
    // A structure that is anonymous and its own member.
    let circle =
        parse(r#""a": {"offset": 0, "anonymous": true, "type": {"kind": "struct", "name": "Option<T>"}}"#);
    assert!(circle.member("Option<T>", "b").is_err());
}

#[test]
fn the_pdb_that_a_file_was_made_from() {
    let with = |metadata: &str| {
        let file = FILE.replace(r#"{"format": "6.2.0"}"#, metadata);
        let isf = IsfTypes::parse(file.as_bytes(), &Limits::default()).unwrap();
        isf.pdb().map(|pdb| (pdb.guid, pdb.age, pdb.machine_type))
    };
    let guid =
        [0xf8, 0xaf, 0x78, 0x52, 0x34, 0x6c, 0x77, 0x16, 0xd7, 0xd7, 0x83, 0x5c, 0x85, 0xb7, 0xb8, 0x44];
    let pdb = r#"{"windows": {"pe": null, "pdb": {"GUID": "5278AFF86C341677D7D7835C85B7B844", "age": 2, "database": "nt.pdb", "machine_type": null}}}"#;
    assert_eq!(with(pdb), Some((guid, 2, None)));
    assert_eq!(with(&pdb.replace("null}}", "34404}}")), Some((guid, 2, Some(0x8664))));
    for wrong in [
        pdb.replace("44\"", "4\""),
        pdb.replace("5278", "+278"),
        pdb.replace("\"age\": 2", "\"age\": -1"),
        pdb.replace("\"age\": 2,", ""),
        r#"{"linux": {}}"#.to_string(),
        r#"{"windows": null}"#.to_string(),
        "[]".to_string(),
    ] {
        assert_eq!(with(&wrong), None, "{wrong}");
    }
}

#[test]
fn constants_of_enumerations() {
    let isf = IsfTypes::parse(FILE.as_bytes(), &Limits::default()).unwrap();
    assert_eq!(isf.enumerators("colour").unwrap().collect::<Vec<_>>(), [("RED", 0)]);
    assert!(isf.enumerators("task").is_err());
    let isf =
        IsfTypes::parse(FILE.replace(r#""RED": 0"#, r#""RED": -3, "X": 0.5"#).as_bytes(), &Limits::default());
    assert!(isf.unwrap().enumerators("colour").is_err());
}

#[test]
fn descriptions_without_end_are_refused() {
    let file = |filling: usize| {
        let filled = format!(r#"{{"kind": "enum", "x": "{}", "name": "colour"}}"#, " ".repeat(filling));
        let file = FILE.replace(r#"{"kind": "enum", "name": "colour"}"#, &filled);
        IsfTypes::parse(file.as_bytes(), &Limits::default()).unwrap().size_of("task")
    };
    assert_eq!(file(16_000), Ok(64));
    assert!(matches!(file(17_000), Err(LayoutError::Damaged { .. })));
    let few = Limits { type_members: 6, ..Limits::default() };
    assert!(IsfTypes::parse(FILE.as_bytes(), &few).unwrap().size_of("task").is_err());
}
