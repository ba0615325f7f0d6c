//! `types`: the layout of a kernel type.

use std::io::Write;

use serde_json::{Value, json};
use vmc::layout::StructLayout;
use vmc::text::printable;

use crate::args::Format;
use crate::commands::Context;
use crate::failure::Failure;
use crate::output::{Output, object};

pub(crate) fn run(context: &Context<'_>, name: &str) -> Result<(), Failure> {
    let layout = context.linux.types().layout(plain(name), context.linux.limits());
    print(&mut context.output(), &layout.map_err(|why| context.failed(why.into()))?)
}

/// The name of a type that may be written as in C.
pub(crate) fn plain(name: &str) -> &str {
    let plain = name.strip_prefix("struct ").or_else(|| name.strip_prefix("union "));
    plain.unwrap_or(name).trim()
}

/// Prints a layout.
pub(crate) fn print(output: &mut Output, layout: &StructLayout) -> Result<(), Failure> {
    if output.format() == Format::Table {
        let out = output.stream();
        writeln!(out, "{} {{ /* {} bytes */", printable(&layout.name), layout.size)?;
        for member in &layout.members {
            let bits = match (member.bit_offset % 8, member.bit_size % 8) {
                (0, 0) => String::new(),
                (first, _) => format!(" bit {first}"),
            };
            let (offset, size) = (member.bit_offset / 8, member.bit_size.div_ceil(8));
            let text = printable(&format!("{} {}", member.type_name, member.name));
            writeln!(out, "    {text:<56}; /* {offset:5} {size:5}{bits} */")?;
        }
        writeln!(out, "}}")?;
        return Ok(out.flush()?);
    }
    let members = layout.members.iter().map(|member| {
        json!({
            "name": member.name,
            "offset": member.bit_offset / 8,
            "size": member.bit_size.div_ceil(8),
            "type": member.type_name,
        })
    });
    let fields = [
        ("name", json!(layout.name)),
        ("size", json!(layout.size)),
        ("members", Value::Array(members.collect())),
    ];
    output.object(object(fields, &vmc::view::RowErrors::default()))
}
