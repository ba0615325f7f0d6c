//! volatility3's ISF of Windows' images: types and symbols in one, made of a PDB that it names.

use memchr::memmem;
use serde_json::Value;
use vmc::Limits;
use vmc::symbols::{SymbolTable, SymbolTableBuilder};
use vmc_types::IsfTypes;
use vmc_windows::CodeView;

/// Bytes of an ISF, unpacked.
pub(super) const BYTES: u64 = 256 << 20;
/// Members called `metadata` that are looked at: structures may have one, too.
const LOOKS: usize = 16;

/// Types and symbols; addresses are relative to the image's base.
pub(super) fn read(bytes: &[u8], limits: &Limits) -> Result<(IsfTypes, SymbolTable), String> {
    let types = IsfTypes::parse(bytes, limits).map_err(|why| why.to_string())?;
    let mut builder = SymbolTableBuilder::default();
    for symbol in types.symbols().take(limits.symbols) {
        builder.push(symbol.name.as_bytes(), symbol.address, 0, '?');
    }
    let symbols = builder.build();
    Ok((types, symbols))
}

/// The PDB that it was made of, by its `metadata`; nothing where it does not tell.
pub(super) fn made_of(bytes: &[u8]) -> Option<CodeView> {
    let key = br#""metadata""#;
    memmem::find_iter(bytes, key).take(LOOKS).find_map(|at| {
        let rest = bytes.get(at + key.len()..)?.trim_ascii_start().strip_prefix(b":")?;
        // Only that one value is parsed.
        let value = serde_json::Deserializer::from_slice(rest).into_iter::<Value>().next()?.ok()?;
        let pdb = value.get("windows")?.get("pdb")?;
        Some(CodeView {
            name: pdb.get("database")?.as_str()?.to_owned(),
            guid: guid(pdb.get("GUID")?.as_str()?)?,
            age: u32::try_from(pdb.get("age")?.as_u64()?).ok()?,
        })
    })
}

/// A GUID as it is written (32 hex digits), as the bytes that lie in memory.
pub(super) fn guid(text: &str) -> Option<[u8; 16]> {
    let written = u128::from_str_radix(text, 16).ok().filter(|_| text.len() == 32)?.to_be_bytes();
    let [d, c, b, a, f, e, h, g, rest @ ..] = written;
    let mut bytes = [a, b, c, d, e, f, g, h, 0, 0, 0, 0, 0, 0, 0, 0];
    bytes.iter_mut().skip(8).zip(rest).for_each(|(to, from)| *to = from);
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "5278AFF86C341677D7D7835C85B7B844";

    #[test]
    fn a_guid_is_read_as_it_is_written() {
        let image = CodeView { name: String::new(), guid: guid(ID).unwrap(), age: 1 };
        assert_eq!(image.guid_text(), ID);
        assert_eq!(&image.guid[..4], &[0xf8, 0xaf, 0x78, 0x52]);
        for wrong in ["", "5278", "5278AFF86C341677D7D7835C85B7B84", "+278AFF86C341677D7D7835C85B7B844x"] {
            assert_eq!(guid(wrong), None);
        }
    }

    #[test]
    fn metadata_is_told_from_members_of_that_name() {
        let text = format!(
            r#"{{"user_types": {{"_A": {{"fields": {{"metadata": {{"offset": 0}}}}}}}}, "note": "\"metadata\"",
            "metadata" : {{"windows": {{"pdb": {{"GUID": "{ID}", "age": 2, "database": "ntkrnlmp.pdb"}}}}}}}}"#
        );
        let pdb = made_of(text.as_bytes()).unwrap();
        assert_eq!((pdb.name.as_str(), pdb.guid_text().as_str(), pdb.age), ("ntkrnlmp.pdb", ID, 2));
        assert_eq!(made_of(br#"{"metadata": {"linux": {}}}"#), None);
        assert_eq!(made_of(br#"{"metadata": {"windows": {"pdb": {"GUID": "x"#), None);
    }
}
