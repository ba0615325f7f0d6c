"""What a thread of a KVM guest loses, by the host kernel's own account of it.

A vCPU that counts is always ready to run: what it has not of a processor was taken from it, by
whoever held it or ran in its place. That is exact in nanoseconds, and does not change with how
fast a processor is just now, as the guest's rounds in a second do.
"""

import os
import statistics
import time

TICK = os.sysconf('SC_CLK_TCK')


def ran(pid, tid):
    """Seconds that a thread ran, and that it was ready and waited for a processor."""
    with open(f'/proc/{pid}/task/{tid}/schedstat') as f:
        run, wait, _ = f.read().split()
    return int(run) / 1e9, int(wait) / 1e9


def in_kernel(pid, tid):
    """Seconds that a thread ran in the host's kernel, KVM and held threads' system calls too."""
    with open(f'/proc/{pid}/task/{tid}/stat') as f:
        return int(f.read().rpartition(')')[2].split()[12]) / TICK


def busy():
    """Seconds of all processors that were not idle; those that another machine had are counted."""
    with open('/proc/stat') as f:
        user, nice, system, _, _, irq, softirq, steal = map(int, f.readline().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / TICK


class Span:
    """What became of the first vCPU of a Bare in some seconds, in shares of them."""

    def __init__(self, bare, seconds):
        begin = self.now(bare)
        time.sleep(seconds)
        wall, run, wait, kernel, rounds, beside = (b - a for a, b in zip(begin, self.now(bare)))
        self.run, self.wait, self.kernel = run / wall, wait / wall, kernel / wall
        self.held = 1 - self.run - self.wait    # not ready to run: somebody stopped it
        self.rounds = rounds / wall
        self.beside = beside / wall             # what others had, in processors

    @staticmethod
    def now(bare):
        tid = bare.facts['vcpus'][0]['tid']
        own = sum(ran(bare.pid, each)[0] for each in os.listdir(f'/proc/{bare.pid}/task'))
        return (time.monotonic(), *ran(bare.pid, tid), in_kernel(bare.pid, tid), bare.counters()[0],
                busy() - own)


class Round:
    """A span in which the guest was watched, between two in which it was not."""

    def __init__(self, before, watched, after):
        self.before, self.watched, self.after = before, watched, after
        self.beside = max(before.beside, after.beside)

    def lost(self):
        """For how long it was held; what it waits is printed beside: others' load is in that too."""
        return self.watched.held

    def slower(self):
        """What its pace lost while it ran; that is the processor's too, and no median of few steadies it."""
        watched, before, after = (each.rounds / max(each.run, 1e-9) for each in (self.watched, self.before, self.after))
        return 1 - watched / statistics.mean((before, after))


class Losses:
    """What rounds lost together: a median, and what it is made of."""

    def __init__(self, rounds):
        def median(share):
            return statistics.median(share(each) for each in rounds)
        # ticks are too coarse for a round: a share of all of them
        self.kernel = statistics.mean(each.watched.kernel for each in rounds)
        self.lost = median(Round.lost) + self.kernel
        self.wait = median(lambda each: each.watched.wait)
        self.slower = median(Round.slower)
