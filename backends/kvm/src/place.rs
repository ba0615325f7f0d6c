//! Where the guest's memory lies in its VMM: by the user, a monitor, the host's kernel, or what is known of the VMM; each held against
//! the guest's own page tables.

use vmc::LiveGuest as _;
use vmc::arch::Registers;
use vmc_process::{ChooseError, Layout, ProcessMemory, Verified, choose, kernel_memslots, verify, vmm_rules};
use vmc_qmp::{ConnectOptions, Qmp};

use crate::error::AttachError;
use crate::options::AttachOptions;

/// The most confirmations that are told.
const MOST_TOLD: usize = 3;

/// Layouts that can be, from one source.
#[derive(Debug)]
pub(crate) struct Candidates {
    layouts: Vec<Layout>,
    /// Does the source know, rather than conclude?
    exact: bool,
    /// Is it certain that it speaks of this process? Else the guest has the last word.
    ours: bool,
    warnings: Vec<String>,
}

/// What is known of where memory lies.
#[derive(Debug)]
pub(crate) struct Placed {
    /// How it is known, and what confirms it.
    pub(crate) how: String,
    pub(crate) ram_bytes: u64,
    pub(crate) warnings: Vec<String>,
}

/// Asks the first source that answers. The guest runs meanwhile.
pub(crate) fn candidates(pid: u32, name: &str, options: &AttachOptions) -> Result<Candidates, AttachError> {
    let unknown = |why| AttachError::NoLayout { pid, name: name.to_owned(), why };
    let exact = |layout| Candidates { layouts: vec![layout], exact: true, ours: true, warnings: Vec::new() };
    if let Some(layout) = &options.layout {
        return Ok(exact(layout.clone()));
    }
    if let Some(address) = &options.monitor {
        let monitor =
            Qmp::connect(address, &ConnectOptions::default()).map_err(|error| unknown(error.to_string()))?;
        let theirs = monitor.facts().pid;
        if let Some(theirs) = theirs.filter(|theirs| *theirs != pid) {
            return Err(unknown(format!("{address} is the monitor of process {theirs}")));
        }
        return Ok(Candidates { ours: theirs.is_some(), ..exact(monitor.layout().clone()) });
    }
    let slots = match kernel_memslots(pid) {
        Ok(layout) => return Ok(exact(layout)),
        Err(error) => error.to_string(),
    };
    match vmm_rules(pid) {
        Ok(rules) => {
            Ok(Candidates { layouts: rules.candidates, exact: false, ours: true, warnings: vec![slots] })
        }
        Err(error) => Err(unknown(format!("{slots}; {error}"))),
    }
}

impl Candidates {
    /// The one that the guest confirms, which is held meanwhile.
    pub(crate) fn choose(
        self,
        pid: u32,
        name: &str,
        registers: &[Registers],
    ) -> Result<(ProcessMemory, Placed), AttachError> {
        let unknown = |why| AttachError::NoLayout { pid, name: name.to_owned(), why };
        let mut warnings = self.warnings;
        if !self.exact {
            let (layout, memory, verified) = choose(pid, self.layouts, registers)
                .map_err(|error: ChooseError| unknown(error.to_string()))?;
            if !verified.whole {
                warnings.push("the guest confirms its memory's layout only in part: give it with --layout where you know it".into());
            }
            return Ok((memory, placed(&layout, &verified, warnings)));
        }
        let layout = self.layouts.into_iter().next().ok_or_else(|| unknown(ChooseError::None.to_string()))?;
        let memory = ProcessMemory::open(pid, &layout).map_err(|error| unknown(error.to_string()))?;
        // Whoever knows the layout is believed; the guest may have page tables of any kind.
        let verified = match verify(&layout, &memory, registers) {
            Ok(verified) => verified,
            Err(error) if !self.ours => {
                return Err(unknown(format!(
                    "the monitor does not say of which process it is, and the guest contradicts it: {error}"
                )));
            }
            Err(error) => {
                warnings.push(format!("the guest's memory does not confirm its layout: {error}"));
                Verified::default()
            }
        };
        Ok((memory, placed(&layout, &verified, warnings)))
    }
}

fn placed(layout: &Layout, verified: &Verified, warnings: Vec<String>) -> Placed {
    let mut how = layout.how.clone();
    let told = verified.confirmed.iter().take(MOST_TOLD).map(String::as_str).collect::<Vec<_>>().join(", ");
    if told.is_empty() {
        how.push_str(", not confirmed");
    } else {
        how.push_str(", confirmed by ");
        how.push_str(&told);
        let more = verified.confirmed.len().saturating_sub(MOST_TOLD);
        if more > 0 {
            how.push_str(&format!(" and {more} more"));
        }
    }
    Placed { how, ram_bytes: layout.ram_bytes, warnings }
}

#[cfg(test)]
mod tests {
    use vmc::arch::x86_64;

    use super::*;

    #[test]
    fn a_monitor_of_who_knows_whom_is_not_believed_against_the_guest() {
        let memory = [0u8; 4096];
        let layout = Layout::parse(&format!("0x0+0x1000@{:#x}", memory.as_ptr().addr())).unwrap();
        // Page tables behind the end of memory.
        let registers = x86_64::Registers { cr0: 0x8000_0001, cr3: 0x5000, cr4: 0x20, ..Default::default() };
        let registers = [Registers::X86_64(registers)];
        let choose = |ours| {
            let candidates =
                Candidates { layouts: vec![layout.clone()], exact: true, ours, warnings: Vec::new() };
            candidates.choose(std::process::id(), "x", &registers)
        };
        let (_, placed) = choose(true).unwrap();
        assert_eq!(placed.warnings.len(), 1);
        let error = choose(false).unwrap_err().to_string();
        assert!(error.contains("contradicts") && error.contains("0x5000"), "{error}");
    }
}
