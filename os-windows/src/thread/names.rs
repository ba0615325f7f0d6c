//! Names of `KTHREAD_STATE` and `KWAIT_REASON` (wdm.h; the newest reasons as phnt's ntkeapi.h has them). Newer
//! kernels put new ones at the end only.

pub(crate) const RUNNING: u8 = 2;
pub(super) const WAITING: u8 = 5;

const STATES: [&str; 10] = [
    "Initialized",
    "Ready",
    "Running",
    "Standby",
    "Terminated",
    "Waiting",
    "Transition",
    "DeferredReady",
    "GateWait",
    "WaitingForProcessInSwap",
];

const WAIT_REASONS: [&str; 43] = [
    "Executive",
    "FreePage",
    "PageIn",
    "PoolAllocation",
    "DelayExecution",
    "Suspended",
    "UserRequest",
    "WrExecutive",
    "WrFreePage",
    "WrPageIn",
    "WrPoolAllocation",
    "WrDelayExecution",
    "WrSuspended",
    "WrUserRequest",
    "WrEventPair",
    "WrQueue",
    "WrLpcReceive",
    "WrLpcReply",
    "WrVirtualMemory",
    "WrPageOut",
    "WrRendezvous",
    "WrKeyedEvent",
    "WrTerminated",
    "WrProcessInSwap",
    "WrCpuRateControl",
    "WrCalloutStack",
    "WrKernel",
    "WrResource",
    "WrPushLock",
    "WrMutex",
    "WrQuantumEnd",
    "WrDispatchInt",
    "WrPreempted",
    "WrYieldExecution",
    "WrFastMutex",
    "WrGuardedMutex",
    "WrRundown",
    "WrAlertByThreadId",
    "WrDeferredPreempt",
    "WrPhysicalFault",
    "WrIoRing",
    "WrMdlCache",
    "WrRcu",
];

/// The name of a state.
pub(super) fn state(number: u8) -> Option<&'static str> {
    STATES.get(usize::from(number)).copied()
}

/// The name of a reason to wait.
pub(super) fn wait_reason(number: u8) -> Option<&'static str> {
    WAIT_REASONS.get(usize::from(number)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_documented_enums() {
        assert_eq!(state(RUNNING), Some("Running"));
        assert_eq!(state(WAITING), Some("Waiting"));
        assert_eq!(wait_reason(6), Some("UserRequest"));
        assert_eq!(wait_reason(15), Some("WrQueue"));
        assert_eq!(wait_reason(37), Some("WrAlertByThreadId"));
        assert_eq!(wait_reason(200), None);
    }
}
