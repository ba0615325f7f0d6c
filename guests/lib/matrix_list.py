"""The guests of the matrix: those of matrix.list, and images that lie there ready."""

import json
import os
import shlex

ARCHES = ('x86_64', 'aarch64')
MARKS = ('ci', 'pac', 'real-root')


class Guest:
    """A line of the list."""

    def __init__(self, line):
        words = shlex.split(line.replace('\\', '\\\\'))
        if len(words) < 5:
            raise SystemExit(f'matrix.list: not enough columns: {line}')
        self.name, self.arch, suites, self.kernel, marks, *self.options = words
        self.suites = suites.split(',')
        self.marks = [] if marks == '-' else marks.split(',')
        if self.arch not in ARCHES or not set(self.marks) <= set(MARKS):
            raise SystemExit(f'matrix.list: unknown architecture or mark: {line}')

    ready = None    # the folder of a ready image

    @property
    def real_root(self):
        return 'real-root' in self.marks

    @property
    def programs(self):
        """Which build of the workloads it runs: (folder's name, environment of the build)."""
        if self.real_root:
            return 'x86_64-32', {'M32': '1'}
        if 'pac' in self.marks:
            return self.arch + '-pac', {'CFLAGS': '-mbranch-protection=standard'}
        return self.arch, {}


class Ready:
    """An image with its truth that lies there already; it is only checked."""

    marks = ()
    options = ()
    real_root = False

    def __init__(self, folder):
        self.ready = folder
        self.name = 'image-' + os.path.basename(folder)
        with open(os.path.join(folder, 'truth.json')) as f:
            self.arch = json.load(f)['arch']


def memory_of(folder):
    """The path of a folder's memory image, or None."""
    for name in ('mem.elf', 'mem.elf.zst'):
        path = os.path.join(folder, name)
        if os.path.exists(path):
            return path
    return None


def ready_images(folders):
    """The images in folders, or in folders of theirs."""
    out = []
    for folder in folders:
        inside = [os.path.join(folder, name) for name in sorted(os.listdir(folder))]
        out += [Ready(path) for path in [folder, *inside]
                if os.path.exists(os.path.join(path, 'truth.json')) and memory_of(path)]
    return out


def read_list(path):
    guests = []
    with open(path) as f:
        for line in f:
            line = line.split('#')[0].strip()
            if line:
                guests.append(Guest(line))
    names = [guest.name for guest in guests]
    if len(set(names)) != len(names):
        raise SystemExit('matrix.list: a name twice')
    return guests


def chosen(guests, names, ci):
    """The guests that were asked for; all of them where none was."""
    known = {guest.name: guest for guest in guests}
    for name in names:
        if name not in known:
            raise SystemExit(f'no guest {name} in the list: ' + ' '.join(known))
    if names:
        return [known[name] for name in names]
    return [guest for guest in guests if 'ci' in guest.marks] if ci else guests
