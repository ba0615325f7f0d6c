//! `struct kvm_run`: the page that a vCPU shares with its VMM. With `kvm_valid_regs` set, KVM stores the vCPU's registers in it
//! each time the vCPU leaves `KVM_RUN`.
//!
//! Source: `KVM_CAP_SYNC_REGS` in Documentation/virt/kvm/api.rst, `include/uapi/linux/kvm.h` of Linux 6.12. A kernel before 4.17
//! stores nothing, and one that keeps the guest's state secret refuses to run a vCPU with a value in that field.

use vmc_process::guardian::Post;

use super::{Thread, Tracer, Vcpu, memory};
use crate::arch::{Arch, BLOCK, Host, VALID_REGS, is_one_of, word};
use crate::options::Step;
use crate::wire::Source;

/// `kvm_valid_regs` and `kvm_dirty_regs`.
const FIELDS: usize = 16;

/// A vCPU's page.
#[derive(Debug)]
pub(crate) struct Page {
    /// Where it lies in the VMM.
    pub(crate) at: u64,
    use_of: Use,
    /// What the registers' place held before.
    before: [u8; BLOCK],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Unused,
    /// The VMM itself has registers stored: nothing is changed.
    Theirs,
    /// We set the field, which had this value.
    Ours {
        before: u64,
    },
}

impl Page {
    pub(crate) const fn new(at: u64) -> Self {
        Self { at, use_of: Use::Unused, before: [0; BLOCK] }
    }

    const fn fields(&self) -> u64 {
        self.at.wrapping_add(VALID_REGS)
    }

    const fn stored(&self) -> u64 {
        self.fields().wrapping_add(FIELDS as u64)
    }

    fn on(&mut self, tid: i32) {
        let mut fields = [0; FIELDS];
        if self.use_of != Use::Unused
            || Host::SYNC_WANTED == 0
            || memory::read(tid, self.fields(), &mut fields).is_err()
        {
            return;
        }
        let before = word(&fields, 0);
        if before & Host::SYNC_WANTED == Host::SYNC_WANTED {
            self.use_of = Use::Theirs;
            return;
        }
        // A VMM that has part of them stored may also have KVM load them from here: hands off.
        if before != 0 || word(&fields, 8) != 0 {
            return;
        }
        let stored = self.stored();
        let Some(place) = self.before.get_mut(..Host::SYNC_LEN) else { return };
        if memory::read(tid, stored, place).is_err() {
            return;
        }
        // The mark says whether KVM has stored anything since.
        let done = memory::write(tid, self.stored() + Host::SYNC_MARK as u64, &[0; 8])
            .and_then(|()| memory::write(tid, self.fields(), &Host::SYNC_WANTED.to_le_bytes()));
        if done.is_ok() {
            self.use_of = Use::Ours { before };
        }
    }

    fn off(&mut self, tid: i32) {
        let mut valid = [0; 8];
        if let Use::Ours { before } = self.use_of
            && memory::read(tid, self.fields(), &mut valid).is_ok()
            && u64::from_le_bytes(valid) == Host::SYNC_WANTED
        {
            let _ = memory::write(tid, self.fields(), &before.to_le_bytes());
            let _ = memory::write(tid, self.stored(), self.before.get(..Host::SYNC_LEN).unwrap_or_default());
        }
        self.use_of = Use::Unused;
    }

    /// The registers, where KVM stored them when the vCPU last left the guest.
    fn take(&self, tid: i32, block: &mut [u8; BLOCK]) -> bool {
        if self.use_of == Use::Unused {
            return false;
        }
        let mut bytes = [0; FIELDS + BLOCK];
        let Some(place) = bytes.get_mut(..FIELDS + Host::SYNC_LEN) else { return false };
        if memory::read(tid, self.fields(), place).is_err() {
            return false;
        }
        let stored = bytes.get(FIELDS..).unwrap_or_default();
        if word(&bytes, 0) & Host::SYNC_WANTED != Host::SYNC_WANTED || word(stored, Host::SYNC_MARK) == 0 {
            return false;
        }
        Host::from_sync(stored, block);
        true
    }
}

/// The thread of a vCPU where it was held as it left `KVM_RUN`.
fn leaving(threads: &[Thread], vcpu: &Vcpu) -> Option<i32> {
    let thread = threads.iter().find(|thread| Some(thread.tid) == vcpu.tid)?;
    (thread.is_held() && thread.in_run.is_some_and(|fd| is_one_of(fd, &vcpu.fds))).then_some(thread.tid)
}

impl Tracer {
    /// Has KVM store registers from the next exit on. Only of vCPUs that are seen to be run: of one that was taken out meanwhile, the
    /// page is none any more.
    pub(super) fn pages_on(&mut self, post: &mut Post) {
        for vcpu in &mut self.vcpus {
            if let Some(tid) = leaving(&self.threads, vcpu)
                && let Some(page) = &mut vcpu.page
            {
                page.on(tid);
            }
        }
        self.step(post, Step::PagesOn);
    }

    /// Puts the pages right, where any of the VMM is left.
    pub(super) fn pages_off(&mut self) {
        let Some(tid) = self.traced() else { return };
        for page in self.vcpus.iter_mut().filter_map(|vcpu| vcpu.page.as_mut()) {
            page.off(tid);
        }
    }

    /// Takes registers of held vCPUs out of their pages. Only of those whose thread was held as it left `KVM_RUN`: elsewhere the VMM
    /// may have changed them since. Where nothing may be injected, that is passed over: what KVM has stored since the page was set
    /// up is from the vCPU's last exit, and it has not run since; a vCPU that has long been paused never stored any.
    pub(super) fn take_pages(&mut self) {
        let stands = self.traced().filter(|_| self.held && !self.inject);
        let threads = &self.threads;
        for vcpu in self.vcpus.iter_mut().filter(|vcpu| vcpu.source == Source::None) {
            let Some(tid) = leaving(threads, vcpu).or(stands) else { continue };
            if vcpu.page.as_ref().is_some_and(|page| page.take(tid, &mut vcpu.block)) {
                vcpu.source = Source::Page;
            }
        }
    }
}
