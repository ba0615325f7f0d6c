//! All sockets: those that processes have open, and those that only the kernel's tables still know.
//!
//! Source: `struct socket_alloc` in `include/net/sock.h`: a socket lies beside its inode, and its file leads to both.

use alloc::vec::Vec;

use hashbrown::HashMap;
use vmc::VirtAddr;
use vmc::layout::Types;
use vmc::view::{RowErrors, Socket};

use crate::error::LinuxError;
use crate::kernel::Linux;
use crate::net::socket::{NEW_REQUEST, TIME_WAIT};
use crate::task::Task;

/// The bits of an inode's mode that tell what it is, and what they are for a socket.
const KIND: u16 = 0o170_000;
const SOCKET: u16 = 0o140_000;

/// Sockets as they are found.
struct Found {
    rows: Vec<Socket>,
    /// Where in the rows a `struct sock` stands; nothing for one that is not shown.
    places: HashMap<VirtAddr, Option<usize>>,
    errors: RowErrors,
    /// How many descriptors and sockets may still come.
    left: usize,
}

impl Linux<'_> {
    /// The sockets of all network namespaces, by protocol, and why they are not all, where they are not.
    ///
    /// # Errors
    /// [`LinuxError`] where processes are not to be found.
    pub fn sockets(&self) -> Result<(Vec<Socket>, RowErrors), LinuxError> {
        let limits = self.limits();
        let mut found = Found {
            rows: Vec::new(),
            places: HashMap::new(),
            errors: RowErrors::default(),
            left: limits.sockets,
        };
        let layout = SocketLayout::of(self)?;
        for task in self.processes()? {
            let owned = task.and_then(|task| self.add_sockets_of(&task, &layout, &mut found));
            if let Err(why) = owned {
                found.errors.push(limits, "processes", &why);
            }
            if found.left == 0 {
                break;
            }
        }
        let mut add = |at: Result<VirtAddr, LinuxError>| {
            let added = at.and_then(|at| self.add_unowned(at, &layout, &mut found));
            if let Err(why) = added {
                found.errors.push(limits, "tables of sockets", &why);
            }
        };
        if let Err(why) = self.hashed_sockets(&mut add) {
            add(Err(why));
        }
        found.rows.sort_by_key(|row| row.protocol);
        Ok((found.rows, found.errors))
    }

    fn add_sockets_of(
        &self,
        task: &Task<'_, '_>,
        layout: &SocketLayout,
        found: &mut Found,
    ) -> Result<(), LinuxError> {
        let (descriptors, ended) = task.descriptors()?;
        let pid = task.pid()?;
        for descriptor in descriptors {
            take(&mut found.left)?;
            // What cannot be read is no socket; `lsof` tells of it.
            let Ok(Some((at, inode))) = layout.behind(self, descriptor.file) else { continue };
            let place = self.place(at, found)?;
            let Some(row) = place.and_then(|place| found.rows.get_mut(place)) else { continue };
            if row.pids.last() != Some(&pid) {
                row.pids.push(pid);
            }
            row.inode = Some(inode);
        }
        ended.map_or(Ok(()), Err)
    }

    fn add_unowned(&self, at: VirtAddr, layout: &SocketLayout, found: &mut Found) -> Result<(), LinuxError> {
        if found.places.contains_key(&at) {
            return Ok(());
        }
        let place = self.place(at, found)?;
        let Some(row) = place.and_then(|place| found.rows.get_mut(place)) else { return Ok(()) };
        let read = LinuxError::read("a socket");
        let state = self.sock()?.state.read(self.space(), at).map_err(&read)?;
        if ![TIME_WAIT, NEW_REQUEST].contains(&state) {
            let socket = self.sock_socket()?.socket.pointer(self.space(), at).map_err(&read)?;
            if !socket.is_null() {
                let inode = layout.inode(socket);
                row.inode = Some(self.inode()?.number.read(self.space(), inode).map_err(&read)?);
            }
        }
        Ok(())
    }

    /// Where the `struct sock` at `at` stands in the rows; it is added where it is new.
    fn place(&self, at: VirtAddr, found: &mut Found) -> Result<Option<usize>, LinuxError> {
        if let Some(place) = found.places.get(&at) {
            return Ok(*place);
        }
        take(&mut found.left)?;
        let row = match self.socket_row(at) {
            Ok(row) => row,
            Err(why) => {
                found.places.insert(at, None);
                return Err(why);
            }
        };
        let place = row.map(|row| {
            found.rows.push(row);
            found.rows.len() - 1
        });
        found.places.insert(at, place);
        Ok(place)
    }
}

fn take(left: &mut usize) -> Result<(), LinuxError> {
    let reason = "there are more than the limit";
    let broken = LinuxError::Broken { what: "the sockets", at: VirtAddr::new(0), reason };
    *left = left.checked_sub(1).ok_or(broken)?;
    Ok(())
}

/// How a socket and its inode lie beside each other.
struct SocketLayout {
    socket: u64,
    inode: u64,
}

impl SocketLayout {
    fn of(linux: &Linux<'_>) -> Result<Self, LinuxError> {
        let offset = |member| linux.types().member("socket_alloc", member).map(|member| member.offset);
        Ok(Self { socket: offset("socket")?, inode: offset("vfs_inode")? })
    }

    /// The inode of a `struct socket`.
    fn inode(&self, socket: VirtAddr) -> VirtAddr {
        socket.wrapping_add(self.inode.wrapping_sub(self.socket))
    }

    /// The `struct sock` behind a `struct file`, and its inode's number; nothing for another file.
    fn behind(&self, linux: &Linux<'_>, file: VirtAddr) -> Result<Option<(VirtAddr, u64)>, LinuxError> {
        let space = linux.space();
        let read = LinuxError::read("a socket's file");
        let inode = linux.file()?.inode.pointer(space, file).map_err(&read)?;
        let socket = linux.file_state()?.private_data.pointer(space, file).map_err(&read)?;
        if socket.is_null() || inode != self.inode(socket) {
            return Ok(None);
        }
        let facts = linux.inode_facts()?;
        if facts.mode.read(space, inode).map_err(&read)? & KIND != SOCKET {
            return Ok(None);
        }
        let at = linux.socket()?.sock.pointer(space, socket).map_err(&read)?;
        if at.is_null() {
            return Ok(None);
        }
        Ok(Some((at, linux.inode()?.number.read(space, inode).map_err(&read)?)))
    }
}
