//! An independent stub: the `gdbstub` crate, which serves an image's memory and registers.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, dead_code, reason = "a helper of tests may panic")]

use std::io;
use std::net::{TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use gdbstub::arch::{Arch, RegId};
use gdbstub::common::{Signal, Tid};
use gdbstub::conn::{Connection, ConnectionExt};
use gdbstub::stub::run_blocking::{BlockingEventLoop, Event, WaitForStopReasonError};
use gdbstub::stub::{DisconnectReason, GdbStub, MultiThreadStopReason};
use gdbstub::target::ext::base::BaseOps;
use gdbstub::target::ext::base::multithread::{MultiThreadBase, MultiThreadResume, MultiThreadResumeOps};
use gdbstub::target::ext::base::single_register_access::{SingleRegisterAccess, SingleRegisterAccessOps};
use gdbstub::target::ext::memory_map::{MemoryMap, MemoryMapOps};
use gdbstub::target::ext::target_description_xml_override::{
    TargetDescriptionXmlOverride, TargetDescriptionXmlOverrideOps,
};
use gdbstub::target::{Target, TargetError, TargetResult};
use vmc::{PhysAddr, PhysMemory};

/// A vCPU's `g`, and by number what is not in it.
pub(crate) type Vcpu = (Vec<u8>, Vec<(usize, u64)>);

/// What a machine of an architecture has: registers by number, its description, and how `g` puts them.
pub(crate) struct Machine<M> {
    pub(crate) memory: M,
    /// A vCPU's registers in the order of `g`; what no `g` holds, by number.
    pub(crate) vcpus: Vec<Vcpu>,
    /// Documents by name.
    pub(crate) documents: Vec<(String, String)>,
    pub(crate) map: String,
    pub(crate) acks: bool,
}

/// Registers as bytes alone.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Bytes(Vec<u8>);

impl gdbstub::arch::Registers for Bytes {
    type ProgramCounter = u64;

    fn pc(&self) -> u64 {
        0
    }

    fn gdb_serialize(&self, mut write_byte: impl FnMut(Option<u8>)) {
        self.0.iter().for_each(|byte| write_byte(Some(*byte)));
    }

    fn gdb_deserialize(&mut self, _: &[u8]) -> Result<(), ()> {
        Err(())
    }
}

#[derive(Debug)]
pub(crate) struct Number(usize);

impl RegId for Number {
    fn from_raw_id(id: usize) -> Option<(Self, Option<NonZeroUsize>)> {
        Some((Self(id), NonZeroUsize::new(8)))
    }
}

pub(crate) enum Any {}

impl Arch for Any {
    type Usize = u64;
    type Registers = Bytes;
    type BreakpointKind = usize;
    type RegId = Number;

    fn target_description_xml() -> Option<&'static str> {
        None
    }
}

impl<M: PhysMemory> Target for Machine<M> {
    type Arch = Any;
    type Error = &'static str;

    fn base_ops(&mut self) -> BaseOps<'_, Any, Self::Error> {
        BaseOps::MultiThread(self)
    }

    fn guard_rail_implicit_sw_breakpoints(&self) -> bool {
        true
    }

    fn use_no_ack_mode(&self) -> bool {
        !self.acks
    }

    fn support_target_description_xml_override(
        &mut self,
    ) -> Option<TargetDescriptionXmlOverrideOps<'_, Self>> {
        Some(self)
    }

    fn support_memory_map(&mut self) -> Option<MemoryMapOps<'_, Self>> {
        Some(self)
    }
}

fn part(text: &str, offset: u64, length: usize, buf: &mut [u8]) -> usize {
    let rest = text.as_bytes().get(offset as usize..).unwrap_or_default();
    let len = rest.len().min(length).min(buf.len());
    buf[..len].copy_from_slice(&rest[..len]);
    len
}

impl<M: PhysMemory> TargetDescriptionXmlOverride for Machine<M> {
    fn target_description_xml(
        &self,
        annex: &[u8],
        offset: u64,
        length: usize,
        buf: &mut [u8],
    ) -> TargetResult<usize, Self> {
        let document = self.documents.iter().find(|(name, _)| name.as_bytes() == annex);
        let (_, text) = document.ok_or(TargetError::NonFatal)?;
        Ok(part(text, offset, length, buf))
    }
}

impl<M: PhysMemory> MemoryMap for Machine<M> {
    fn memory_map_xml(&self, offset: u64, length: usize, buf: &mut [u8]) -> TargetResult<usize, Self> {
        Ok(part(&self.map, offset, length, buf))
    }
}

impl<M: PhysMemory> MultiThreadBase for Machine<M> {
    fn read_registers(&mut self, registers: &mut Bytes, tid: Tid) -> TargetResult<(), Self> {
        registers.0.clone_from(&self.vcpus[tid.get() - 1].0);
        Ok(())
    }

    fn write_registers(&mut self, _: &Bytes, _: Tid) -> TargetResult<(), Self> {
        Err(TargetError::NonFatal)
    }

    fn support_single_register_access(&mut self) -> Option<SingleRegisterAccessOps<'_, Tid, Self>> {
        Some(self)
    }

    fn read_addrs(&mut self, start: u64, data: &mut [u8], _: Tid) -> TargetResult<usize, Self> {
        self.memory.read(PhysAddr::new(start), data).map_err(|_| TargetError::NonFatal)?;
        Ok(data.len())
    }

    fn write_addrs(&mut self, _: u64, _: &[u8], _: Tid) -> TargetResult<(), Self> {
        Err(TargetError::NonFatal)
    }

    fn list_active_threads(&mut self, each: &mut dyn FnMut(Tid)) -> Result<(), Self::Error> {
        (1..=self.vcpus.len()).for_each(|number| each(Tid::new(number).unwrap()));
        Ok(())
    }

    fn support_resume(&mut self) -> Option<MultiThreadResumeOps<'_, Self>> {
        Some(self)
    }
}

