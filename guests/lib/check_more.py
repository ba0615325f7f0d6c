"""More of check-cli's checks: files, directories, credentials, use of CPU and memory, modules' sections, containers.

They hold the command line against the newer keys of truth.json; what a truth does not have is not checked, and a check that
found nothing to compare falls short.
"""

import datetime
import hashlib
import ipaddress
import json
import os
import re
import subprocess

KINDS = {'fifo': 'p', 'char': 'c', 'dir': 'd', 'block': 'b', 'file': '-', 'link': 'l', 'socket': 's'}
# /proc counts CPU time in hundredths of a second
TICK = 0.01


def status_of(process):
    """/proc/PID/status as {name: value}."""
    text = (process.get('raw') or {}).get('status', '')
    rows = (line.split(':', 1) for line in text.split('\n') if ':' in line)
    return {name: value.strip() for name, value in rows}


def prefixed(address):
    """"ADDRESS/MASK" with the length of the mask in its place."""
    address, mask = address.split('/')
    return f'{address}/{int(ipaddress.ip_address(mask)).bit_count()}'


def numbers(text):
    return [int(word) for word in text.split()]


class Checks:
    def __init__(self, cli, target, truth, arguments, call, score, own, some_files):
        self.cli, self.target, self.truth, self.arguments = cli, target, truth, arguments
        self.call, self.score, self.own = call, score, own
        self.some_files = some_files

    def raw(self, *words):
        return subprocess.run([self.cli, *words, *self.arguments], capture_output=True, timeout=240, check=False)

    def processes(self):
        return [p for p in self.truth['processes'] if p['pid'] not in self.own]

    def cat_fd(self):
        """Files by descriptor: what a process runs from a file without a name, and files with one, are the same bytes both ways."""
        s = self.score('cat-fd')
        hashes = {told['path']: told['sha256'] for told in self.truth.get('files') or []}
        first = next((p['ns'].get('mnt') for p in self.truth['processes'] if p['pid'] == 1), None)
        for process in self.processes():
            # in another mount namespace the path may be another file
            if process['ns'].get('mnt') != first:
                continue
            for fd, file in (process.get('fds') or {}).items():
                memfd = 'memfd:' in file['path'] and process.get('exe') == file['path']
                if not memfd and file['path'] not in hashes:
                    continue
                r = self.raw('cat', self.target, '--pid', str(process['pid']), '--fd', fd)
                right = r.stdout[:4] == b'\x7fELF' if memfd else hashlib.sha256(r.stdout).hexdigest() == hashes[file['path']]
                s.see(right, f'pid {process["pid"]} fd {fd} {file["path"]}: {len(r.stdout)} bytes, {r.stderr.decode()}')
        s.close()

    def ls(self):
        s = self.score('ls')
        # what a directory says of a mount point is the number of what is below the mount
        mounted = {words[1] for words in self.truth.get('mounts') or []}
        for where, told in (self.truth.get('directories') or {}).items():
            r = self.raw('ls', self.target, where, '--format', 'json')
            if r.returncode:
                # a disk's directory may have left the dentry cache since
                gone = b'is not in the dentry cache' in r.stderr
                if not gone:
                    s.see(False, f'{where!r}: {r.stderr.decode()[-200:].strip()}')
                continue
            partial = b'there may be more' in r.stderr
            got = {row['name']: row for row in json.loads(r.stdout)}
            for entry in told:
                row = got.get(entry['name']) or {}
                if partial and not row:
                    continue
                path = where.rstrip('/') + '/' + entry['name']
                inode = row.get('inode') if path in mounted else entry['inode']
                want = (KINDS[entry['type']], '%04o' % (entry['mode'] & 0o7777), inode, entry.get('target'))
                have = (row.get('type'), row.get('mode'), row.get('inode'), row.get('target'))
                s.see(have == want, f'{where!r} {entry["name"]!r}: {have}, guest says {want}')
                if entry['type'] in ('file', 'link'):
                    s.see(row.get('size') == entry['size'],
                          f'{where!r} {entry["name"]!r}: size {row.get("size")}, guest says {entry["size"]}')
            names = {entry['name'] for entry in told}
            for name in got.keys() - names:
                s.see(False, f'{where!r} {name!r} is not in the guest')
        for told in self.some_files(int(os.environ.get('CHECK_FILES', '32'))):
            rows, _ = self.call('ls', self.target, told['path'])
            if not rows:
                s.see(False, f'{told["path"]!r} is not listed')
                continue
            row = rows[0]
            seconds = int(told['mtime'].split('.')[0])
            stamp = row.get('mtime') or ''
            s.see((row.get('uid'), row.get('gid')) == (told['uid'], told['gid']) and seconds_of(stamp) == seconds,
                  f'{told["path"]!r}: {row.get("uid")} {row.get("gid")} {stamp}, '
                  f'guest says {told["uid"]} {told["gid"]} {told["mtime"]}')
        s.close()

    def creds(self):
        rows, _ = self.call('ps', self.target)
        got = {row['pid']: row for row in rows}
        s = self.score('creds')
        for process in self.processes():
            row, pid = got.get(process['pid']) or {}, process['pid']
            status, caps = status_of(process), process.get('caps') or {}
            want = dict(zip(('uid', 'euid', 'suid', 'fsuid'), process['uid']))
            want |= dict(zip(('gid', 'egid', 'sgid', 'fsgid'), process['gid']))
            want['groups'] = numbers(process['groups'])
            for field, name in (('cap_inheritable', 'CapInh'), ('cap_permitted', 'CapPrm'), ('cap_effective', 'CapEff'),
                                ('cap_bounding', 'CapBnd'), ('cap_ambient', 'CapAmb')):
                if name in caps:
                    want[field] = caps[name]
            if not caps and process.get('cap_eff'):
                want['cap_effective'] = process['cap_eff']
            if process.get('seccomp') is not None:
                want['seccomp'] = int(process['seccomp'])
            if 'NoNewPrivs' in status:
                want['no_new_privs'] = status['NoNewPrivs'] == '1'
            if self.truth.get('btime') and process.get('start_ticks') is not None:
                # btime is in whole seconds, ticks are of a hundredth
                told = self.truth['btime'] + process['start_ticks'] / 100
                have = datetime.datetime.fromisoformat((row.get('start_time') or '1970-01-01T00:00:00Z')[:19] + '+00:00')
                s.see(abs(have.timestamp() - told) < 2.1, f'pid {pid} start_time: {row.get("start_time")!r}, guest says {told}')
            for field, value in want.items():
                s.see(row.get(field) == value, f'pid {pid} {field}: {row.get(field)!r}, guest says {value!r}')
        s.close()

    def usage(self):
        rows, _ = self.call('ps', self.target)
        got = {row['pid']: row for row in rows}
        page = self.truth.get('page_size') or 4096
        last = {t['tid']: t for t in self.truth.get('threads_last') or []}
        s = self.score('usage')
        # pages that come and go, and time that goes by, between the guest's word and its stop
        near = self.score('usage that changes by itself')
        for process in self.processes():
            row, pid = got.get(process['pid']) or {}, process['pid']
            raw = process.get('raw') or {}
            want = {'pgid': process['pgrp'], 'session': process['session'], 'nspid': process['nspid']}
            threads = {t['tid']: t for t in process['threads']}
            if pid in threads:
                leader = threads[pid]
                want |= {'nice': leader['nice'], 'priority': leader['prio'],
                         'policy': ('other', 'fifo', 'rr', 'batch', '', 'idle', 'deadline', 'ext')[leader['policy']]}
            if process['state'] != 'Z' and not process['kernel_thread']:
                want['vsize_bytes'] = process['vsize']
            if process.get('cgroup'):
                want['cgroup'] = next((line.split(':', 2)[2] for line in process['cgroup'].split('\n')
                                       if line.startswith('0::')), None)
            if process['oom_score_adj']:
                want['oom_score_adj'] = int(process['oom_score_adj'])
            for field, value in want.items():
                s.see(row.get(field) == value, f'pid {pid} {field}: {row.get(field)!r}, guest says {value!r}')
            if 'stat' in raw:
                fields = raw['stat'][raw['stat'].rindex(')') + 2:].split()
                s.see((row.get('tty_nr') or 0) == int(fields[4]), f'pid {pid} tty_nr: {row.get("tty_nr")}, guest says {fields[4]}')
                spins = any(t.get('running') for t in process['threads']) or process['kernel_thread']
                for field, told in (('cpu_user', int(fields[11])), ('cpu_system', int(fields[12]))):
                    have = row.get(field)
                    slack = 10 if spins else 0.1
                    near.see(have is not None and told * TICK - 0.011 <= have <= told * TICK + slack,
                             f'pid {pid} {field}: {have}, guest says {told * TICK:.2f}')
            if process.get('statm') and process['state'] != 'Z' and not process['kernel_thread']:
                size, resident, shared = process['statm'][:3]
                for field, told in (('rss_bytes', resident), ('shared_bytes', shared)):
                    have = (row.get(field) or 0) // page
                    # reading /proc faults pages of the process' stack in
                    near.see(abs(have - told) <= 2, f'pid {pid} {field}: {have} pages, guest says {told}')
                status = status_of(process)
                if 'VmSwap' in status:
                    told = int(status['VmSwap'].split()[0]) * 1024
                    near.see(abs((row.get('swap_bytes') or 0) - told) <= 4 * page,
                             f'pid {pid} swap_bytes: {row.get("swap_bytes")}, guest says {told}')
        s.close()
        if near.n:
            near.close(0.95)

    def sections(self):
        rows, _ = self.call('modules', self.target)
        got = {row['name']: row for row in rows}
        s = self.score('sections')
        for told in self.truth['modules']:
            row = got.get(told['name']) or {}
            have = {name: int(at, 16) for name, at in (row.get('sections') or {}).items()}
            for name, at in told['sections'].items():
                s.see(have.get(name) == int(at, 16), f'{told["name"]} {name}: {have.get(name)}, guest says {at}')
            for name in have.keys() - told['sections'].keys():
                s.see(not told['sections'], f'{told["name"]} {name} is not in the guest')
            letters = told['taint'].strip('()')
            # a module that is coming or going has a sign too
            letters = re.sub('[-+]', '', letters)
            s.see(row.get('taints', '') == letters, f'{told["name"]} taints {row.get("taints")!r}, guest says {letters!r}')
            s.see(row.get('refcount') == told['refcnt'], f'{told["name"]} refcount {row.get("refcount")}, guest says {told["refcnt"]}')
            used = [name for name in told['used_by'] if not name.startswith('[')]
            s.see(sorted(row.get('used_by') or []) == sorted(used), f'{told["name"]} used_by {row.get("used_by")}, guest says {used}')
        if self.truth.get('tainted'):
            info, _ = self.call('info', self.target)
            # the symbols of some aarch64 kernels have no data among them
            blind = self.truth['arch'] in ('aarch64', 'arm64') and info.get('tainted') is None
            s.see(blind or info.get('tainted') == int(self.truth['tainted']), f'tainted {info.get("tainted")}, guest says {self.truth["tainted"]}')
        s.close()

    def interfaces(self):
        rows, _ = self.call('interfaces', self.target)
        init = next(p for p in self.truth['processes'] if p['pid'] == 1)
        s = self.score('interfaces')
        for namespace, told in (self.truth.get('netns') or {}).items():
            number = int(re.search(r'\[(\d+)\]', namespace)[1])
            names = {line.split(':')[0].strip() for line in told['dev'].split('\n') if ':' in line}
            have = {row['name'] for row in rows if row.get('netns') == number}
            s.see(have == names, f'{namespace}: {sorted(have)}, guest says {sorted(names)}')
        own = init['ns'].get('net')
        for name, told in (self.truth.get('interfaces') or {}).items():
            row = next((row for row in rows if row['name'] == name and own == f'net:[{row.get("netns")}]'), {})
            want = (told['address'], int(told['mtu']), int(told['ifindex']), told['flags'])
            have = (row.get('hardware_address'), row.get('mtu'), row.get('index'), row.get('flags'))
            s.see(have == want, f'{name}: {have}, guest says {want}')
            addresses = {str(ipaddress.ip_interface(prefixed(address)))
                         for family in ('inet', 'inet6') for address in told.get(family, [])}
            s.see(set(row.get('addresses') or []) == addresses,
                  f'{name}: {row.get("addresses")}, guest says {sorted(addresses)}')
        s.close()

    def containers(self):
        """Every process whose PID namespace is not init's is in a container, with its numbers and namespaces."""
        rows, _ = self.call('containers', self.target)
        owner = {pid: row for row in rows for pid in row['processes']}
        s = self.score('containers')
        init = next(p for p in self.truth['processes'] if p['pid'] == 1)
        for process in self.processes():
            if process['kernel_thread'] or not process['ns'].get('pid'):
                continue
            row, pid = owner.get(process['pid']), process['pid']
            inside = process['ns']['pid'] != init['ns']['pid']
            if inside:
                s.see(row is not None, f'pid {pid} is in no container, guest says {process["ns"]["pid"]}')
            if row is None:
                same = process['ns'].get('mnt') in (None, init['ns'].get('mnt'))
                s.see(not inside or same, f'pid {pid} is in no container')
                continue
            have = {kind: number for kind, number in row['namespaces'].items()}
            want = {kind: int(re.search(r'\[(\d+)\]', target)[1]) for kind, target in process['ns'].items()
                    if kind in have}
            if row.get('pid') == pid:
                # a kind that the kernel was built without is in no /proc, and yet in every task
                told = {kind: number for kind, number in have.items() if kind in process['ns']}
                s.see(told == want, f'pid {pid} namespaces {have}, guest says {want}')
                s.see(row.get('pid_inside') == process['nspid'][-1], f'pid {pid} inside {row.get("pid_inside")}, guest says {process["nspid"]}')
                path = next((line.split(':', 2)[2] for line in process['cgroup'].split('\n') if line.startswith('0::')), None)
                s.see(not path or row.get('cgroup') == path, f'pid {pid} cgroup {row.get("cgroup")}, guest says {path}')
        for told in self.truth.get('containers') or []:
            row = owner.get(told['pid']) or {}
            who = f'container of pid {told["pid"]}'
            s.see(row.get('hostname') == told['hostname'], f'{who}: hostname {row.get("hostname")!r}, guest says {told["hostname"]!r}')
            root = row.get('root') or {}
            have = {name: root[name] for name in ('lowerdir', 'upperdir', 'workdir') if name in root} or None
            s.see(have == told['overlay'], f'{who}: root {root}, guest says {told["overlay"]}')
            number = re.search(r'(docker|libpod)-([0-9a-f]{64})\.scope', told['cgroup'])
            runtime = {'docker': 'docker', 'libpod': 'podman'}.get(number and number[1])
            s.see(not number or (row.get('id'), row.get('runtime')) == (number[2], runtime), f'{who}: {row.get("runtime")} {row.get("id")}, guest says {told["cgroup"]}')
        s.close()


def seconds_of(stamp):
    """RFC 3339 as seconds since 1970."""
    import calendar
    import time
    try:
        return calendar.timegm(time.strptime(stamp[:19], '%Y-%m-%dT%H:%M:%S'))
    except ValueError:
        return None
