//! Live KVM guests of any VMM: registers and memory from outside, without an agent.
