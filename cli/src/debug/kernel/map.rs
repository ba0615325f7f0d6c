//! System.map: what `nm` prints of a kernel's image, a symbol a line.

use vmc::Limits;
use vmc::symbols::{SymbolTable, SymbolTableBuilder};

/// The symbols of a System.map.
pub(super) fn symbols(bytes: &[u8], limits: &Limits) -> Result<SymbolTable, String> {
    let mut builder = SymbolTableBuilder::default();
    for (number, line) in bytes.split(|byte| *byte == b'\n').enumerate().take(limits.symbols) {
        if line.is_empty() {
            continue;
        }
        let symbol = std::str::from_utf8(line).ok().and_then(|line| {
            let mut words = line.split_ascii_whitespace();
            let address = u64::from_str_radix(words.next()?, 16).ok()?;
            Some((address, words.next()?.chars().next()?, words.next()?))
        });
        let Some((address, kind, name)) = symbol else {
            return Err(format!("line {} is not an address, a letter and a name", number + 1));
        };
        builder.push(name.as_bytes(), address, 0, kind);
    }
    let table = builder.build();
    if table.is_empty() { Err("it has no symbols".into()) } else { Ok(table) }
}

#[cfg(test)]
mod tests {
    use super::symbols;
    use vmc::Limits;

    #[test]
    fn each_line_is_a_symbol() {
        let limits = Limits::default();
        let table =
            symbols(b"0000000000000000 A fixed_percpu_data\nffffffff81000000 T _text\n", &limits).unwrap();
        let text = table.named(b"_text").next().unwrap();
        assert_eq!((text.address, text.kind, table.len()), (0xffff_ffff_8100_0000, 'T', 2));
        assert_eq!(
            symbols(b"ffffffff81000000 T _text\n# T\n", &limits).unwrap_err(),
            "line 2 is not an address, a letter and a name"
        );
        assert!(symbols(b"", &limits).is_err());
    }
}
