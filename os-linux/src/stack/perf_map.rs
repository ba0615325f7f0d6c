//! `/tmp/perf-PID.map`: what a JIT compiler tells profilers about the code that it makes, out of the guest's page cache.
//!
//! Source: `tools/perf/Documentation/jit-interface.txt`: a line a function, start and size in hexadecimal, then the name.

use alloc::format;
use alloc::vec;

use vmc::symbols::{SymbolTable, SymbolTableBuilder};

use crate::error::LinuxError;
use crate::task::Task;

impl Task<'_, '_> {
    /// The functions of its process' perf map; none where it has none.
    pub(super) fn perf_map(&self) -> Result<SymbolTable, LinuxError> {
        let path = format!("/tmp/perf-{}.map", self.number_in_namespace()?);
        let Some(file) = self.cached_file(path.as_bytes())? else { return Ok(SymbolTable::default()) };
        let limits = self.linux.limits();
        let len = usize::try_from(file.size).unwrap_or(usize::MAX).min(limits.perf_map_bytes);
        let mut text = vec![0; len];
        file.read_with_holes(0, &mut text, |_| {});
        Ok(parse(&text, limits.symbols))
    }
}

/// At most `limit` functions. What is made anew where something was before is further down, and counts. Pages that are missing
/// are zero, and their lines are left out.
fn parse(text: &[u8], limit: usize) -> SymbolTable {
    let mut builder = SymbolTableBuilder::default();
    let lines = text.rsplit(|byte| *byte == b'\n');
    let functions = lines.filter_map(|line| {
        let mut parts = line.splitn(3, |byte| *byte == b' ');
        let mut number = || {
            let digits = core::str::from_utf8(parts.next()?).ok()?;
            u64::from_str_radix(digits.strip_prefix("0x").unwrap_or(digits), 16).ok()
        };
        let (start, size) = (number()?, number()?);
        let name = parts.next().filter(|name| !name.is_empty() && !name.contains(&0))?;
        Some((start, size, name))
    });
    for (start, size, name) in functions.take(limit) {
        builder.push(name, start, size, 't');
    }
    builder.build()
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn lines_that_make_sense_are_functions() {
        let text = b"7f0010 20 LazyCompile:~main a.js:1\n\
            zz 10 no\n7f0030 10\n\0\0\0\0\n0x7f0040 10 Function:b\n7f0050 8 \xff\n7f0010 20 LazyCompile:*main a.js:1\n7f0060 8 \0\n";
        let map = parse(text, 100);
        let name = |address| map.at(address).map(|symbol| symbol.name);
        assert_eq!(name(0x7f_002f), Some(&b"LazyCompile:*main a.js:1"[..]));
        assert_eq!(name(0x7f_0040), Some(&b"Function:b"[..]));
        assert_eq!((name(0x7f_0030), name(0x7f_0060), map.len()), (None, None, 4));
        assert_eq!(parse(text, 2).len(), 2);
        assert!(parse(b"", 9).is_empty());
    }
}
