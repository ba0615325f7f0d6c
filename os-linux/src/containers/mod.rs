//! Containers: processes that live in namespaces of their own, put together by their control groups and PID namespaces.
//!
//! The kernel knows no containers. What is taken for one: processes whose control group has a name that a runtime gives to
//! containers and whose mount or PID namespace is not init's; and all other processes outside init's PID namespace, by the
//! outermost PID namespace that is not init's.

mod names;
mod namespaces;
mod root;

use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use vmc::text::lossless;
use vmc::view::{Container, RowErrors};
use vmc::{ReadExt, VirtAddr};

use crate::error::LinuxError;
use crate::kernel::Linux;
use crate::task::Task;
use namespaces::Namespaces;

/// Bytes of a name in `struct new_utsname` (`include/uapi/linux/utsname.h`).
const NAME: usize = 65;

/// What tells containers apart: the id and the runtime.
type Key = (String, Option<&'static str>);

/// The processes of a container: of all but the first, the number alone is kept.
struct Members<'k, 'm> {
    processes: Vec<u32>,
    first: Member<'k, 'm>,
}

impl<'k, 'm> Members<'k, 'm> {
    /// The first process is the one that has the lowest number inside.
    fn add(&mut self, member: Member<'k, 'm>) {
        self.processes.push(member.pid);
        if (member.inside, member.pid) < (self.first.inside, self.first.pid) {
            self.first = member;
        }
    }
}

/// A process of a container.
struct Member<'k, 'm> {
    task: Task<'k, 'm>,
    pid: u32,
    /// Its own number in the innermost namespace.
    inside: Option<u32>,
    control_group: Option<String>,
    namespaces: Namespaces,
}

impl<'m> Linux<'m> {
    /// The containers, in the order of their first processes, and why they are not all, where they are not.
    ///
    /// # Errors
    /// [`LinuxError`] where the processes, or init's namespaces, are not to be found.
    pub fn containers(&self) -> Result<(Vec<Container>, RowErrors), LinuxError> {
        let limits = self.limits();
        let own = self.process(1)?.namespaces()?;
        let own = |kind: &str| own.iter().find(|(known, _)| *known == kind).map(|(_, number)| *number);
        let (host_mounts, host_pids) = (own("mnt"), own("pid"));
        let mut errors = RowErrors::default();
        let mut found: BTreeMap<Key, Members<'_, 'm>> = BTreeMap::new();
        for task in self.processes()? {
            let member = task.and_then(|task| self.member(task, host_mounts, host_pids));
            match member {
                Ok(Some((key, member))) => match found.entry(key) {
                    Entry::Vacant(place) => {
                        place.insert(Members { processes: Vec::from([member.pid]), first: member });
                    }
                    Entry::Occupied(mut place) => place.get_mut().add(member),
                },
                Ok(None) => {}
                Err(why) => errors.push(limits, "containers", &why),
            }
        }
        let mut rows: Vec<Container> =
            found.into_iter().map(|((id, runtime), members)| self.container(id, runtime, members)).collect();
        rows.sort_by_key(|row| row.pid);
        Ok((rows, errors))
    }

    /// Which container a process is in.
    fn member<'k>(
        &'k self,
        task: Task<'k, 'm>,
        host_mounts: Option<u32>,
        host_pids: Option<u32>,
    ) -> Result<Option<(Key, Member<'k, 'm>)>, LinuxError> {
        if task.is_kernel_thread()? {
            return Ok(None);
        }
        let namespaces = task.namespaces()?;
        let number =
            |kind: &str| namespaces.iter().find(|(known, _)| *known == kind).map(|(_, number)| *number);
        let (mounts, pids) = (number("mnt"), number("pid"));
        let other_mounts = mounts.is_some() && mounts != host_mounts;
        let other_pids = pids.is_some() && pids != host_pids;
        if !other_mounts && !other_pids {
            return Ok(None);
        }
        let control_group = task.control_group()?.map(|path| lossless(&path));
        let named = control_group.as_deref().and_then(names::by_control_group);
        let key = match named {
            Some((id, runtime)) => (id, Some(runtime)),
            None if other_pids => (format!("pid:[{}]", task.outer_namespace()?), None),
            None => return Ok(None),
        };
        let (numbers, _) = task.numbers()?;
        let inside = numbers.last().copied();
        Ok(Some((key, Member { pid: task.pid()?, task, inside, control_group, namespaces })))
    }

    /// A container as a row.
    fn container(&self, id: String, runtime: Option<&'static str>, members: Members<'_, 'm>) -> Container {
        let mut errors = RowErrors::default();
        let Members { mut processes, first } = members;
        processes.sort_unstable();
        let hostname = errors.keep(self.limits(), "hostname", self.hostname_of(&first.task)).flatten();
        let root = self.container_root(&first.task, &mut errors);
        Container {
            id,
            runtime,
            pid: first.pid,
            pid_inside: first.inside,
            hostname,
            control_group: first.control_group,
            namespaces: first.namespaces,
            processes,
            root,
            errors,
        }
    }

    fn hostname_of(&self, task: &Task<'_, '_>) -> Result<Option<String>, LinuxError> {
        let Some(at) = task.uts_namespace()? else { return Ok(None) };
        let name = vmc::layout::Types::member(self.types(), "uts_namespace", "name.nodename")?;
        let text = self.space().read_cstr(at.wrapping_add(name.offset), NAME);
        text.map(|text| Some(lossless(&text))).map_err(LinuxError::read("a host name"))
    }
}

impl Task<'_, '_> {
    /// The number of the outermost PID namespace below the first one that it is in.
    fn outer_namespace(&self) -> Result<u32, LinuxError> {
        let at = self.namespace_at(1)?;
        let number = self.linux.pid_namespace()?.number;
        number.read(self.linux.space(), at).map_err(LinuxError::read("a PID namespace"))
    }
}

/// A null pointer is no place.
fn there(at: VirtAddr) -> Option<VirtAddr> {
    (!at.is_null()).then_some(at)
}
