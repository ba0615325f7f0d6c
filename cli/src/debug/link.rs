//! What an image says of its debug file, and what of that may be believed.

use std::path::{Component, Path};

use vmc::view::{BuildId, DebugLink};

/// What leads to an image's debug file: at least one of the two.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Name {
    pub(crate) id: Option<BuildId>,
    pub(crate) link: Option<DebugLink>,
}

impl Name {
    pub(crate) fn of(id: Option<&BuildId>, link: Option<&DebugLink>) -> Option<Self> {
        (id.is_some() || link.is_some()).then(|| Self { id: id.cloned(), link: link.cloned() })
    }
}

/// Bytes of a file's name, as file systems bound it.
const LONGEST: usize = 255;

/// The name of a file in a directory that the link means. The guest wrote it: of a path only what is behind its last
/// separator counts, and nothing that would lead out of the directory.
pub(super) fn file_name(name: &[u8]) -> Option<&str> {
    let name = std::str::from_utf8(name).ok()?;
    let name =
        name.rsplit(['/', '\\']).next().filter(|name| name.len() <= LONGEST && !name.contains('\0'))?;
    // A drive, `.` and `..` are no names.
    let mut components = Path::new(name).components();
    match (components.next(), components.next()) {
        (Some(Component::Normal(only)), None) if only == name => Some(name),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::file_name;

    #[test]
    fn no_name_leads_out_of_a_directory() {
        for (name, meant) in [
            (&b"a.debug"[..], Some("a.debug")),
            (b"..debug", Some("..debug")),
            (b"/usr/lib/debug/a.debug", Some("a.debug")),
            (b"../../etc/passwd", Some("passwd")),
            (b"..\\..\\a", Some("a")),
            (b"", None),
            (b".", None),
            (b"..", None),
            (b"a/..", None),
            (b"a/", None),
            (b"/", None),
            (b"a\\..", None),
            (b"a\0b", None),
            (b"\xff\xfe", None),
            (&[b'a'; 255], Some(&"a".repeat(255))),
            (&[b'a'; 256], None),
        ] {
            assert_eq!(file_name(name), meant, "{name:?}");
        }
    }
}
