//! volatility3's ISF: types and symbols in one.

use vmc::Limits;
use vmc::symbols::SymbolTable;
use vmc_linux::{Checks, GivenTypes, KernelIdentity};
use vmc_types::IsfTypes;

use super::same_kernel;

fn parse(bytes: &[u8], limits: &Limits) -> Result<IsfTypes, String> {
    IsfTypes::parse(bytes, limits).map_err(|why| why.to_string())
}

/// Its symbols.
pub(super) fn symbols(bytes: &[u8], limits: &Limits) -> Result<SymbolTable, String> {
    let table = parse(bytes, limits)?.symbol_table();
    if table.is_empty() { Err("it has no symbols".into()) } else { Ok(table) }
}

/// Its types, if it is of that very kernel.
pub(super) fn types(
    bytes: &[u8],
    kernel: &KernelIdentity,
    checks: &Checks<'_>,
    limits: &Limits,
) -> Result<GivenTypes, String> {
    let isf = parse(bytes, limits)?;
    let banner = isf.symbol("linux_banner").and_then(|symbol| from_base64(symbol.constant_data?));
    let banner = banner.and_then(|bytes| String::from_utf8(bytes).ok());
    let banner = banner.as_deref().map(|text| text.trim_end_matches(['\0', '\n']));
    same_kernel(kernel, None, banner, || Ok((checks.symbols)(&isf.symbol_table())))?;
    Ok(GivenTypes { source: "isf", types: Box::new(isf) })
}

/// RFC 4648, section 4.
fn from_base64(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=');
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 3);
    let (mut word, mut bits) = (0u32, 0u32);
    for letter in text.bytes() {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        word = word << 6 | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((word >> bits) as u8);
            word &= (1 << bits) - 1;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::from_base64;

    #[test]
    fn the_examples_of_the_rfc() {
        let examples = [
            ("", ""),
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9v", "foo"),
            ("Zm9vYg==", "foob"),
            ("Zm9vYmFy", "foobar"),
        ];
        for (text, bytes) in examples {
            assert_eq!(from_base64(text).as_deref(), Some(bytes.as_bytes()), "{text}");
        }
        assert_eq!(from_base64("Zm9v\n"), None);
    }
}
