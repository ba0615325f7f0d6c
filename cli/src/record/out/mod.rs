//! What a recording is written as.

pub(crate) mod folded;
pub(crate) mod perf;
pub(crate) mod pprof;
pub(crate) mod svg;
#[cfg(test)]
mod tests;

use std::path::Path;

/// A form that a recording is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Svg,
    Folded,
    Pprof,
    Perf,
}

impl Form {
    /// By the ending of a file's name.
    ///
    /// # Errors
    /// Which endings there are.
    pub(crate) fn of(path: &Path) -> Result<Self, String> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let endings =
            [(".svg", Self::Svg), (".folded", Self::Folded), (".pb.gz", Self::Pprof), (".txt", Self::Perf)];
        let found = endings.iter().find(|(ending, _)| name.ends_with(ending)).map(|(_, form)| *form);
        found.ok_or_else(|| {
            format!(
                "-o {}: its ending says what is written: .svg (flame graph), .folded (folded stacks), .pb.gz (pprof) or .txt (perf script)",
                path.display()
            )
        })
    }
}
