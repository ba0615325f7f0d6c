//! `info ramblock` (and `x-query-ramblock`): QEMU's blocks of memory with their sizes.
//!
//! Source: `ram_block_format` in `system/physmem.c` of QEMU. Columns: name, page size, offset in QEMU's own address space of
//! blocks (not a guest's), used and full length; since 8.0 also `HVA` and `RO`.

use super::error::MonitorError;
use super::hex;

const COMMAND: &str = "info ramblock";
/// More blocks than a machine with every slot full has.
const MAX_BLOCKS: usize = 4096;

/// A block of memory of QEMU's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RamBlock {
    /// Its name: `pc.ram`, `/rom@etc/acpi/tables`.
    pub name: String,
    /// The bytes in use.
    pub used: u64,
    /// The bytes that it may grow to.
    pub total: u64,
    /// Where it lies in QEMU's process, where this QEMU tells it (8.0 and later).
    pub host: Option<u64>,
}

/// The blocks in the answer to `info ramblock`.
///
/// # Errors
/// [`MonitorError`] where there is no table, or a line of it is of another shape.
pub fn parse_ramblock(text: &str) -> Result<Vec<RamBlock>, MonitorError> {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let header = lines.next().filter(|line| line.starts_with("Block Name"));
    let Some(header) = header else {
        return Err(MonitorError::answer(COMMAND, super::error::excerpt(text)));
    };
    let has_host = header.split_whitespace().any(|column| column == "HVA");
    let mut blocks = Vec::new();
    for line in lines {
        if blocks.len() == MAX_BLOCKS {
            return Err(MonitorError::TooMany { command: COMMAND, things: "blocks", most: MAX_BLOCKS });
        }
        let block = block(line, has_host);
        blocks.push(block.ok_or_else(|| MonitorError::answer(COMMAND, super::error::excerpt(line)))?);
    }
    Ok(blocks)
}

/// A line, read from its end: names may have spaces in them.
fn block(line: &str, has_host: bool) -> Option<RamBlock> {
    let mut rest = line;
    let mut column = || {
        let (before, last) = rest.rsplit_once(char::is_whitespace)?;
        rest = before.trim_end();
        Some(last)
    };
    let host = if has_host {
        let _read_only = column()?;
        Some(hex(column()?)?)
    } else {
        None
    };
    let (total, used, _offset) = (hex(column()?)?, hex(column()?)?, hex(column()?)?);
    // The page size: a number and its unit.
    let (_unit, _number) = (column()?, column()?);
    Some(RamBlock { name: rest.to_owned(), used, total, host })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_the_table_are_read() {
        let old = "              Block Name    PSize              Offset               Used              Total\r\n\
             \x20                 pc.ram    4 KiB  0x0000000000000000 0x0000000007000000 0x0000000007000000\r\n\
             \x20   /rom@etc/acpi/tables    4 KiB  0x0000000007080000 0x0000000000020000 0x0000000000200000\r\n";
        let block = |name: &str, used, total, host| RamBlock { name: name.to_owned(), used, total, host };
        let expected = [
            block("pc.ram", 0x700_0000, 0x700_0000, None),
            block("/rom@etc/acpi/tables", 0x2_0000, 0x20_0000, None),
        ];
        assert_eq!(parse_ramblock(old).unwrap(), expected);
        let new = "Block Name PSize Offset Used Total HVA RO\n\
             0000:00:02.0/vga.vram 4 KiB 0x08080000 0x01000000 0x01000000 0x00007f31d7000000 rw\n\
             a name 2 MiB 0x0 0x1000 0x1000 0x0000000000001000 ro\n";
        let expected = [
            block("0000:00:02.0/vga.vram", 0x100_0000, 0x100_0000, Some(0x7f31_d700_0000)),
            block("a name", 0x1000, 0x1000, Some(0x1000)),
        ];
        assert_eq!(parse_ramblock(new).unwrap(), expected);
    }

    #[test]
    fn other_text_is_refused() {
        for wrong in ["", "unknown command: 'info ramblock'", "Block Name PSize\npc.ram 4 KiB x y z\n"] {
            assert!(parse_ramblock(wrong).is_err(), "{wrong}");
        }
        let endless = format!("Block Name\n{}", "a 4 KiB 0x0 0x0 0x0\n".repeat(MAX_BLOCKS + 1));
        assert!(matches!(parse_ramblock(&endless), Err(MonitorError::TooMany { .. })));
    }
}
