//! Memory images on disk as guests: mapped, never copied, lent as slices.
//!
//! # What it gives
//! [`Image`] implements [`vmc::PhysMemory`] and [`vmc::Vcpus`] for
//! * **raw** images: a flat file whose offset is the physical address, or [that less a base](OpenOptions::ram_base); no
//!   registers;
//! * **ELF cores** as QEMU's `dump-guest-memory` and `virsh dump --memory-only` write them, with every vCPU's general,
//!   segment and control registers out of the `QEMU` notes (x86_64), or its general registers (aarch64); other writers' cores (VirtualBox, `/proc/vmcore`) as far as their
//!   program headers say it;
//! * **Windows crash dumps** of 64-bit machines (x64, ARM64): full ones and those with a bitmap of pages, with what the header says of the
//!   crash ([`Image::crash`]) and the registers of the processor that crashed; triage dumps, which have no physical memory but ranges of
//!   [virtual memory](Image::virtual_memory). The header's CONTEXT has general registers, flags and segment selectors: control registers
//!   (CR0, CR2, CR4 are 0, CR3 is the header's `DirectoryTableBase`, which under KPTI is the kernel's half even where the processor was in a
//!   program) and the bases of FS and GS (0) are not in it, nor is another processor;
//! * **LiME** images, and **AVML** images, which are compressed by snappy;
//! * all of them **compressed** by gzip, xz or zstd. What is compressed is unpacked once into a cache directory.
//!
//! The format is found from the file's content, never from its name. A file that is cut short is opened with a
//! [warning](Image::warnings); what it still has is read, what it lacks is said to be
//! [cut off](vmc::PhysError::CutOff). One that shrinks while it is read ends the process; programs can have it
//! [say so](say_when_lost).
//!
//! # What it is not for
//! It knows no OS. Live machines have backends of their own.
//!
//! # Example
//! ```
//! use vmc::{PhysAddr, PhysMemory};
//! use vmc_dump::{Format, Image};
//!
//! let path = std::env::temp_dir().join(format!("vmc-doc-{}.raw", std::process::id()));
//! let mut ram = vec![0u8; 2 << 20];
//! ram[0x1000..0x1005].copy_from_slice(b"hello");
//! std::fs::write(&path, &ram)?;
//!
//! let image = Image::open(&path)?;
//! assert_eq!(image.format(), Format::Raw);
//! assert_eq!(image.slice(PhysAddr::new(0x1000), 5), Some(&b"hello"[..]));
//! # std::fs::remove_file(&path)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod core_writer;
mod crash;
mod detect;
mod elf_core;
mod error;
mod image;
mod lime;
mod map;
mod prstatus;
mod prstatus_x86_64;
mod qemu_note;
mod segments;
mod sparse;
mod unpack;

pub use core_writer::{CoreWriter, NewFile, Unread, WriteError};
pub use crash::facts::{
    BugCheck, CrashDriver, CrashFacts, ExceptionRecord, TriageFacts, TriagePart, UnloadedDriver,
};
pub use error::OpenError;
pub use image::{Format, Image, OpenOptions};
pub use map::say_when_lost;
