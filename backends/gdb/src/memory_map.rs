//! Where the guest has memory, as a stub without a monitor tells it: `qXfer:memory-map:read`.
//!
//! Source: "Memory Map Format" in GDB's manual: `<memory type="ram" start="0x…" length="0x…"/>`.

use roxmltree::{Document, ParsingOptions};
use vmc::{PhysAddr, Region};

/// Ranges of one map.
const MAX_RANGES: usize = 1024;

/// The map's RAM, in ascending order.
pub(crate) fn parse(text: &str) -> Result<Vec<Region>, String> {
    if text.contains("<!ENTITY") {
        return Err("the memory map defines entities".into());
    }
    let options = ParsingOptions { allow_dtd: true, nodes_limit: 1 << 14, ..ParsingOptions::default() };
    let document =
        Document::parse_with_options(text, options).map_err(|error| format!("the memory map: {error}"))?;
    let mut regions: Vec<Region> = Vec::new();
    for node in document.root_element().descendants().filter(|node| node.has_tag_name("memory")) {
        if node.attribute("type") != Some("ram") {
            continue;
        }
        let number = |name| node.attribute(name).and_then(number);
        let (start, len) = number("start").zip(number("length")).ok_or("a range without start or length")?;
        if len == 0 || start.checked_add(len).is_none() || regions.len() == MAX_RANGES {
            return Err(format!("a range that no machine has: {start:#x}, {len:#x} bytes"));
        }
        regions.push(Region { start: PhysAddr::new(start), len });
    }
    sorted(regions)
}

/// `GPA+SIZE`, several with commas between them, sizes with K, M or G.
pub(crate) fn parse_option(text: &str) -> Result<Vec<Region>, String> {
    let wrong = || format!("{text:?} is no layout: GPA+SIZE, several with commas between them");
    let mut regions = Vec::new();
    for part in text.split(',') {
        let (start, size) = part.split_once('+').ok_or_else(wrong)?;
        // What stands behind an @ is where a process has it; here nobody asks.
        let size = size.split('@').next().unwrap_or_default();
        let (digits, unit) = match size.as_bytes().last() {
            Some(b'K' | b'k') => (size.get(..size.len() - 1), 10),
            Some(b'M' | b'm') => (size.get(..size.len() - 1), 20),
            Some(b'G' | b'g') => (size.get(..size.len() - 1), 30),
            _ => (Some(size), 0),
        };
        let start = number(start.trim()).ok_or_else(wrong)?;
        let len = digits.and_then(number).and_then(|len| len.checked_mul(1 << unit)).ok_or_else(wrong)?;
        if len == 0 || start.checked_add(len).is_none() || regions.len() == MAX_RANGES {
            return Err(wrong());
        }
        regions.push(Region { start: PhysAddr::new(start), len });
    }
    sorted(regions)
}

fn sorted(mut regions: Vec<Region>) -> Result<Vec<Region>, String> {
    regions.sort_by_key(|region| region.start);
    if let Some([a, b]) = regions.array_windows::<2>().find(|[a, b]| a.end() > b.start) {
        return Err(format!("two ranges overlap: those at {} and {}", a.start, b.start));
    }
    Ok(regions)
}

fn number(text: &str) -> Option<u64> {
    let hexadecimal = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let (digits, radix) = hexadecimal.map_or((text, 10), |digits| (digits, 16));
    if digits.starts_with('+') {
        return None;
    }
    u64::from_str_radix(digits, radix).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(start: u64, len: u64) -> Region {
        Region { start: PhysAddr::new(start), len }
    }

    #[test]
    fn maps_tell_their_ram() {
        let map = r#"<?xml version="1.0"?><memory-map><memory type="ram" start="0x100000000" length="0x40000000"/>
            <memory type="rom" start="0xfffc0000" length="0x40000"/><memory type="ram" start="0" length="655360"/></memory-map>"#;
        assert_eq!(parse(map).unwrap(), [region(0, 0xa_0000), region(1 << 32, 1 << 30)]);
        assert_eq!(parse_option("0x40000000+256M").unwrap(), [region(1 << 30, 256 << 20)]);
        assert_eq!(
            parse_option("4294967296+1G,0+0xa0000@0x7f0000").unwrap(),
            [region(0, 0xa_0000), region(1 << 32, 1 << 30)]
        );
    }

    #[test]
    fn impossible_maps_are_refused() {
        for wrong in
            ["", "1", "0+0", "0+-1", "0x+1", "0+18446744073709551615G", "0xffffffffffffffff+2", "0+2,1+2"]
        {
            assert!(parse_option(wrong).is_err(), "{wrong}");
        }
        let of = |text: &str| parse(&format!("<m>{text}</m>")).unwrap_err();
        assert!(of(r#"<memory type="ram" start="0"/>"#).contains("length"));
        assert!(of(r#"<memory type="ram" start="0xffffffffffffffff" length="2"/>"#).contains("no machine"));
        let twice = r#"<memory type="ram" start="0" length="2"/>"#.repeat(2);
        assert!(of(&twice).contains("overlap"));
        assert!(
            of(&r#"<memory type="ram" start="0" length="1"/>"#.repeat(MAX_RANGES + 1)).contains("no machine")
        );
    }
}
