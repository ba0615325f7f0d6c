//! Questions and answers: packets over a stream, with acknowledgements, in order, several on their way at a time.
//!
//! A stub says on its own when the guest stops (`T02…`): also because a client connects, or because a byte came while the guest
//! ran, which then is swallowed. So an answer is what is no stop reply, and a stop reply among the answers means that
//! what was asked may be lost: the answers that are still on their way are waited out, and all is asked again.

use std::io;
use std::time::{Duration, Instant};

use vmc_process::socket::Socket;

use crate::error::{LinkError, excerpt};
use crate::packet::{Garbage, Incoming, Scanner, encode};
use crate::peek;

/// How often a packet is sent again, or asked for again, that came damaged.
const RETRIES: usize = 3;
/// How often questions are asked again that a stopping guest has swallowed.
const RESTARTS: usize = 3;
/// What is quiet for so long after a stop has nothing more to say.
const QUIET: Duration = Duration::from_millis(150);
/// Answers that nobody asked for, one after the other: more are no stub's.
const UNASKED: usize = 64;

/// A connection to a stub.
#[derive(Debug)]
pub(crate) struct Link {
    socket: Socket,
    scanner: Scanner,
    buffer: Vec<u8>,
    /// Are packets acknowledged?
    acks: bool,
    /// Acknowledgements that go with what is sent next.
    owed: usize,
    /// The last packet, for when it has to be sent again.
    last: Vec<u8>,
    peer: String,
    patience: Duration,
    /// When all waits end, if that is sooner than their own patience.
    deadline: Option<Instant>,
    /// How many questions may be on their way.
    window: usize,
    /// Stop replies that nobody asked for, so far.
    stops: usize,
    /// Answers to what was asked before may still come.
    unsure: bool,
    /// An answer did not come, or the other end is gone.
    lost: bool,
}

impl Link {
    pub(crate) fn new(socket: Socket, peer: String, patience: Duration) -> Self {
        Self {
            socket,
            scanner: Scanner::default(),
            buffer: vec![0; 1 << 16],
            acks: true,
            owed: 0,
            last: Vec::new(),
            peer,
            patience,
            deadline: None,
            window: 1,
            stops: 0,
            unsure: false,
            lost: false,
        }
    }

    pub(crate) fn peer(&self) -> &str {
        &self.peer
    }

    /// When a wait that begins now ends.
    pub(crate) fn until(&self) -> Instant {
        let until = Instant::now() + self.patience;
        self.deadline.map_or(until, |deadline| until.min(deadline))
    }

    /// Has all waits end after this time, whatever comes; `None`: each has its own patience alone.
    pub(crate) fn limit(&mut self, most: Option<Duration>) {
        self.deadline = most.map(|most| Instant::now() + most);
    }

    pub(crate) const fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Nothing more is to be expected of the other end.
    pub(crate) const fn lose(&mut self) {
        self.lost = true;
    }

    /// Is there nobody any more to talk to, or nobody who answers?
    pub(crate) const fn is_lost(&self) -> bool {
        self.lost
    }

    /// Stop replies that came without being asked for.
    pub(crate) const fn stops(&self) -> usize {
        self.stops
    }

    /// From now on nothing is acknowledged: both sides have agreed on it.
    pub(crate) fn without_acks(&mut self) -> Result<(), LinkError> {
        self.flush()?;
        self.acks = false;
        Ok(())
    }

    /// Lets `window` questions be on their way: of a stub that takes a new packet for an acknowledgement, or needs none.
    pub(crate) const fn widen(&mut self, window: usize) {
        self.window = window;
    }

    /// May several questions be on their way?
    pub(crate) const fn is_wide(&self) -> bool {
        self.window > 1
    }

    /// Asks a question once. Before anything is taken, `found` hears how the first packet begins that comes: a stop before the
    /// answer to the first of all questions means that the guest ran.
    pub(crate) fn ask_once(
        &mut self,
        question: &[u8],
        found: &mut dyn FnMut(u8),
    ) -> Result<Vec<u8>, LinkError> {
        if self.unsure {
            self.quiet()?;
        }
        self.tell(question)?;
        let until = self.until();
        match peek::first_of_packet(&self.socket, until) {
            Ok(Some(byte)) => found(byte),
            // What is no packet is told below.
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::TimedOut => return Err(self.silent(question)),
            Err(error) => return Err(LinkError::Broken { peer: self.peer.clone(), what: error.to_string() }),
        }
        for _ in 0..UNASKED {
            match self.receive(until, true)? {
                Some(packet) if is_stop(&packet) => self.stops += 1,
                Some(packet) if is_console_output(&packet) => {}
                Some(packet) => return Ok(packet),
                None => return Err(self.silent(question)),
            }
        }
        Err(self.answer_error(question, b"nothing but stops"))
    }

