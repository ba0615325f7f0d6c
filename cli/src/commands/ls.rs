//! `ls`: a directory, out of the dentry cache.

use std::ffi::OsStr;

use serde_json::{Value, json};
use vmc::text::lossless;
use vmc::view::DirectoryEntry;
use vmc_linux::mode_text;

use crate::commands::Context;
use crate::commands::cat::INIT;
use crate::commands::ps::unknown;
use crate::failure::Failure;
use crate::output::{Align, Column, Object, Row, address, object, optional, time};

/// A row, and how much of its path the listed directory's own is.
struct EntryRow(DirectoryEntry, usize);

impl Row for EntryRow {
    const FIELDS: &'static [&'static str] = &[
        "name",
        "path",
        "type",
        "mode",
        "uid",
        "gid",
        "size",
        "inode",
        "device",
        "mtime",
        "target",
        "cached_bytes",
        "object",
        "errors",
    ];
    const COLUMNS: &'static [Column] = &[
        ("MODE", Align::Left),
        ("UID", Align::Right),
        ("GID", Align::Right),
        ("SIZE", Align::Right),
        ("CACHED", Align::Right),
        ("MTIME", Align::Left),
        ("NAME", Align::Left),
    ];

    fn json(&self) -> Object {
        let row = &self.0;
        let device = row.device.map(|(major, minor)| format!("{major}:{minor}"));
        let fields = [
            ("name", json!(row.name)),
            ("path", json!(row.path)),
            ("type", optional(row.kind, |kind| json!(kind.to_string()))),
            ("mode", optional(row.mode, |mode| Value::String(format!("{mode:04o}")))),
            ("uid", json!(row.uid)),
            ("gid", json!(row.gid)),
            ("size", json!(row.size)),
            ("inode", json!(row.inode)),
            ("device", json!(device)),
            ("mtime", optional(row.mtime.and_then(time), Value::String)),
            ("target", json!(row.target)),
            ("cached_bytes", json!(row.cached_bytes)),
            ("object", address(row.object)),
        ];
        object(fields, &row.errors)
    }

    fn cells(&self) -> Vec<String> {
        let row = &self.0;
        let number = |number: Option<u64>| number.map_or_else(unknown, |number| number.to_string());
        let size = match row.device {
            Some((major, minor)) => format!("{major},{minor}"),
            None => number(row.size),
        };
        let name = row.path.get(self.1..).filter(|name| !name.is_empty()).unwrap_or(&row.name);
        let arrow = match (&row.target, row.kind) {
            (Some(target), _) => format!(" -> {target}"),
            (None, Some('l')) => " -> ?".to_owned(),
            _ => String::new(),
        };
        vec![
            row.kind.zip(row.mode).map_or_else(unknown, |(kind, mode)| mode_text(kind, mode)),
            number(row.uid.map(u64::from)),
            number(row.gid.map(u64::from)),
            size,
            row.cached_bytes.map_or_else(|| "-".to_owned(), |bytes| bytes.to_string()),
            // To the minute.
            row.mtime
                .and_then(time)
                .map_or_else(unknown, |time| time.get(..16).unwrap_or(&time).replace('T', " ")),
            format!("{name}{arrow}"),
        ]
    }
}

pub(crate) fn run(
    context: &Context<'_>,
    path: &OsStr,
    pid: Option<u32>,
    recursive: bool,
) -> Result<(), Failure> {
    let task = context.process(pid.unwrap_or(INIT))?;
    let listing = task.list(path.as_encoded_bytes(), recursive).map_err(|why| context.failed(why))?;
    for row in &listing.entries {
        context.notes.row(&row.path, &row.errors);
    }
    context.incomplete(&listing.errors);
    let path = lossless(path.as_encoded_bytes());
    let own = match path.trim_end_matches('/') {
        "" => 1,
        path => path.len() + 1,
    };
    context.output().rows(listing.entries.into_iter().map(|row| EntryRow(row, own)))?;
    match (listing.partial, listing.directories) {
        (0, _) => {}
        (1, 1) => context.notes.warning(&format_args!(
            "{}: {path}: what the dentry cache has; there may be more in it",
            context.name
        )),
        (partial, all) => context.notes.warning(&format_args!(
            "{}: what the dentry cache has: there may be more in {partial} of the {all} directories",
            context.name
        )),
    }
    Ok(())
}
