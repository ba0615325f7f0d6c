//! A connection to QEMU: greeting, commands, answers.

use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use vmc::LiveError;

use crate::error::{CommandError, ConnectError};
use crate::hmp::{Monitor, MonitorError, excerpt};
use crate::message::{Command, Cpu, Done, Dump, FdName, Greeting, Line, Message, Nothing, Status};
use crate::stream::{LineError, MAX_LINE, Stream};
use vmc_process::Address;
use vmc_process::socket::{Socket, is_again};

const DUMP: &str = "dump-guest-memory";
const CLOSED: &str = "QEMU has closed the connection";

/// A connection that has been greeted, and may send commands.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: Stream,
    peer: String,
    timeout: Duration,
    /// When all waits end, if that is sooner than their own time.
    deadline: Option<Instant>,
    next_id: u64,
    /// Why nothing more can be had of it.
    ended: Option<CommandError>,
    /// QEMU's version.
    pub(crate) version: String,
}

impl Connection {
    /// Connects, and waits for the greeting. No command but `qmp_capabilities` is taken then.
    pub(crate) fn open(address: &Address, timeout: Duration) -> Result<Self, ConnectError> {
        let peer = address.to_string();
        let silent =
            || ConnectError::Silent { peer: address.to_string(), milliseconds: milliseconds(timeout) };
        let mut stream = match Stream::connect(address, timeout) {
            Ok(stream) => stream,
            // The queue of those that wait to be served is full.
            Err(error) if is_again(&error) && matches!(address, Address::Unix(_)) => return Err(silent()),
            Err(source) => return Err(ConnectError::Connect { peer, source }),
        };
        let not_qmp = |found: String| ConnectError::NotQmp { peer: address.to_string(), found };
        let version = match stream.line(Instant::now() + timeout) {
            Ok(line) => {
                let version = greeting(line);
                version.ok_or_else(|| not_qmp(format!("`{}`", excerpt(&String::from_utf8_lossy(line)))))?
            }
            Err(LineError::Late) => return Err(silent()),
            Err(LineError::Closed) => return Err(not_qmp("nothing and closed the connection".into())),
            Err(LineError::Endless) => return Err(not_qmp("a line without end".into())),
            Err(LineError::Io(source)) => return Err(ConnectError::Connect { peer, source }),
        };
        Ok(Self { stream, peer, timeout, deadline: None, next_id: 1, ended: None, version })
    }

    /// Has all waits end after this time, whatever comes; `None`: each has its own time alone.
    pub(crate) fn limit(&mut self, most: Option<Duration>) {
        self.deadline = most.map(|most| Instant::now() + most);
    }

    /// When a wait of that long ends that begins now.
    fn until(&self, timeout: Duration) -> Instant {
        let until = Instant::now() + timeout;
        self.deadline.map_or(until, |deadline| until.min(deadline))
    }

    /// The address as it was given.
    pub(crate) fn peer(&self) -> &str {
        &self.peer
    }

    /// The socket.
    pub(crate) const fn socket(&self) -> &Socket {
        self.stream.socket()
    }

    /// Does a command, and waits for its answer.
    pub(crate) fn execute<A: Serialize, R: DeserializeOwned>(
        &mut self,
        command: &'static str,
        arguments: A,
    ) -> Result<R, CommandError> {
        self.execute_within(command, arguments, self.timeout)
    }

    /// Does a command that may take longer, or must not.
    pub(crate) fn execute_within<A: Serialize, R: DeserializeOwned>(
        &mut self,
        command: &'static str,
        arguments: A,
        timeout: Duration,
    ) -> Result<R, CommandError> {
        let id = self.send(command, arguments, None)?;
        self.answer(command, id, timeout)
    }

    /// Hands QEMU a descriptor under a name, and has it dump into that. Over a Unix socket alone.
    pub(crate) fn dump_into(
        &mut self,
        fd: BorrowedFd<'_>,
        fdname: &str,
        dump: Dump<'_>,
    ) -> Result<(), CommandError> {
        let handed = self.send("getfd", FdName { fdname }, Some(fd))?;
        let dumped = self.send(DUMP, dump, None)?;
        self.answer::<Done>("getfd", handed, self.timeout)?;
        let result = self.answer::<Done>(DUMP, dumped, self.timeout);
        if matches!(result, Err(CommandError::Refused { .. })) {
            // QEMU keeps what it did not come to use.
            let _ = self.execute::<_, Done>("closefd", FdName { fdname });
        }
        result.map(drop)
    }

    /// The state of the machine.
    pub(crate) fn status(&mut self) -> Result<Status, CommandError> {
        self.execute("query-status", Nothing {})
    }

    /// Leaves the greeting behind; the state of the machine, and its vCPUs.
    pub(crate) fn begin(&mut self) -> Result<(Status, Vec<Cpu>), CommandError> {
        const COMMANDS: [&str; 3] = ["qmp_capabilities", "query-status", "query-cpus-fast"];
        let [capabilities, status, cpus] = COMMANDS;
        let ids = [
            self.send(capabilities, Nothing {}, None)?,
            self.send(status, Nothing {}, None)?,
            self.send(cpus, Nothing {}, None)?,
        ];
        self.answer::<Done>(capabilities, ids[0], self.timeout)?;
        Ok((self.answer(status, ids[1], self.timeout)?, self.answer(cpus, ids[2], self.timeout)?))
    }