impl<M: PhysMemory> SingleRegisterAccess<Tid> for Machine<M> {
    fn read_register(&mut self, tid: Tid, number: Number, buf: &mut [u8]) -> TargetResult<usize, Self> {
        let found = self.vcpus[tid.get() - 1].1.iter().find(|(known, _)| *known == number.0);
        let (_, value) = found.ok_or(TargetError::NonFatal)?;
        buf[..8].copy_from_slice(&value.to_le_bytes());
        Ok(8)
    }

    fn write_register(&mut self, _: Tid, _: Number, _: &[u8]) -> TargetResult<(), Self> {
        Err(TargetError::NonFatal)
    }
}

impl<M: PhysMemory> MultiThreadResume for Machine<M> {
    fn resume(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }

    fn clear_resume_actions(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }

    fn set_resume_action_continue(&mut self, _: Tid, _: Option<Signal>) -> Result<(), Self::Error> {
        Ok(())
    }
}

/// A connection that gathers what it writes: the crate writes a byte at a time.
pub(crate) struct Socket {
    bytes: Box<dyn Duplex>,
    came: std::collections::VecDeque<u8>,
    goes: Vec<u8>,
}

pub(crate) trait Duplex: io::Read + io::Write + Send {
    fn wait(&self, wait: bool) -> io::Result<()>;
}

impl Duplex for UnixStream {
    fn wait(&self, wait: bool) -> io::Result<()> {
        self.set_nonblocking(!wait)
    }
}

impl Duplex for TcpStream {
    fn wait(&self, wait: bool) -> io::Result<()> {
        self.set_nonblocking(!wait)
    }
}

impl Socket {
    fn fill(&mut self, wait: bool) -> io::Result<()> {
        let mut buf = [0; 4096];
        self.bytes.wait(wait)?;
        match self.bytes.read(&mut buf) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(got) => {
                self.came.extend(&buf[..got]);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl Connection for Socket {
    type Error = io::Error;

    fn write(&mut self, byte: u8) -> io::Result<()> {
        self.goes.push(byte);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.bytes.wait(true)?;
        self.bytes.write_all(&self.goes)?;
        self.goes.clear();
        Ok(())
    }
}

impl ConnectionExt for Socket {
    fn read(&mut self) -> io::Result<u8> {
        while self.came.is_empty() {
            self.fill(true)?;
        }
        Ok(self.came.pop_front().unwrap())
    }

    fn peek(&mut self) -> io::Result<Option<u8>> {
        if self.came.is_empty() {
            self.fill(false)?;
        }
        Ok(self.came.front().copied())
    }
}

struct Loop<M>(std::marker::PhantomData<M>);

impl<M: PhysMemory> BlockingEventLoop for Loop<M> {
    type Target = Machine<M>;
    type Connection = Socket;
    type StopReason = MultiThreadStopReason<u64>;

    fn wait_for_stop_reason(
        _: &mut Machine<M>,
        connection: &mut Socket,
    ) -> Result<
        Event<Self::StopReason>,
        WaitForStopReasonError<&'static str, <Self::Connection as Connection>::Error>,
    > {
        // The guest runs until a byte comes.
        while connection.peek().map_err(WaitForStopReasonError::Connection)?.is_none() {
            std::thread::sleep(Duration::from_micros(200));
        }
        let byte = connection.read().map_err(WaitForStopReasonError::Connection)?;
        Ok(Event::IncomingData(byte))
    }

    fn on_interrupt(_: &mut Machine<M>) -> Result<Option<Self::StopReason>, &'static str> {
        Ok(Some(MultiThreadStopReason::Signal(Signal::SIGINT)))
    }
}

/// How a client left.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// With `D`.
    Detached,
    Otherwise(String),
}

fn serve<M: PhysMemory>(mut machine: Machine<M>, bytes: Box<dyn Duplex>) -> Left {
    let socket = Socket { bytes, came: std::collections::VecDeque::new(), goes: Vec::new() };
    match GdbStub::new(socket).run_blocking::<Loop<M>>(&mut machine) {
        Ok(DisconnectReason::Disconnect) => Left::Detached,
        Ok(other) => Left::Otherwise(format!("{other:?}")),
        Err(error) => Left::Otherwise(error.to_string()),
    }
}

/// Serves one client on a Unix socket: its address, and how the client left.
pub(crate) fn on_unix<M: PhysMemory + Send + 'static>(machine: Machine<M>) -> (String, Receiver<Left>) {
    let path = super::folder().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let (left, hears) = channel();
    let socket = path.clone();
    std::thread::spawn(move || {
        let socket = super::accept_one(&listener, &socket);
        drop(listener);
        let _ = left.send(serve(machine, Box::new(socket)));
    });
    (path.display().to_string(), hears)
}

/// The same on a port.
pub(crate) fn on_tcp<M: PhysMemory + Send + 'static>(machine: Machine<M>) -> (String, Receiver<Left>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (left, hears) = channel();
    std::thread::spawn(move || {
        let (socket, _): (TcpStream, _) = listener.accept().unwrap();
        let _ = left.send(serve(machine, Box::new(socket)));
    });
    (address, hears)
}
