//! BTF that is made by hand: every way to a member, and every way to be damaged.

use alloc::vec;
use alloc::vec::Vec;

use super::*;

/// Writes BTF: types are numbered from 1 in the order in which they are added.
#[derive(Default)]
struct Writer {
    types: Vec<u8>,
    strings: Vec<u8>,
}

impl Writer {
    fn name(&mut self, name: &str) -> u32 {
        if self.strings.is_empty() {
            self.strings.push(0);
        }
        if name.is_empty() {
            return 0;
        }
        let at = self.strings.len() as u32;
        self.strings.extend(name.bytes().chain([0]));
        at
    }

    fn add(&mut self, name: &str, kind: u32, count: u32, size_or_type: u32, behind: &[u32]) {
        let name = self.name(name);
        for word in [name, kind << 24 | count, size_or_type].iter().chain(behind) {
            self.types.extend(word.to_le_bytes());
        }
    }

    fn structure(&mut self, name: &str, size: u32, members: &[(&str, u32, u32)]) {
        let behind: Vec<u32> =
            members.iter().flat_map(|(name, id, bits)| [self.name(name), *id, *bits]).collect();
        self.add(name, 4, members.len() as u32, size, &behind);
    }

    fn bytes(&mut self) -> Vec<u8> {
        self.name("");
        let mut data = vec![0x9f, 0xeb, 1, 0];
        let (types, strings) = (self.types.len() as u32, self.strings.len() as u32);
        for word in [24, 0, types, types, strings] {
            data.extend(word.to_le_bytes());
        }
        data.extend(&self.types);
        data.extend(&self.strings);
        data
    }
}

fn parse(data: Vec<u8>) -> Result<Btf<'static>, &'static str> {
    Btf::parse(Cow::Owned(data), &Limits::default())
}

fn sample() -> Writer {
    let mut w = Writer::default();
    w.add("int", 1, 0, 4, &[32]); // 1
    w.add("", 2, 0, 1, &[]); // 2: int *
    w.add("", 3, 0, 0, &[1, 1, 5]); // 3: int[5]
    w.structure("", 16, &[("inner", 1, 32), ("pointer", 2, 64)]); // 4: anonymous
    w.add("alias", 8, 0, 4, &[]); // 5: typedef of the anonymous one
    w.structure("task", 64, &[("pid", 1, 0), ("", 4, 64), ("array", 3, 192), ("named", 5, 384)]); // 6
    w
}

#[test]
fn members_are_found_where_they_lie() {
    let btf = parse(sample().bytes()).unwrap();
    let member = |path| btf.member("task", path).map(|member| (member.offset, member.size));
    assert_eq!(member("pid"), Ok((0, 4)));
    assert_eq!(member("inner"), Ok((12, 4)));
    assert_eq!(member("pointer"), Ok((16, 8)));
    assert_eq!(member("array"), Ok((24, 20)));
    assert_eq!(member("named.pointer"), Ok((56, 8)));
    assert_eq!(btf.size_of("task"), Ok(64));
    assert_eq!(member("pid.x").unwrap_err().to_string(), "task has no member pid.x");
    assert_eq!(btf.size_of("int").unwrap_err().to_string(), "the guest's types have no int");
}

#[test]
fn layouts_list_members_of_anonymous_structures() {
    let btf = parse(sample().bytes()).unwrap();
    let layout = btf.layout("task", &Limits::default()).unwrap();
    let rows: Vec<_> =
        layout.members.iter().map(|m| (m.name.as_str(), m.bit_offset / 8, m.type_name.as_str())).collect();
    let expected = [
        ("pid", 0, "int"),
        ("inner", 12, "int"),
        ("pointer", 16, "int *"),
        ("array", 24, "int[5]"),
        ("named", 48, "alias"),
    ];
    assert_eq!(rows, expected);
}

#[test]
fn functions_have_numbers_also_on_top_of_other_types() {
    let mut w = sample();
    w.add("first", 12, 0, 1, &[]); // 7
    let kernel = parse(w.bytes()).unwrap();
    assert_eq!((kernel.function("first"), kernel.function("task")), (Some(7), None));
    let mut module = Writer::default();
    module.name("");
    // A module's strings go on behind the kernel's.
    let skip = w.strings.len() as u32;
    let name = module.name("second") + skip;
    for word in [name, 12 << 24, 1u32] {
        module.types.extend(word.to_le_bytes());
    }
    let module = kernel.split(Cow::Owned(module.bytes()), &Limits::default()).unwrap();
    assert_eq!((module.function("second"), module.function("first")), (Some(8), Some(7)));
}

#[test]
fn circles_end() {
    let mut w = Writer::default();
    w.add("loop", 8, 0, 1, &[]); // 1: typedef of itself
    w.structure("s", 8, &[("a", 1, 0), ("", 2, 0)]); // 2: contains itself, without a name
    let btf = parse(w.bytes()).unwrap();
    assert!(matches!(btf.member("s", "a"), Err(LayoutError::Damaged { .. })));
    assert!(matches!(btf.member("s", "b"), Err(LayoutError::Damaged { .. })));
    assert!(btf.layout("s", &Limits::default()).is_err());
}

/// Thirty structures, each with the next one twice: a thousand million members, and none of them has the name.
#[test]
fn few_types_with_many_members_are_no_endless_search() {
    let mut w = Writer::default();
    for inner in 2..32 {
        w.structure(if inner == 2 { "bomb" } else { "" }, 8, &[("", inner, 0), ("", inner, 0)]);
    }
    w.structure("", 8, &[]);
    let btf = parse(w.bytes()).unwrap();
    let many =
        |why: LayoutError| assert!(matches!(why, LayoutError::Damaged { reason, .. } if reason == TOO_MANY));
    many(btf.member("bomb", "a").unwrap_err());
    many(btf.layout("bomb", &Limits::default()).unwrap_err());
    let few = Limits { type_members: 4, ..Limits::default() };
    let task = Btf::parse(Cow::Owned(sample().bytes()), &few).unwrap();
    many(task.layout("task", &few).unwrap_err());
}

#[test]
fn damaged_data_is_refused_not_believed() {
    let whole = sample().bytes();
    for cut in 0..whole.len() {
        // Whatever is cut off: an error, or fewer names; never a panic.
        if let Ok(btf) = parse(whole[..cut].to_vec()) {
            assert!(btf.member("task", "named.pointer").is_err());
        }
    }
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0xff;
        if let Ok(btf) = parse(damaged) {
            let _ = btf.member("task", "named.pointer");
            let _ = btf.layout("task", &Limits::default());
        }
    }
    let limits = Limits { btf_types: 3, ..Limits::default() };
    assert!(Btf::parse(Cow::Owned(whole), &limits).is_err());
}