    /// Sends a command, and leaves its answer for [`answer`](Self::answer), or for nobody: unknown answers are passed over.
    pub(crate) fn send<A: Serialize>(
        &mut self,
        command: &'static str,
        arguments: A,
        fd: Option<BorrowedFd<'_>>,
    ) -> Result<u64, CommandError> {
        if let Some(ended) = &self.ended {
            return Err(ended.clone());
        }
        let id = self.next_id;
        self.next_id += 1;
        let wrong = |what: String| CommandError::Answer { peer: self.peer.clone(), command, what };
        let mut line = serde_json::to_vec(&Command { execute: command, arguments, id })
            .map_err(|error| wrong(error.to_string()))?;
        line.push(b'\n');
        let until = self.until(self.timeout);
        if let Err(error) = self.stream.send(&line, fd, until) {
            let live = match error.kind() {
                _ if is_again(&error) => self.silent(self.timeout),
                ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => self.gone(CLOSED),
                _ => self.gone(&error.to_string()),
            };
            // Half a line may have been sent: nothing that followed would be understood.
            return Err(self.end(live.into()));
        }
        Ok(id)
    }

    /// Waits for the answer with this id. Events, and answers to what nobody waits for any more, are passed over.
    pub(crate) fn answer<R: DeserializeOwned>(
        &mut self,
        command: &'static str,
        id: u64,
        timeout: Duration,
    ) -> Result<R, CommandError> {
        if let Some(ended) = &self.ended {
            return Err(ended.clone());
        }
        let until = self.until(timeout);
        let expected = id.to_string();
        let what = loop {
            let line = match self.stream.line(until) {
                Ok(line) => line,
                Err(LineError::Late) => return Err(self.silent(timeout).into()),
                Err(LineError::Closed) => break Err(self.gone(CLOSED)),
                Err(LineError::Io(error)) => break Err(self.gone(&error.to_string())),
                Err(LineError::Endless) => {
                    break Ok(format!("a line of more than {} MiB", MAX_LINE >> 20));
                }
            };
            let text = || format!("`{}`", excerpt(&String::from_utf8_lossy(line)));
            let Ok(message) = serde_json::from_slice::<Message<'_>>(line) else { break Ok(text()) };
            // What cannot be read at all has no id; it can only be ours.
            let ours = message.id.map_or(message.error.is_some(), |id| id.get() == expected);
            match message {
                Message { error: Some(error), .. } if ours => {
                    let (class, description) = (error.class, excerpt(&error.desc));
                    return Err(CommandError::Refused { command, class, description });
                }
                Message { returned: Some(returned), .. } if ours => match parse(returned) {
                    Ok(value) => return Ok(value),
                    Err(error) => {
                        let (peer, what) = (self.peer.clone(), error.to_string());
                        return Err(CommandError::Answer { peer, command, what });
                    }
                },
                Message { event: None, returned: None, error: None, .. } => break Ok(text()),
                _ => {}
            }
            // A peer that sends without end would keep its lines coming for longer than was to be waited.
            if Instant::now() >= until {
                return Err(self.silent(timeout).into());
            }
        };
        let ended = match what {
            Ok(what) => CommandError::Answer { peer: self.peer.clone(), command, what },
            Err(live) => live.into(),
        };
        Err(self.end(ended))
    }

    /// Sends bytes as they are.
    #[cfg(test)]
    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.send(bytes, None, Instant::now() + self.timeout).unwrap();
    }

    /// Remembers that nothing more can be had.
    fn end(&mut self, why: CommandError) -> CommandError {
        self.ended.insert(why).clone()
    }

    fn gone(&self, what: &str) -> LiveError {
        LiveError::Gone { what: format!("{}: {what}", self.peer) }
    }

    fn silent(&self, waited: Duration) -> LiveError {
        LiveError::Silent { who: format!("QEMU at {}", self.peer), milliseconds: milliseconds(waited) }
    }
}

/// The command that takes a monitor's line.
const HMP: &str = "human-monitor-command";
/// QEMU takes so many commands before it has done the first (`QMP_REQ_QUEUE_LEN_MAX`), and reads no more then.
const IN_FLIGHT: usize = 8;

impl Monitor for Connection {
    fn hmp(&mut self, line: &str) -> Result<String, MonitorError> {
        self.execute(HMP, Line { line }).map_err(|error| refused(line, error))
    }

    fn hmp_all(&mut self, lines: &[String]) -> Result<Vec<String>, MonitorError> {
        let mut answers = Vec::with_capacity(lines.len());
        for lines in lines.chunks(IN_FLIGHT) {
            let sent: Result<Vec<_>, _> = lines
                .iter()
                .map(|line| match self.send(HMP, Line { line }, None) {
                    Ok(id) => Ok((line, id)),
                    Err(error) => Err(refused(line, error)),
                })
                .collect();
            for (line, id) in sent? {
                answers.push(self.answer(HMP, id, self.timeout).map_err(|error| refused(line, error))?);
            }
        }
        Ok(answers)
    }
}

/// Why a line got no answer.
fn refused(line: &str, error: CommandError) -> MonitorError {
    let answer = match error {
        CommandError::Live(live) => return live.into(),
        CommandError::Refused { description, .. } => description,
        CommandError::Answer { what, .. } => what,
    };
    MonitorError::Refused { command: line.to_owned(), answer }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// The version in a greeting.
fn greeting(line: &[u8]) -> Option<String> {
    let message = serde_json::from_slice::<Message<'_>>(line).ok()?;
    let version = parse::<Greeting>(message.greeting?).ok()?.version.qemu;
    Some(format!("QEMU {}.{}.{}", version.major, version.minor, version.micro))
}

fn parse<R: DeserializeOwned>(value: &RawValue) -> serde_json::Result<R> {
    serde_json::from_str(value.get())
}

/// A duration as errors tell it.
pub(crate) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
