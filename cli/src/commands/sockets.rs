//! `sockets`: sockets with their owners.

use serde_json::json;
use vmc::view::Socket;

use crate::commands::Context;
use crate::commands::ps::unknown;
use crate::failure::Failure;
use crate::output::{Align, Column, Object, Row, address, object};

struct SocketRow(Socket);

impl Row for SocketRow {
    const FIELDS: &'static [&'static str] =
        &["protocol", "local", "remote", "state", "inode", "pids", "netns", "object", "errors"];
    const COLUMNS: &'static [Column] = &[
        ("PROTO", Align::Left),
        ("STATE", Align::Left),
        ("LOCAL", Align::Left),
        ("REMOTE", Align::Left),
        ("NETNS", Align::Right),
        ("PIDS", Align::Left),
    ];

    fn json(&self) -> Object {
        let row = &self.0;
        let fields = [
            ("protocol", json!(row.protocol)),
            ("local", json!(row.local)),
            ("remote", json!(row.remote)),
            ("state", json!(row.state)),
            ("inode", json!(row.inode)),
            ("pids", json!(row.pids)),
            ("netns", json!(row.netns)),
            ("object", address(row.object)),
        ];
        object(fields, &row.errors)
    }

    fn cells(&self) -> Vec<String> {
        let row = &self.0;
        // An unnamed end of a Unix socket is nothing that could not be read.
        let end = |end: &Option<String>| end.clone().unwrap_or_else(|| "-".to_owned());
        let pids: Vec<String> = row.pids.iter().map(u32::to_string).collect();
        vec![
            row.protocol.to_owned(),
            row.state.unwrap_or("?").to_owned(),
            end(&row.local),
            end(&row.remote),
            row.netns.map_or_else(unknown, |netns| netns.to_string()),
            pids.join(","),
        ]
    }
}

pub(crate) fn run(context: &Context<'_>, pid: Option<u32>) -> Result<(), Failure> {
    if let Some(pid) = pid {
        context.process(pid)?;
    }
    let (mut rows, errors) = context.linux.sockets().map_err(|why| context.failed(why))?;
    context.incomplete(&errors);
    rows.retain(|row| pid.is_none_or(|pid| row.pids.contains(&pid)));
    for row in &rows {
        context.notes.row(&format_args!("socket {}", row.object), &row.errors);
    }
    context.output().rows(rows.into_iter().map(SocketRow))
}
