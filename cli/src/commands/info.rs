//! `info`: what guest it is.

use serde_json::{Value, json};
use vmc::LiveFacts;
use vmc::view::RowErrors;
use vmc_dump::{Format, Image};

use crate::args::Common;
use crate::commands::{Context, Question};
use crate::failure::Failure;
use crate::output::{address, object, optional, time};
use crate::target::Target;

/// The version of the JSON documents' schema.
pub(crate) const SCHEMA: u32 = 1;

pub(crate) fn run(context: &Context<'_>) -> Result<(), Failure> {
    let facts = context.linux.facts();
    context.notes.row(&"info", &facts.errors);
    let tainted = context.linux.tainted().ok();
    let text = |text: String| Value::String(text);
    let fields = [
        ("schema", json!(SCHEMA)),
        ("os", json!("linux")),
        ("release", json!(facts.release)),
        ("version", optional(facts.version, text)),
        ("arch", json!(facts.architecture.name())),
        ("hostname", optional(facts.hostname, text)),
        ("cpus", optional(facts.cpus, |cpus| json!(cpus))),
        ("memory_bytes", json!(context.target.ram_bytes())),
        ("kernel_base", address(facts.kernel_base)),
        ("kaslr_offset", optional(facts.kaslr_offset, address)),
        ("page_table_root", address(facts.page_table_root)),
        ("page_table_levels", json!(facts.page_table_levels)),
        ("boot_time", optional(facts.boot_time.and_then(time), text)),
        ("tainted", json!(tainted.as_ref().map(|(number, _)| number))),
        ("taints", json!(tainted.as_ref().map(|(_, letters)| letters).filter(|letters| !letters.is_empty()))),
        ("types", json!(context.linux.types().source())),
        ("symbols", json!(context.linux.kernel_symbols().source())),
        ("registers", json!(context.target.vcpus().count() > 0)),
    ];
    let fields = fields.into_iter().chain(of_target(context.target, context.common));
    context.output().object(object(fields, &facts.errors))
}

/// What is known of a target in which no operating system was found.
pub(crate) fn without_guest(question: &Question<'_>) -> Result<(), Failure> {
    let (target, common) = (question.target, &question.args.common);
    let vcpus = target.vcpus();
    let registers = (0..vcpus.count()).find_map(|index| vcpus.registers(index).ok());
    let fields = [
        ("schema", json!(SCHEMA)),
        ("arch", json!(registers.as_ref().map(|registers| registers.architecture().name()))),
        ("cpus", json!(vcpus.count())),
        ("memory_bytes", json!(target.ram_bytes())),
        ("registers", json!(registers.is_some())),
    ];
    let fields = fields.into_iter().chain(of_target(target, common));
    question.output().object(object(fields, &RowErrors::default()))
}

/// The rows that tell of the target.
pub(crate) fn of_target(target: &Target, common: &Common) -> Vec<(&'static str, Value)> {
    match target {
        Target::Image(image) => of_image(common, image),
        Target::Live(guest) => of_live(&guest.facts()),
    }
}

/// The rows that tell of an image.
fn of_image(common: &Common, image: &Image) -> Vec<(&'static str, Value)> {
    let layout = match image.format() {
        Format::ElfCore => "the core's program headers".to_owned(),
        Format::CrashFull => "the crash dump's runs of physical memory".to_owned(),
        Format::CrashBitmap => "the crash dump's bitmap of pages".to_owned(),
        Format::CrashTriage => "none: the crash dump has ranges of virtual memory only".to_owned(),
        Format::Lime | Format::Avml => "the image's range headers".to_owned(),
        _ if image.ram_base().is_null() => "flat: an offset is a physical address".to_owned(),
        _ => {
            let how = common.ram_base.map_or("by the kernel's page tables", |_| "--ram-base");
            format!("flat: offset 0 is physical {} ({how})", image.ram_base())
        }
    };
    Vec::from([
        ("backend", json!("dump")),
        ("format", json!(image.format().name())),
        ("layout", json!(layout)),
    ])
}

/// The rows that tell of a live guest.
fn of_live(facts: &LiveFacts) -> Vec<(&'static str, Value)> {
    Vec::from([
        ("backend", json!(facts.backend)),
        ("vmm", json!(facts.vmm)),
        ("vmm_pid", json!(facts.pid)),
        ("layout", json!(facts.layout)),
        ("memory", json!(facts.memory)),
        ("register_source", json!(facts.registers)),
    ])
}
