//! `interfaces`: network interfaces.

use serde_json::json;
use vmc::view::Interface;

use crate::commands::Context;
use crate::commands::ps::unknown;
use crate::failure::Failure;
use crate::output::{Align, Column, Object, Row, address, object, optional, texts};

struct InterfaceRow(Interface);

impl Row for InterfaceRow {
    const FIELDS: &'static [&'static str] = &[
        "name",
        "index",
        "hardware_address",
        "addresses",
        "mtu",
        "up",
        "flags",
        "netns",
        "object",
        "errors",
    ];
    const COLUMNS: &'static [Column] = &[
        ("NETNS", Align::Right),
        ("IDX", Align::Right),
        ("NAME", Align::Left),
        ("STATE", Align::Left),
        ("MTU", Align::Right),
        ("HARDWARE", Align::Left),
        ("ADDRESSES", Align::Left),
    ];

    fn json(&self) -> Object {
        let row = &self.0;
        let fields = [
            ("name", json!(row.name)),
            ("index", json!(row.index)),
            ("hardware_address", json!(row.hardware_address)),
            ("addresses", texts(&row.addresses)),
            ("mtu", json!(row.mtu)),
            ("up", json!(row.up)),
            ("flags", optional(row.flags, address)),
            ("netns", json!(row.netns)),
            ("object", address(row.object)),
        ];
        object(fields, &row.errors)
    }

    fn cells(&self) -> Vec<String> {
        let row = &self.0;
        let number = |number: Option<u32>| number.map_or_else(unknown, |number| number.to_string());
        vec![
            number(row.netns),
            number(row.index),
            row.name.clone(),
            row.up.map_or_else(unknown, |up| if up { "up" } else { "down" }.to_owned()),
            number(row.mtu),
            row.hardware_address.clone().unwrap_or_else(|| "-".to_owned()),
            row.addresses.join(" "),
        ]
    }
}

pub(crate) fn run(context: &Context<'_>) -> Result<(), Failure> {
    let (rows, errors) = context.linux.interfaces().map_err(|why| context.failed(why))?;
    context.incomplete(&errors);
    for row in &rows {
        context.notes.row(&row.name, &row.errors);
    }
    context.output().rows(rows.into_iter().map(InterfaceRow))
}
