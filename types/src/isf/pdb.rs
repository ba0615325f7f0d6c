//! Which PDB an ISF was made from: `metadata.windows.pdb`.

use super::json::{Cursor, Damage};

/// The PDB that an ISF was made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IsfPdb<'i> {
    /// The file's name: `ntkrnlmp.pdb`.
    pub database: &'i str,
    /// The GUID's bytes as they lie in an image's CodeView record.
    pub guid: [u8; 16],
    /// How often the file was written since it got the GUID.
    pub age: u32,
    /// For which kind of machine, as in an image's header: 0x8664 is x86-64.
    pub machine_type: Option<u16>,
}

/// What the metadata that begin at `place` say of a PDB, if they say anything of one.
pub(super) fn read(text: &str, place: u32) -> Option<IsfPdb<'_>> {
    let (mut database, mut guid, mut age, mut machine_type) = Default::default();
    let mut fields = |cursor: &mut Cursor<'_>| {
        cursor.object(|cursor, key| {
            match key.of(text) {
                "database" => database = Some(cursor.string()?.of(text)),
                "GUID" => guid = from_digits(cursor.string()?.of(text)),
                "age" => age = u32::try_from(cursor.unsigned()?).ok(),
                "machine_type" if cursor.peek().is_some_and(|byte| byte.is_ascii_digit()) => {
                    machine_type = u16::try_from(cursor.unsigned()?).ok();
                }
                _ => cursor.skip()?,
            }
            Ok(())
        })
    };
    let read: Result<(), Damage> = Cursor::new(text, place).object(|cursor, key| match key.of(text) {
        "windows" if cursor.peek() == Some(b'{') => cursor.object(|cursor, key| match key.of(text) {
            "pdb" if cursor.peek() == Some(b'{') => fields(cursor),
            _ => cursor.skip(),
        }),
        _ => cursor.skip(),
    });
    read.ok()?;
    Some(IsfPdb { database: database?, guid: guid?, age: age?, machine_type })
}

/// A GUID as it is written, 32 hex digits, as the bytes that lie in memory: the first three of its fields are little-endian.
fn from_digits(digits: &str) -> Option<[u8; 16]> {
    if digits.len() != 32 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let [a, b, c, d, e, f, g, h, rest @ ..] = u128::from_str_radix(digits, 16).ok()?.to_be_bytes();
    let [i, j, k, l, m, n, o, p] = rest;
    Some([d, c, b, a, f, e, h, g, i, j, k, l, m, n, o, p])
}
