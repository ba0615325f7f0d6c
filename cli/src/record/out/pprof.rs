//! pprof: the gzipped protocol buffer that `go tool pprof`, Pyroscope, Parca and speedscope read.
//!
//! Source: the fields' numbers and meanings are those of `proto/profile.proto` of github.com/google/pprof.

use std::collections::HashMap;
use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use prost::Message;
use vmc::text::printable;

use crate::record::profile::Profile;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Document {
    #[prost(message, repeated, tag = "1")]
    sample_type: Vec<ValueType>,
    #[prost(message, repeated, tag = "2")]
    sample: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    mapping: Vec<Mapping>,
    #[prost(message, repeated, tag = "4")]
    location: Vec<Location>,
    #[prost(message, repeated, tag = "5")]
    function: Vec<Function>,
    #[prost(string, repeated, tag = "6")]
    string_table: Vec<String>,
    #[prost(int64, tag = "9")]
    time_nanos: i64,
    #[prost(int64, tag = "10")]
    duration_nanos: i64,
    #[prost(message, optional, tag = "11")]
    period_type: Option<ValueType>,
    #[prost(int64, tag = "12")]
    period: i64,
    #[prost(int64, tag = "14")]
    default_sample_type: i64,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct ValueType {
    #[prost(int64, tag = "1")]
    kind: i64,
    #[prost(int64, tag = "2")]
    unit: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(uint64, repeated, tag = "1")]
    location_id: Vec<u64>,
    #[prost(int64, repeated, tag = "2")]
    value: Vec<i64>,
    #[prost(message, repeated, tag = "3")]
    label: Vec<Label>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Label {
    #[prost(int64, tag = "1")]
    key: i64,
    #[prost(int64, tag = "2")]
    text: i64,
    #[prost(int64, tag = "3")]
    number: i64,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Mapping {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(uint64, tag = "2")]
    memory_start: u64,
    #[prost(uint64, tag = "3")]
    memory_limit: u64,
    #[prost(uint64, tag = "4")]
    file_offset: u64,
    #[prost(int64, tag = "5")]
    filename: i64,
    #[prost(int64, tag = "6")]
    build_id: i64,
    #[prost(bool, tag = "7")]
    has_functions: bool,
}

#[derive(Clone, PartialEq, Message)]
struct Location {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(uint64, tag = "2")]
    mapping_id: u64,
    #[prost(uint64, tag = "3")]
    address: u64,
    #[prost(message, repeated, tag = "4")]
    line: Vec<Line>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Line {
    #[prost(uint64, tag = "1")]
    function_id: u64,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Function {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(int64, tag = "2")]
    name: i64,
    #[prost(int64, tag = "3")]
    system_name: i64,
    #[prost(int64, tag = "4")]
    filename: i64,
}

/// When it was recorded, and how often, all in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Times {
    /// The start, since 1970.
    pub(crate) start: u64,
    pub(crate) duration: u64,
    pub(crate) period: u64,
}

/// The strings of a document, each once; the first is empty.
struct Strings {
    all: Vec<String>,
    numbers: HashMap<String, i64>,
}

impl Strings {
    fn new() -> Self {
        Self { all: vec![String::new()], numbers: HashMap::from([(String::new(), 0)]) }
    }

    fn number(&mut self, text: &str) -> i64 {
        if let Some(known) = self.numbers.get(text) {
            return *known;
        }
        let number = signed(self.all.len() as u64);
        self.all.push(text.to_owned());
        self.numbers.insert(text.to_owned(), number);
        number
    }

    /// Text of the guest's, harmless where it is printed.
    fn shown(&mut self, text: &str) -> i64 {
        self.number(&printable(text).to_string())
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The recording as a document.
pub(crate) fn document(profile: &Profile, times: Times) -> Document {
    let mut strings = Strings::new();
    let mut value =
        |kind: &str, unit: &str| ValueType { kind: strings.number(kind), unit: strings.number(unit) };
    let (counted, timed) = (value("samples", "count"), value("cpu", "nanoseconds"));
    let mut limits: HashMap<u32, u64> = HashMap::new();
    for place in profile.places.iter() {
        if let Some(module) = place.module {
            let end = limits.entry(module).or_default();
            *end = place.address.saturating_add(1).max(*end);
        }
    }
    let page = |at: u64| at.checked_next_multiple_of(4096).unwrap_or(u64::MAX);
    let mapping = (0u32..).zip(profile.modules.iter()).map(|(number, module)| Mapping {
        id: u64::from(number) + 1,
        memory_start: module.base,
        memory_limit: page(limits.get(&number).copied().unwrap_or(module.base)),
        file_offset: 0,
        filename: strings.shown(if module.path == "kernel" { "[kernel.kallsyms]" } else { &module.path }),
        build_id: module.build_id.as_ref().map_or(0, |id| strings.number(&id.to_string())),
        has_functions: true,
    });
    let mapping = mapping.collect();
    let mut functions: HashMap<(Option<u32>, String), u64> = HashMap::new();
    let mut function = Vec::new();
    let mut location = Vec::new();
    for (number, place) in (1u64..).zip(profile.places.iter()) {
        let label = profile.label(place);
        let next = function.len() as u64 + 1;
        let id = *functions.entry((place.module, label.clone())).or_insert_with(|| {
            let file = place.module.and_then(|module| profile.modules.get(module));
            function.push(Function {
                id: next,
                name: strings.shown(&label),
                system_name: strings.shown(place.raw.as_deref().unwrap_or(&label)),
                filename: file.map_or(0, |module| strings.shown(&module.path)),
            });
            next
        });
        location.push(Location {
            id: number,
            mapping_id: place.module.map_or(0, |module| u64::from(module) + 1),
            address: place.address,
            line: vec![Line { function_id: id }],
        });
    }
    let keys = ["pid", "tid", "comm", "cpu"].map(|key| strings.number(key));
    let mut sample = Vec::new();
    for (key, count) in profile.sorted() {
        let Some(thread) = profile.threads.get(key.thread) else { continue };
        let [pid, tid, comm, cpu] = keys;
        let number = |key, number: u32| Label { key, text: 0, number: i64::from(number) };
        sample.push(Sample {
            location_id: profile
                .stacks
                .get(key.stack)
                .into_iter()
                .flatten()
                .map(|place| u64::from(*place) + 1)
                .collect(),
            value: vec![signed(count), signed(count.saturating_mul(times.period))],
            label: vec![
                number(pid, thread.pid),
                number(tid, thread.tid),
                Label { key: comm, text: strings.shown(&thread.name), number: 0 },
                number(cpu, key.cpu),
            ],
        });
    }
    Document {
        sample_type: vec![counted, timed],
        sample,
        mapping,
        location,
        function,
        time_nanos: signed(times.start),
        duration_nanos: signed(times.duration),
        period_type: Some(timed),
        period: signed(times.period),
        default_sample_type: timed.kind,
        string_table: strings.all,
    }
}

/// Writes the document.
pub(crate) fn write(profile: &Profile, times: Times, out: &mut dyn Write) -> io::Result<()> {
    let mut packed = GzEncoder::new(out, Compression::default());
    packed.write_all(&document(profile, times).encode_to_vec())?;
    packed.finish()?;
    Ok(())
}
