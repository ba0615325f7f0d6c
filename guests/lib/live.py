"""Live guests for check-live: what they are, what they told, what they do while they are looked at."""

import collections
import json
import os
import struct
import subprocess
import sys
import time

from qemu import Qmp

HERE = os.path.dirname(os.path.abspath(__file__))
GUESTS = os.path.dirname(HERE)
MIX_HEAD = 32       # magic, parts, calls
MIX_PART = 32       # name, rounds, nanoseconds


class Talker:
    """A program that says a line of JSON when it is ready and ends when its stdin does."""

    def __init__(self, *command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.facts = self.line()
        self.pid = self.facts['pid']
        self.kvm = f'kvm:{self.pid}'

    def line(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f'{self.process.args}: ended with {self.process.wait()}')
        return json.loads(line)

    def ask(self, word):
        self.process.stdin.write(word.encode() + b'\n')
        self.process.stdin.flush()
        return self.line()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Bare(Talker):
    """A barekvm; `words` as it takes them."""

    def __init__(self, program, *words):
        super().__init__(program, *words, '--control')

    def counters(self):
        return [vcpu['counter'] for vcpu in self.ask('counters')['vcpus']]


class Live(Talker):
    """A guest that run-live brings up in the folder `run`."""

    def __init__(self, run, image, *words):
        super().__init__(sys.executable, os.path.join(GUESTS, 'run-live'), run, image, '--attend', *words)
        self.qmp, self.gdb = 'qmp:' + self.facts['qmp'], 'gdb:' + self.facts['gdb']
        self.mix = {}

    def execute(self, command, **arguments):
        """A command of QMP, over a connection of its own: QEMU talks to one at a time."""
        qmp = Qmp(self.facts['qmp'])
        try:
            return qmp(command, **arguments)
        finally:
            qmp.close()

    def status(self):
        return self.execute('query-status')['status']

    def core(self, path):
        """QEMU's own ELF core of the guest as it is."""
        if os.path.exists(path):
            os.unlink(path)
        self.execute('dump-guest-memory', paging=False, protocol='file:' + path)
        return path

    def find_mix(self, vmc, core, truth):
        """Where the truth of each mix lies in physical memory."""
        for report in truth['workloads']:
            if report['workload'] == 'mix':
                words = [vmc, 'translate', core, '--pid', str(report['pid']), report['note'].split()[1]]
                told = json.loads(subprocess.run(words + ['--format', 'json', '--no-cache'], check=True,
                                                 stdout=subprocess.PIPE).stdout)
                told = told[0] if isinstance(told, list) else told
                self.mix[report['label']] = int(told['physical'], 0)

    def rounds(self):
        """{'main': {'mix_half': rounds, ..}, ..}: how often each loop went round so far."""
        out = {}
        path = os.path.join(os.path.dirname(self.facts['qmp']), 'mix.bin')
        for label, at in self.mix.items():
            self.execute('pmemsave', val=at, size=MIX_HEAD + 6 * MIX_PART, filename=path)
            with open(path, 'rb') as f:
                data = f.read()
            assert data.startswith(b'mix truth'), data[:16]
            count, = struct.unpack_from('<Q', data, 16)
            parts = [data[MIX_HEAD + i * MIX_PART:][:MIX_PART] for i in range(count)]
            out[label] = {part[:16].rstrip(b'\0').decode(): struct.unpack_from('<Q', part, 16)[0]
                          for part in parts}
        return out


def seen(pid, wait=0.0):
    """What can be seen of a process from outside, and may not change by being looked at.

    wait: seconds that it has for closing what others closed.
    """
    time.sleep(wait)
    threads = sorted(os.listdir(f'/proc/{pid}/task'))
    lines = {}
    for tid in threads:
        with open(f'/proc/{pid}/task/{tid}/status') as f:
            lines[tid] = [line.strip() for line in f
                          if line.startswith(('TracerPid', 'SigBlk', 'SigIgn', 'SigCgt', 'Seccomp:'))]
    # by what they are of: QEMU makes those of its devices anew when a guest is stopped and goes on
    links = collections.Counter()
    for fd in os.listdir(f'/proc/{pid}/fd'):
        try:
            links[os.readlink(f'/proc/{pid}/fd/{fd}').split(':[')[0]] += 1
        except FileNotFoundError:
            pass
    return {**{f'descriptors of {link}': count for link, count in links.items()},
            **{f'thread {tid}': line for tid, line in lines.items()}}


def seen_again(before, pid, seconds=5):
    """'' where the process looks as before (again), else what differs."""
    end = time.time() + seconds
    while True:
        now = seen(pid)
        if now == before:
            return ''
        if time.time() > end:
            names = sorted({*now, *before})
            return ', '.join(f'{name}: {before.get(name)} is {now.get(name)}' for name in names
                             if now.get(name) != before.get(name))
        time.sleep(0.02)
