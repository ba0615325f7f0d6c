//! File systems, by their magic numbers (`include/uapi/linux/magic.h`): where their files' bytes are.

const TMPFS: u64 = 0x0102_1994;
const RAMFS: u64 = 0x8584_58f6;
const HUGETLBFS: u64 = 0x9584_58f6;
const OVERLAYFS: u64 = 0x794c_7630;

/// proc, sysfs, debugfs, tracefs, cgroup, cgroup2, securityfs, bpf, efivarfs, configfs, pstore, selinuxfs, smackfs, binfmt_misc,
/// devpts, mqueue, nsfs, fusectl.
const VIRTUAL: [u64; 18] = [
    0x9fa0,
    0x6265_6572,
    0x6462_6720,
    0x7472_6163,
    0x0027_e0eb,
    0x6367_7270,
    0x7363_6673,
    0xcafe_4a11,
    0xde5e_81e4,
    0x6265_6570,
    0x6165_676c,
    0xf97c_ff8c,
    0x4341_5d53,
    0x4249_4e4d,
    0x1cd1,
    0x1980_0202,
    0x6e73_6673,
    0x6573_5543,
];

/// Where the bytes of a file system's files are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Backing {
    /// In memory and nowhere else, or swapped out: what the page cache lacks is a hole.
    Memory,
    /// Elsewhere: what the page cache lacks is not known.
    Device,
    /// Nowhere: the kernel makes them up as they are read.
    Virtual,
    /// In huge pages, by which the cache may count.
    HugePages,
    /// In other file systems' files.
    Overlay,
}

impl Backing {
    pub(super) fn of(magic: u64) -> Self {
        match magic {
            TMPFS | RAMFS => Self::Memory,
            HUGETLBFS => Self::HugePages,
            OVERLAYFS => Self::Overlay,
            magic if VIRTUAL.contains(&magic) => Self::Virtual,
            _ => Self::Device,
        }
    }
}
