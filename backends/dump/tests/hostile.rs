//! Images that are cut short or changed anywhere: an error or a warning, never a panic, and no more memory than the file has.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "tests may panic")]

mod common;

use std::io::Write;
use std::path::Path;

use common::{Scratch, avml, core, lime, noise};
use vmc::{PhysAddr, PhysMemory};
use vmc_dump::{Image, OpenOptions};

/// Opens it and reads all that it has. Says whether it could be opened, and whether something was said to be wrong.
fn look(path: &Path) -> (bool, bool) {
    let mut options = OpenOptions { unpacked_limit: Some(64 << 20), ..OpenOptions::default() };
    let image = match Image::open_with(path, &mut options) {
        Ok(image) => image,
        Err(why) => {
            let line = why.to_string();
            assert!(!line.contains('\n') && line.len() > path.to_str().unwrap().len(), "{line}");
            return (false, true);
        }
    };
    let total = image.total();
    assert!(total <= 64 << 20, "{total} bytes of memory");
    for region in image.regions() {
        let mut buf = vec![0; usize::try_from(region.len).unwrap()];
        image.read(region.start, &mut buf).unwrap();
        assert!(image.slice(region.start, buf.len()).is_some());
        let _ = image.read(PhysAddr::new(region.end().get().wrapping_sub(4)), &mut [0; 8]);
    }
    (true, !image.warnings().is_empty())
}

/// An image of each format and packing.
fn images() -> Vec<(&'static str, Vec<u8>)> {
    // Text between the noise, so that something is compressed.
    let part = |seed| [noise(3000, seed), b"memory ".repeat(400), vec![0; 5000]].concat();
    let memory = [(0, part(1)), (0x10_0000, part(2))];
    let (lime, avml) = (lime(&memory), avml(&memory, 1 << 24));
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    gzip.write_all(&lime).unwrap();
    vec![("core", core(&memory)), ("gzip", gzip.finish().unwrap()), ("lime", lime), ("avml", avml)]
}

#[test]
fn an_image_that_is_cut_anywhere_is_said_to_be_cut() {
    let scratch = Scratch::new();
    for (name, image) in images() {
        let path = scratch.file(name, &image);
        assert_eq!(look(&path), (true, false), "{name}");
        let mut opened = 0;
        for len in (0..image.len()).filter(|len| len % 61 == 0 || *len < 300 || *len > image.len() - 40) {
            let (open, wrong) = look(&scratch.file("cut", &image[..len]));
            // Between two ranges nothing tells that another one followed.
            assert!(wrong || ["lime", "avml"].contains(&name), "{name} cut at {len}");
            opened += usize::from(open);
        }
        assert!(opened > 20, "{name}: only {opened} of the cut images could be opened");
    }
}

#[test]
fn bits_that_are_flipped_in_a_header_do_no_harm() {
    let scratch = Scratch::new();
    for (name, image) in images() {
        let mut changed = image.clone();
        for at in 0..300.min(image.len()) {
            for value in [image[at] ^ 0x01, image[at] ^ 0x80, 0xff] {
                changed[at] = value;
                look(&scratch.file(name, &changed));
            }
            changed[at] = image[at];
        }
    }
}

#[test]
fn any_bytes_behind_a_magic_do_no_harm() {
    let scratch = Scratch::new();
    for magic in [
        &b"EMiL\x01\0\0\0"[..],
        b"AVML\x02\0\0\0",
        b"\x1f\x8b\x08",
        b"\xfd7zXZ\0",
        b"\x28\xb5\x2f\xfd",
        b"\x7fELF\x02\x01",
    ] {
        for seed in 0..40 {
            let tail = if seed < 20 { noise(2000, seed + 100) } else { vec![seed as u8 - 20; 2000] };
            look(&scratch.file("any", &[magic, &tail].concat()));
        }
    }
}