    /// Asks one question.
    pub(crate) fn ask(&mut self, question: &[u8]) -> Result<Vec<u8>, LinkError> {
        let mut answer = Vec::new();
        self.ask_all(1, &mut |_, out| out.extend_from_slice(question), &mut |_, data| {
            answer = data;
            Ok(())
        })?;
        Ok(answer)
    }

    /// Asks `count` questions, each written by `question`, and gives each answer to `answer`; as many as the window has are on
    /// their way. Where a stop swallowed some, all are asked again, and all answers come again.
    pub(crate) fn ask_all(
        &mut self,
        count: usize,
        question: &mut dyn FnMut(usize, &mut Vec<u8>),
        answer: &mut dyn FnMut(usize, Vec<u8>) -> Result<(), LinkError>,
    ) -> Result<(), LinkError> {
        self.converse(count, question, &mut |at, packet| {
            // What the target prints is not of interest.
            if is_console_output(&packet) { Ok(false) } else { answer(at, packet).map(|()| true) }
        })
    }

    /// The same for questions whose answers have several packets: `answer` says which was the last of one.
    pub(crate) fn converse(
        &mut self,
        count: usize,
        question: &mut dyn FnMut(usize, &mut Vec<u8>),
        answer: &mut dyn FnMut(usize, Vec<u8>) -> Result<bool, LinkError>,
    ) -> Result<(), LinkError> {
        for _ in 0..RESTARTS {
            if self.unsure {
                self.quiet()?;
            }
            let round = self.round(count, question, answer);
            self.unsure = !matches!(round, Ok(true));
            let lost = |error: &LinkError| !matches!(error, LinkError::Answer { .. });
            self.lost |= round.as_ref().is_err_and(lost);
            if round? {
                return Ok(());
            }
        }
        let mut first = Vec::new();
        question(0, &mut first);
        Err(self.answer_error(&first, b"a stop of the guest each time"))
    }

    /// One try at all questions; false where a stop came between.
    fn round(
        &mut self,
        count: usize,
        question: &mut dyn FnMut(usize, &mut Vec<u8>),
        answer: &mut dyn FnMut(usize, Vec<u8>) -> Result<bool, LinkError>,
    ) -> Result<bool, LinkError> {
        let (mut sent, mut data, mut packets) = (0, Vec::new(), Vec::new());
        for done in 0..count {
            // Half a window at a time: one write for many, and always some on their way.
            if sent == done || (sent < count && sent - done <= self.window / 2) {
                packets.clear();
                while sent < count && sent - done < self.window {
                    data.clear();
                    question(sent, &mut data);
                    let start = packets.len();
                    encode(&data, &mut packets);
                    packets.get(start..).unwrap_or_default().clone_into(&mut self.last);
                    sent += 1;
                }
                self.transmit(&packets)?;
            }
            let until = self.until();
            loop {
                // Who talks without end has not answered either.
                let packet = self.receive(until, done + 1 == sent)?.filter(|_| Instant::now() < until);
                let Some(packet) = packet else {
                    data.clear();
                    question(done, &mut data);
                    return Err(self.silent(&data));
                };
                if is_stop(&packet) {
                    self.stops += 1;
                    return Ok(false);
                }
                if answer(done, packet)? {
                    break;
                }
            }
        }
        Ok(true)
    }

    /// Waits until nothing more comes, and forgets it.
    pub(crate) fn quiet(&mut self) -> Result<(), LinkError> {
        let end = self.until();
        for _ in 0..UNASKED {
            if Instant::now() >= end || self.receive(Instant::now() + QUIET, false)?.is_none() {
                break;
            }
        }
        self.scanner.clear();
        self.unsure = false;
        self.flush()
    }

    /// Sends bytes that are no packet, or several packets, with the acknowledgements that are owed.
    fn transmit(&mut self, bytes: &[u8]) -> Result<(), LinkError> {
        let mut all = vec![b'+'; self.owed];
        all.extend_from_slice(bytes);
        self.owed = 0;
        self.send_raw(&all)
    }

