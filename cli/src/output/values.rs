//! Values as the command line promises them: addresses as strings, times in RFC 3339, absent fields left out.

use std::fmt::LowerHex;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::Value;
use vmc::text::printable;
use vmc::view::RowErrors;

use super::Object;

/// An address: `"0x…"`.
pub(crate) fn address(address: impl LowerHex) -> Value {
    Value::String(format!("{address:#x}"))
}

/// Something that may be absent.
pub(crate) fn optional<T>(value: Option<T>, make: impl FnOnce(T) -> Value) -> Value {
    value.map_or(Value::Null, make)
}

/// Strings.
pub(crate) fn texts(texts: &[String]) -> Value {
    Value::Array(texts.iter().map(|text| Value::String(text.clone())).collect())
}

/// Nanoseconds since 1970 as RFC 3339, UTC.
pub(crate) fn time(nanoseconds: i128) -> Option<String> {
    let seconds = u64::try_from(nanoseconds.div_euclid(1_000_000_000)).ok()?;
    let rest = u32::try_from(nanoseconds.rem_euclid(1_000_000_000)).ok()?;
    // What the formatter knows ends with the year 9999.
    let known = seconds < 253_402_300_800;
    let at = UNIX_EPOCH.checked_add(Duration::new(seconds, rest)).filter(|_| known)?;
    Some(humantime::format_rfc3339_nanos(at).to_string())
}

/// An object of `fields`; those that are null are left out, and what could not be read is told.
pub(crate) fn object(fields: impl IntoIterator<Item = (&'static str, Value)>, errors: &RowErrors) -> Object {
    let kept = fields.into_iter().filter(|(_, value)| !value.is_null());
    let mut object: Object = kept.map(|(name, value)| (name.to_owned(), value)).collect();
    if !errors.is_empty() {
        let mut messages = errors.messages.clone();
        if errors.more > 0 {
            messages.push(format!("and {} more", errors.more));
        }
        object.insert("errors".to_owned(), texts(&messages));
    }
    object
}

/// A value in a cell of CSV.
pub(super) fn flat(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().map(flat).collect::<Vec<_>>().join(" "),
        // A place in a source file: `file:line`.
        Value::Object(parts)
            if parts.len() == 2 && parts.contains_key("file") && parts.contains_key("line") =>
        {
            parts.values().map(flat).collect::<Vec<_>>().join(":")
        }
        Value::Object(parts) => {
            parts.iter().map(|(name, value)| format!("{name}={}", flat(value))).collect::<Vec<_>>().join(" ")
        }
        other => other.to_string(),
    }
}

/// `object` as flat rows, and what their columns are called: where it has a list of objects, each of these has a row.
pub(super) fn records(object: &Object) -> (Vec<String>, Vec<Vec<String>>) {
    let parts = object.iter().find_map(|(name, value)| {
        let parts = value.as_array()?.iter().map(Value::as_object).collect::<Option<Vec<_>>>()?;
        Some((name, parts)).filter(|(_, parts)| !parts.is_empty())
    });
    let Some((list, parts)) = parts else {
        return (object.keys().cloned().collect(), vec![object.values().map(flat).collect()]);
    };
    let own: Vec<(&String, &Value)> = object.iter().filter(|(name, _)| *name != list).collect();
    let names: Vec<&String> = parts.first().into_iter().flat_map(|part| part.keys()).collect();
    let header = own.iter().map(|(name, _)| (*name).clone());
    let header = header.chain(names.iter().map(|name| format!("{list}.{name}")));
    let rows = parts.iter().map(|part| {
        let told = names.iter().map(|name| part.get(*name).map_or(String::new(), flat));
        own.iter().map(|(_, value)| flat(value)).chain(told).collect()
    });
    (header.collect(), rows.collect())
}

/// A value for people.
pub(super) fn cell(value: &Value) -> String {
    match value {
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        other => printable(&flat(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_objects_has_a_row_for_each() {
        let one = serde_json::json!({ "name": "list_head", "members": [
            { "name": "next", "offset": 0 }, { "name": "prev", "offset": 8 },
        ], "ids": [1, 2] });
        let (header, rows) = records(one.as_object().unwrap());
        assert_eq!(header, ["name", "ids", "members.name", "members.offset"]);
        assert_eq!(rows, [["list_head", "1 2", "next", "0"], ["list_head", "1 2", "prev", "8"]]);
        assert_eq!(flat(&serde_json::json!({ "pid": "0x1", "net": 7 })), "pid=0x1 net=7");
        let plain = serde_json::json!({ "a": 1, "list": [], "at": { "file": "x.c", "line": 7 } });
        let (header, rows) = records(plain.as_object().unwrap());
        assert_eq!(
            (header, rows),
            (
                vec!["a".into(), "list".into(), "at".into()],
                vec![vec!["1".into(), String::new(), "x.c:7".into()]]
            )
        );
    }

    #[test]
    fn times_are_of_this_world() {
        assert_eq!(time(1_795_330_923_000_000_001).as_deref(), Some("2026-11-22T07:02:03.000000001Z"));
        assert_eq!(time(-1), None);
        assert_eq!(time(i128::MAX), None);
    }
}
