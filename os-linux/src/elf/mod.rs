//! ELF images of processes: what the page cache, or a process' memory, has of a program, a library or the vDSO.
//!
//! An image is read from its *file* where it has one: so sections that no process maps (`.symtab`, section headers) are
//! found too, and one image serves every process that maps the file. All addresses in it are link-time ones.

#[cfg(feature = "xz")]
mod debug_data;
mod debug_link;
mod go;
mod headers;
mod image;
mod names;
mod notes;
mod packed;
mod sections;
mod tables;

pub(crate) use image::{ElfImage, Source};
pub(crate) use notes::build_id;