    /// Sends `bytes` as they are.
    pub(crate) fn send_raw(&mut self, bytes: &[u8]) -> Result<(), LinkError> {
        let until = self.until();
        let sent = self.socket.send(bytes, until);
        sent.map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
                LinkError::Closed { peer: self.peer.clone() }
            }
            io::ErrorKind::TimedOut => self.silent(b"what is sent"),
            _ => LinkError::Broken { peer: self.peer.clone(), what: error.to_string() },
        })
    }

    /// Has the guest stopped already, by somebody else? Does not wait for it.
    pub(crate) fn has_stopped(&mut self) -> Result<bool, LinkError> {
        if !peek::shows_stop(&self.socket) {
            return Ok(false);
        }
        let until = self.until();
        while let Some(packet) = self.receive(until, false)? {
            if is_stop(&packet) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Sends the acknowledgements that are owed: nothing else may come after, as when the guest is about to run.
    pub(crate) fn flush(&mut self) -> Result<(), LinkError> {
        if self.owed == 0 {
            return Ok(());
        }
        self.transmit(b"")
    }

    /// Forgets the acknowledgements that are owed: the guest runs, and any byte would stop it.
    pub(crate) const fn let_be(&mut self) {
        self.owed = 0;
    }

    /// Sends a packet that is not answered.
    pub(crate) fn tell(&mut self, data: &[u8]) -> Result<(), LinkError> {
        let mut packet = Vec::new();
        encode(data, &mut packet);
        packet.clone_into(&mut self.last);
        self.transmit(&packet)
    }

    /// The next packet, or `None` when `until` has passed. `alone`: nothing else is on its way, so that what is damaged can be had
    /// again.
    pub(crate) fn receive(&mut self, until: Instant, alone: bool) -> Result<Option<Vec<u8>>, LinkError> {
        let mut damaged = 0;
        loop {
            match self.scanner.next() {
                Ok(Some(Incoming::Packet(data))) => {
                    if self.acks {
                        self.owed += 1;
                        // A stub that keeps to the letter says nothing more before it has this.
                        if self.window == 1 {
                            // It may have gone after its last word; what it said counts.
                            let _ = self.flush();
                        }
                    }
                    // A machine that has exited, or was killed.
                    if matches!(data.as_slice(), [b'W' | b'X', digits @ ..] if is_hex_byte(digits)) {
                        return Err(LinkError::Ended { peer: self.peer.clone() });
                    }
                    return Ok(Some(data));
                }
                Ok(Some(Incoming::Ack | Incoming::Notification)) => {}
                Ok(Some(incoming @ (Incoming::Nak | Incoming::BadChecksum))) => {
                    damaged += 1;
                    if damaged > RETRIES || !alone || !self.acks {
                        return Err(self.garbage(b"packets with wrong checksums"));
                    }
                    let again = if incoming == Incoming::Nak { self.last.clone() } else { vec![b'-'] };
                    self.transmit(&again)?;
                }
                Ok(None) => match self.socket.receive(&mut self.buffer, until) {
                    Ok(0) => return Err(LinkError::Closed { peer: self.peer.clone() }),
                    Ok(came) => self.scanner.feed(self.buffer.get(..came).unwrap_or_default()),
                    Err(error) if error.kind() == io::ErrorKind::TimedOut => return Ok(None),
                    Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                        return Err(LinkError::Closed { peer: self.peer.clone() });
                    }
                    Err(error) => {
                        return Err(LinkError::Broken { peer: self.peer.clone(), what: error.to_string() });
                    }
                },
                Err(Garbage::Outside(found)) => return Err(self.garbage(&found)),
                Err(Garbage::TooLong) => return Err(self.garbage(b"a packet without end")),
                Err(Garbage::Encoding) => return Err(self.garbage(b"a packet with half an escape")),
            }
            // An endless stream of acknowledgements ends here.
            if Instant::now() >= until {
                return Ok(None);
            }
        }
    }

    fn garbage(&self, found: &[u8]) -> LinkError {
        LinkError::NotGdb { peer: self.peer.clone(), found: excerpt(found) }
    }

    /// No answer came to `question`.
    pub(crate) fn silent(&self, question: &[u8]) -> LinkError {
        LinkError::Silent {
            peer: self.peer.clone(),
            question: question.iter().take(40).flat_map(|byte| byte.escape_ascii()).map(char::from).collect(),
            milliseconds: u64::try_from(self.patience.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// `question` was answered with `found`.
    pub(crate) fn answer_error(&self, question: &[u8], found: &[u8]) -> LinkError {
        LinkError::Answer {
            peer: self.peer.clone(),
            question: question.iter().take(40).flat_map(|byte| byte.escape_ascii()).map(char::from).collect(),
            found: excerpt(found),
        }
    }
}

/// Does the packet say that the guest has stopped: `T` or `S` and a signal?
pub(crate) fn is_stop(packet: &[u8]) -> bool {
    matches!(packet, [b'T' | b'S', digits @ ..] if digits.get(..2).is_some_and(is_hex_byte))
}

/// Is it text that the target prints: `O` and bytes? (`OK` has no hexadecimal K.)
pub(crate) fn is_console_output(packet: &[u8]) -> bool {
    matches!(packet, [b'O', text @ ..] if !text.is_empty() && text.iter().all(u8::is_ascii_hexdigit))
}

fn is_hex_byte(digits: &[u8]) -> bool {
    digits.get(..2).is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit))
}
