//! Which of an image's unwind tables describes an address, where it has more than one.
//!
//! A Go program that was linked with C has `.eh_frame` for its C code and `.debug_frame` for the rest. What a debug file
//! brings steps in where the image has nothing, or what it has is not in memory.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::Range;

use once_cell::race::OnceBox;
use vmc_unwind::{NoTable, Sections, UnwindTable};

use super::image::ElfImage;

/// The tables that are asked after the first.
#[derive(Debug, Default)]
pub(super) struct Further {
    /// The image's own `.debug_frame`, where it has an `.eh_frame` too.
    own: OnceBox<Option<UnwindTable>>,
    /// What a debug file brought.
    given: Vec<UnwindTable>,
}

impl ElfImage<'_, '_> {
    /// Has it no unwind table, or one that could not be read in whole?
    pub(crate) fn lacks_unwind_information(&self) -> bool {
        !self.table().is_ok_and(UnwindTable::is_whole)
    }

    /// Takes what its debug file has for unwinding, if that is of the same class.
    pub(crate) fn give(&mut self, sections: Sections) {
        let Sections { eh_frame_hdr, eh_frame, debug_frame, text, address_size } = sections;
        if address_size != self.headers.address_size {
            return;
        }
        if !eh_frame.bytes.is_empty() {
            let sections = Sections { eh_frame_hdr, eh_frame, text, address_size, ..Sections::default() };
            self.further.given.push(UnwindTable::new(sections));
        }
        if !debug_frame.bytes.is_empty() {
            let sections = Sections { debug_frame, text, address_size, ..Sections::default() };
            self.further.given.push(UnwindTable::new(sections));
        }
    }

    /// The table for a link-time address and, where there are several, the addresses that the answer holds for.
    pub(crate) fn table_at(&self, address: u64) -> (Result<&UnwindTable, NoTable>, Option<Range<u64>>) {
        let first = self.table();
        let own = self.own_debug_frame();
        if own.is_none() && self.further.given.is_empty() {
            return (first, None);
        }
        let mut tables = first.ok().into_iter().chain(own).chain(&self.further.given);
        match tables.find_map(|table| Some((table, table.covering(address)?))) {
            Some((table, function)) => (Ok(table), Some(function)),
            None => (first, Some(address..address.saturating_add(1))),
        }
    }

