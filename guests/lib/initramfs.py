"""The guest's initramfs: a cpio archive with its programs, libraries and modules."""

import gzip
import os
import re
import subprocess

from kernel import module_order


class Cpio:
    """A cpio archive ("newc") in memory."""

    def __init__(self):
        self.data = bytearray()
        self.inode = 1
        self.dirs = set()

    def _add(self, name, mode, data=b'', major=0, minor=0):
        path = name.encode() + b'\0'
        fields = (self.inode, mode, 0, 0, 1, 1700000000, len(data), 0, 0,
                  major, minor, len(path), 0)
        self.data += b'070701' + b''.join(b'%08x' % v for v in fields) + path
        self.data += b'\0' * (-len(self.data) % 4)
        self.data += data
        self.data += b'\0' * (-len(self.data) % 4)
        self.inode += 1

    def parents(self, name):
        """Adds the directories above name."""
        path = ''
        for part in name.split('/')[:-1]:
            path = path + '/' + part if path else part
            if path not in self.dirs:
                self.dirs.add(path)
                self._add(path, 0o40755)

    def file(self, name, data, mode=0o755):
        self.parents(name)
        self._add(name, 0o100000 | mode, data)

    def link(self, name, target):
        self.parents(name)
        self._add(name, 0o120777, target.encode())

    def node(self, name, mode, major, minor):
        self.parents(name)
        self._add(name, mode, b'', major, minor)

    def done(self):
        self._add('TRAILER!!!', 0)
        return bytes(self.data)


def read(path):
    with open(path, 'rb') as f:
        return f.read()


def needed(path):
    """(interpreter or None, names of the needed libraries) of an ELF file."""
    out = subprocess.run(['readelf', '-ldW', path], check=True, stdout=subprocess.PIPE).stdout
    out = out.decode(errors='replace')
    interp = re.search(r'interpreter: ([^\]]+)\]', out)
    return (interp.group(1) if interp else None), re.findall(r'\(NEEDED\).*\[(.*)\]', out)


class Libraries:
    """The shared libraries of the programs: name in the guest -> file here."""

    def __init__(self, folders, triplet):
        self.folders = folders
        self.triplet = triplet
        self.files = {}

    def find(self, name):
        for folder in self.folders:
            path = os.path.join(folder, name)
            if os.path.exists(path):
                return path
        raise SystemExit('no ' + name)

    def add_for(self, program):
        """Adds what an ELF file needs, and what that needs."""
        interp, libraries = needed(program)
        if interp and interp not in self.files:
            path = self.find(os.path.basename(interp))
            self.files[interp.lstrip('/')] = os.path.realpath(path)
        for name in libraries:
            if any(known.endswith('/' + name) for known in self.files):
                continue
            path = self.find(name)
            self.files[f'lib/{self.triplet}/{name}'] = os.path.realpath(path)
            self.add_for(path)


def read_conf(path):
    """A conf file: (reports to wait for, lines for init, programs).

    init's lines are "<cpu or -> <argv..>", and "sample <name> <n>" as it stands.
    """
    reports = 0
    lines = []
    programs = set()
    with open(path) as f:
        for line in f:
            words = line.split('#')[0].split()
            if not words:
                continue
            if words[0] == 'sample':
                lines.append(' '.join(words))
                continue
            reports += int(words[0])
            lines.append(' '.join(words[1:]))
            programs.add(os.path.basename(words[2]))
    return reports, lines, programs


def build_initrd(args, modules, work):
    """Writes WORK/initrd. -> (its path, programs, {library: file}, modules in load order)"""
    cpio = Cpio()
    guest = os.path.join(args.bins, 'guest')
    reports, lines, wanted = read_conf(args.conf)
    libraries = Libraries(args.libdir, args.triplet)

    cpio.node('dev/console', 0o20600, 5, 1)
    cpio.node('dev/null', 0o20666, 1, 3)
    for name in ('proc', 'sys', 'run', 'tmp', 'root'):
        cpio.parents(name + '/x')
    cpio.file('init', read(guest + '/init'))

    added = dict(a.split('=', 1) for a in args.add)
    if args.busybox:
        cpio.file('bin/busybox', read(args.busybox))
        for name in ('sh', 'sleep', 'cat', 'ls'):
            cpio.link('bin/' + name, 'busybox')
    elif 'sh' in wanted and 'bin/sh' not in added:
        raise SystemExit('conf wants sh: give --busybox, or --add bin/sh=FILE')

    given = {os.path.basename(name) for name in added}
    given |= {'sh', 'sleep', 'cat', 'ls', 'busybox'} if args.busybox else set()
    for name in sorted(wanted - given):
        if not os.path.exists(f'{guest}/{name}'):
            raise SystemExit(f'conf wants {name}: not in {guest}')
    programs = {'collect'} | {p for p in wanted if os.path.exists(f'{guest}/{p}')}
    if not args.no_unwind:
        programs.add('ptunwind')
    for name in sorted(programs):
        cpio.file('bin/' + name, read(f'{guest}/{name}'))
        libraries.add_for(f'{guest}/{name}')
    libraries.add_for(guest + '/init')
    for name, path in sorted(added.items()):
        cpio.file(name, read(path))
        libraries.add_for(path)
    for name, path in sorted(libraries.files.items()):
        cpio.file(name, read(path))

    order, data = module_order(args.modules.split(',') if args.modules else [], modules)
    for name in order:
        cpio.file(f'lib/modules/{name}.ko', data[name], 0o644)
    listed = ''.join(f'/lib/modules/{name}.ko\n' for name in order)
    cpio.file('etc/modules', listed.encode(), 0o644)
    head = [f'reports {reports}'] + (['drop-caches'] if args.drop_caches else [])
    head += [] if args.no_files else ['files']
    cpio.file('etc/lab', ''.join(line + '\n' for line in head + lines).encode(), 0o644)
    hostname = args.hostname or 'lab-' + args.name
    cpio.file('etc/hostname', hostname.encode() + b'\n', 0o644)

    path = os.path.join(work, 'initrd')
    with open(path, 'wb') as f:
        f.write(gzip.compress(cpio.done(), 6, mtime=0))
    return path, sorted(programs), libraries.files, order
