//! The kernel's hash tables of sockets: they also know what no process has open any more.
//!
//! Source: `struct inet_hashinfo` in `include/net/inet_hashtables.h`, `struct udp_table` in `include/net/udp.h`,
//! `struct unix_table` in `include/net/netns/unix.h`.

use hashbrown::HashSet;
use vmc::bytes::u64_at;
use vmc::layout::Types;
use vmc::{ReadExt, VirtAddr};

use crate::error::LinuxError;
use crate::kernel::Linux;
use crate::lists::ChainWalk;

/// `UNIX_HASH_SIZE` and, before tables were one a namespace, twice that: both are 512.
const UNIX_BUCKETS: u64 = 512;
/// Bytes of a table that are read at once.
const PIECE: u64 = 4096;

/// What is told of each socket, or of what cannot be read.
type See<'a> = dyn FnMut(Result<VirtAddr, LinuxError>) + 'a;

/// How much of tables may still be walked.
#[derive(Clone, Copy, Debug)]
struct Left {
    buckets: u64,
    entries: usize,
}

/// A hash table: buckets beside each other, each with the head of a chain.
#[derive(Clone, Copy, Debug)]
struct Table {
    at: VirtAddr,
    buckets: u64,
    /// A bucket's size, and where the head lies in it.
    stride: u64,
    head: u64,
}

impl Linux<'_> {
    /// Shows all hashed sockets to `see`.
    pub(super) fn hashed_sockets(&self, see: &mut See<'_>) -> Result<(), LinuxError> {
        let (namespaces, ended) = self.net_namespaces()?;
        if let Some(why) = ended {
            see(Err(why));
        }
        let net = self.net()?;
        let limits = self.limits();
        let mut left = Left { buckets: limits.hash_buckets as u64, entries: limits.sockets };
        let left = &mut left;
        // One table may serve all namespaces, or each may have its own.
        let mut tcp: HashSet<VirtAddr> = self.tcp_table().into_iter().collect();
        let mut udp: HashSet<VirtAddr> = self.udp_table_of_all().into_iter().collect();
        for at in namespaces {
            for (field, tables) in [(net.tcp, &mut tcp), (net.udp, &mut udp)] {
                let table = field.and_then(|field| field.pointer(self.space(), at).ok());
                tables.extend(table.filter(|table| !table.is_null()));
            }
            let buckets = net.unix.and_then(|field| field.pointer(self.space(), at).ok());
            if let Some(at) = buckets.filter(|at| !at.is_null()) {
                self.chains(Table { at, buckets: UNIX_BUCKETS, stride: 8, head: 0 }, left, see)?;
            }
        }
        if let Some(at) = self.known.unix_socket_table {
            self.chains(Table { at, buckets: UNIX_BUCKETS, stride: 8, head: 0 }, left, see)?;
        }
        // A table that cannot be read does not hide the others.
        let mut done = Ok(());
        for at in tcp {
            done = self.tcp_sockets(at, left, see).and(done);
        }
        for at in udp {
            done = self.udp_sockets(at, left, see).and(done);
        }
        done
    }

    /// The table of TCP that all namespaces share, if there is one.
    fn tcp_table(&self) -> Option<VirtAddr> {
        let found = || self.found.tcp.get(|| self.find_protocol_table(b"TCP\0", "h.hashinfo")).ok().copied();
        self.known.tcp_hashinfo.or_else(|| found().flatten())
    }

    /// The same of UDP.
    fn udp_table_of_all(&self) -> Option<VirtAddr> {
        let found = || self.found.udp.get(|| self.find_protocol_table(b"UDP\0", "h.udp_table")).ok().copied();
        self.known.udp_table.or_else(|| found().flatten())
    }

    /// Connections, and sockets that wait for some.
    fn tcp_sockets(&self, info: VirtAddr, left: &mut Left, see: &mut See<'_>) -> Result<(), LinuxError> {
        let (space, types, fields) = (self.space(), self.types(), self.hash_info()?);
        let read = LinuxError::read("the table of TCP sockets");
        let established = Table {
            at: fields.established.pointer(space, info).map_err(&read)?,
            buckets: u64::from(fields.established_mask.read(space, info).map_err(&read)?) + 1,
            stride: types.size_of("inet_ehash_bucket")?,
            head: types.member("inet_ehash_bucket", "chain")?.offset,
        };
        self.chains(established, left, see)?;
        let stride = types.size_of("inet_listen_hashbucket")?.max(1);
        let head = types
            .member("inet_listen_hashbucket", "nulls_head")
            .or_else(|_| types.member("inet_listen_hashbucket", "head"))?
            .offset;
        // Until 5.18 those that wait lay in a table within; the second one chained them by another member.
        let listening = match types.member("inet_hashinfo", "listening_hash") {
            Ok(within) => {
                Table { at: info.wrapping_add(within.offset), buckets: within.size / stride, stride, head }
            }
            Err(why) => {
                let (Some(at), Some(mask)) = (fields.listening, fields.listening_mask) else {
                    return Err(why.into());
                };
                let buckets = u64::from(mask.read(space, info).map_err(&read)?) + 1;
                Table { at: at.pointer(space, info).map_err(&read)?, buckets, stride, head }
            }
        };
        self.chains(listening, left, see)
    }

    fn udp_sockets(&self, table: VirtAddr, left: &mut Left, see: &mut See<'_>) -> Result<(), LinuxError> {
        let (space, types, fields) = (self.space(), self.types(), self.udp_table()?);
        let read = LinuxError::read("the table of UDP sockets");
        let table = Table {
            at: fields.slots.pointer(space, table).map_err(&read)?,
            buckets: u64::from(fields.mask.read(space, table).map_err(&read)?) + 1,
            stride: types.size_of("udp_hslot")?,
            head: types.member("udp_hslot", "head")?.offset,
        };
        self.chains(table, left, see)
    }

    /// Shows what hangs on a table's buckets.
    fn chains(&self, table: Table, left: &mut Left, see: &mut See<'_>) -> Result<(), LinuxError> {
        const WHAT: &str = "a chain of sockets";
        let broken = |reason| LinuxError::Broken { what: "a table of sockets", at: table.at, reason };
        let buckets = left.buckets.checked_sub(table.buckets);
        left.buckets = buckets.ok_or_else(|| broken("it has more buckets than the limit"))?;
        let offset = self.sock()?.node.address(VirtAddr::new(0)).get();
        let stride = table.stride.clamp(8, PIECE);
        let at_once = PIECE / stride;
        for first in (0..table.buckets).step_by(at_once as usize) {
            let count = at_once.min(table.buckets - first);
            let at = table.at.wrapping_add(first * stride);
            let (bytes, error) = self.space().read_part(at, (count * stride) as usize);
            if let Some(why) = error {
                see(Err(LinuxError::read(WHAT)(why)));
            }
            for index in 0..count {
                let Some(head) = u64_at(&bytes, (index * stride + table.head) as usize) else { break };
                for at in ChainWalk::new(self, WHAT, VirtAddr::new(head), offset, left.entries) {
                    left.entries = left.entries.saturating_sub(1);
                    see(at);
                }
            }
        }
        Ok(())
    }
}