    fn own_debug_frame(&self) -> Option<&UnwindTable> {
        let read = || {
            let has_eh_frame =
                self.headers.eh_frame_hdr.is_some() || self.section_named(b".eh_frame").is_some();
            // Without it the first table is that of `.debug_frame`.
            has_eh_frame.then(|| self.debug_frame()).flatten()
        };
        self.further.own.get_or_init(|| Box::new(read())).as_ref()
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use crate::elf::Source;
    use alloc::string::String;
    use std::path::{Path, PathBuf};
    use std::process::Command;
    use vmc::Limits;
    use vmc_unwind::Scratch;

    /// A directory of the test's own; it is removed in the end.
    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(alloc::format!("vmc-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        /// Runs a tool in it; says if the tool is not there, or cannot do it.
        fn run(&self, tool: &str, arguments: &[&str]) -> bool {
            let mut command = Command::new(tool);
            command.args(arguments).current_dir(&self.0).env("HOME", &self.0).env("GO111MODULE", "off");
            let done = command.env("CGO_ENABLED", "0").output().is_ok_and(|output| output.status.success());
            if !done {
                assert!(std::env::var_os("VMC_REQUIRE_ALL").is_none(), "{tool} {arguments:?} failed");
                let _ = std::io::Write::write_fmt(
                    &mut std::io::stderr(),
                    std::format_args!("skipped: {tool} {arguments:?} does not work here\n"),
                );
            }
            done
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn image<'l>(path: &Path, limits: &'l Limits) -> ElfImage<'l, 'l> {
        ElfImage::new(String::new(), Source::Bytes(std::fs::read(path).unwrap()), limits).unwrap()
    }

    fn address_of(image: &ElfImage<'_, '_>, name: &[u8]) -> u64 {
        let symbols = image.symbols();
        symbols.iter().find(|symbol| symbol.name == name).unwrap().address
    }

    /// A program whose own code is in `.debug_frame`, and what it was linked with in `.eh_frame`.
    fn mixed_program(name: &str) -> Option<Directory> {
        let directory = Directory::new(name);
        // Enough of them that compression makes the section smaller: it is left as it is otherwise.
        let others = (0..100).map(|at| alloc::format!("int f{at}(int c) {{ return c + {at}; }}\n"));
        let source = others.collect::<String>() + "int main(int c, char **v) { return v[c] != 0; }";
        std::fs::write(directory.0.join("a.c"), source).unwrap();
        let flags = ["-g", "-gz=none", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables"];
        let arguments = [&flags[..], &["-o", "plain", "a.c"]].concat();
        directory.run("gcc", &arguments).then_some(directory)
    }

    #[test]
    fn code_that_eh_frame_lacks_is_found_in_debug_frame() {
        let Some(directory) = mixed_program("mixed") else { return };
        let limits = Limits::default();
        let plain = image(&directory.0.join("plain"), &limits);
        let (main, start) = (address_of(&plain, b"main"), address_of(&plain, b"_start"));
        assert_eq!(plain.table().unwrap().covering(main), None);
        let (table, holds) = plain.table_at(main + 1);
        let holds = holds.unwrap();
        assert!(table.unwrap().row_for(main + 1, &mut Scratch::new()).is_ok());
        assert!(holds.start == main && holds.contains(&(main + 1)) && !holds.contains(&start));
        assert_eq!(plain.table_at(start).0.unwrap().id(), plain.table().unwrap().id());
        // Where nothing covers an address, the answer holds for no other.
        assert_eq!(plain.table_at(1).1, Some(1..2));
        assert_eq!(plain.table_at(u64::MAX).1, Some(u64::MAX..u64::MAX));
    }

    #[test]
    fn compressed_debug_frames_are_what_was_compressed() {
        let Some(directory) = mixed_program("compressed") else { return };
        let limits = Limits::default();
        let plain = image(&directory.0.join("plain"), &limits);
        let bytes = plain.own_debug_frame().unwrap().frames().bytes.clone();
        for how in ["zlib-gabi", "zlib-gnu", "zstd"] {
            let option = alloc::format!("--compress-debug-sections={how}");
            if !directory.run("objcopy", &[&option, "plain", "packed"]) {
                continue;
            }
            let packed = image(&directory.0.join("packed"), &limits);
            let section = packed.own_debug_frame().map(|table| &table.frames().bytes);
            assert!(packed.section_named(b".debug_frame").is_none(), "{how} compressed nothing");
            let expected = cfg!(feature = "zlib") && how != "zstd";
            assert_eq!(section, expected.then_some(&bytes), "{how}");
            // More than may be unpacked.
            let few = Limits { unwind_bytes: bytes.len() - 1, ..Limits::default() };
            assert!(image(&directory.0.join("packed"), &few).own_debug_frame().is_none());
        }
    }

    #[test]
    fn a_debug_file_steps_in() {
        let Some(directory) = mixed_program("given") else { return };
        let stripped = ["--strip-debug", "--add-gnu-debuglink=plain", "plain", "bare"];
        if !directory.run("objcopy", &stripped) {
            return;
        }
        let limits = Limits::default();
        let plain = image(&directory.0.join("plain"), &limits);
        let mut bare = image(&directory.0.join("bare"), &limits);
        assert_eq!(bare.debug_link().map(|link| &*link.name), Some(&b"plain"[..]));
        let main = address_of(&plain, b"main");
        assert_eq!((bare.table_at(main).1, bare.lacks_unwind_information()), (None, false));
        let debug_frame = plain.own_debug_frame().unwrap().frames().clone();
        bare.give(Sections { debug_frame, ..Sections::default() });
        let row = |image: &ElfImage<'_, '_>| {
            image.table_at(main).0.unwrap().row_for(main, &mut Scratch::new()).unwrap()
        };
        assert_eq!(row(&bare), row(&plain));
    }

    /// Go compresses what its linker writes.
    #[test]
    #[cfg(feature = "zlib")]
    fn the_compressed_table_of_a_go_program_is_the_plain_one() {
        let directory = Directory::new("go");
        std::fs::write(directory.0.join("main.go"), "package main\nfunc main() { println(\"hello\") }\n")
            .unwrap();
        let built = |name, option| {
            let arguments = ["build", option, "-o", name, "main.go"];
            directory.run("go", &arguments)
        };
        if !built("plain", "-ldflags=-compressdwarf=false") || !built("packed", "-ldflags=") {
            return;
        }
        let limits = Limits::default();
        let [plain, packed] = ["plain", "packed"].map(|name| image(&directory.0.join(name), &limits));
        assert!(packed.section_named(b".debug_frame").is_none());
        let (plain, packed) = (plain.table().unwrap(), packed.table().unwrap());
        assert!(plain.frames().bytes.len() > 10_000);
        assert_eq!(plain.frames().bytes, packed.frames().bytes);
    }
}
