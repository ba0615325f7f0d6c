//! A task's state, as the letter of `/proc/PID/stat`.
//!
//! Source: `__task_state_index()` and `task_state_to_char()` in `include/linux/sched.h`: the highest bit of those that are
//! reported decides.

use crate::error::LinuxError;
use crate::task::Task;

const UNINTERRUPTIBLE: u32 = 0x2;
const NO_LOAD: u32 = 0x400;
const RTLOCK_WAIT: u32 = 0x1000;
const FROZEN: u32 = 0x8000;
/// Running, sleeping, uninterruptible, stopped, traced, dead, zombie, parked.
const REPORTED: u32 = 0x7f;
const IDLE: u32 = UNINTERRUPTIBLE | NO_LOAD;
const LETTERS: &[u8; 9] = b"RSDTtXZPI";

/// The letter for a state and an exit state.
fn letter(state: u32, exit_state: u32) -> char {
    let both = state | exit_state;
    let mut reported = both & REPORTED;
    if both & IDLE == IDLE {
        return 'I';
    }
    if both & (RTLOCK_WAIT | FROZEN) != 0 {
        reported = UNINTERRUPTIBLE;
    }
    let index = (32 - reported.leading_zeros()) as usize;
    char::from(LETTERS.get(index).copied().unwrap_or(b'?'))
}

impl Task<'_, '_> {
    /// Its state, as the letter of `/proc/PID/stat`.
    ///
    /// # Errors
    /// [`LinuxError`] where it cannot be read.
    pub fn state(&self) -> Result<char, LinuxError> {
        let fields = self.linux.task()?;
        let space = self.linux.space();
        let read = LinuxError::read("state");
        let exit_state = fields.exit_state.read(space, self.at).map_err(&read)?;
        let state = match (fields.state, fields.state_word) {
            (Some(field), _) => field.read(space, self.at).map_err(&read)?,
            // The high half of the old `long` is not used.
            (None, Some(field)) => field.read(space, self.at).map_err(&read)? as u32,
            (None, None) => {
                return Err(vmc::layout::LayoutError::NoMember {
                    structure: "task_struct".into(),
                    member: "__state".into(),
                }
                .into());
            }
        };
        Ok(letter(state, exit_state))
    }
}

#[cfg(test)]
mod tests {
    use super::letter;

    #[test]
    fn letters_are_those_of_proc() {
        let expected =
            [(0, 0, 'R'), (1, 0, 'S'), (2, 0, 'D'), (4, 0, 'T'), (8, 0, 't'), (0, 0x10, 'X'), (0, 0x20, 'Z')];
        for (state, exit_state, shown) in expected {
            assert_eq!(letter(state, exit_state), shown, "{state:#x} {exit_state:#x}");
        }
        // Killable sleep; an idle kernel thread; parked; dying and already a zombie; frozen.
        assert_eq!([letter(0x102, 0), letter(0x402, 0), letter(0x40, 0)], ['D', 'I', 'P']);
        assert_eq!([letter(0x80, 0x20), letter(0x8000, 0)], ['Z', 'D']);
    }
}
