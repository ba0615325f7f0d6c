//! The hash tables of TCP and UDP (`tcp_hashinfo`, `udp_table`), by the protocols that use them.
//!
//! Source: `tcp_prot` in `net/ipv4/tcp_ipv4.c`, `udp_prot` in `net/ipv4/udp.c`: a `struct proto` holds its name and, in the union `h`, its
//! table, which lies in the image too.

use vmc::layout::{Field, Types};
use vmc::{ReadExt, VirtAddr};

use crate::error::LinuxError;
use crate::kernel::Linux;

impl Linux<'_> {
    /// The table of the protocol whose name (with its NUL) is this, by the member of `struct proto` that leads to it.
    pub(crate) fn find_protocol_table(
        &self,
        name: &[u8],
        member: &str,
    ) -> Result<Option<VirtAddr>, LinuxError> {
        let types = self.types();
        let place = types.member("proto", "name")?.offset;
        let table: Field<u64> = Field::new(types, "proto", member)?;
        // A protocol closes and connects sockets: functions of the kernel, on which every one of these has both.
        let functions = ["close", "connect"].map(|name| Field::<u64>::new(types, "proto", name));
        let (space, image) = (self.space(), self.image());
        Ok(image.find_bytes(space, name, |at| {
            let proto = at.checked_sub(place)?;
            let leads_to_code = |field: &Result<Field<u64>, _>| {
                let target = field.as_ref().ok().and_then(|field| field.pointer(space, proto).ok());
                target.is_some_and(|target| space.walk(target).is_ok_and(|walk| walk.executable))
            };
            let table = table.pointer(space, proto).ok()?;
            let whole = image.spans(table) && functions.iter().all(leads_to_code);
            whole.then_some(table).filter(|table| space.read_value::<u64>(*table).is_ok())
        }))
    }
}
