"""truth.json's newer keys: files and directories, what /proc says of a process in its own
words, every network and mount namespace, interfaces."""

import re

from truth_text import lines, numbers, sockets_of, text

CAPABILITIES = ('CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb')
# files of /proc/PID whose text is kept as it is
RAW = ('status', 'stat', 'statm', 'cgroup', 'oom_score', 'oom_score_adj', 'loginuid',
       'limits', 'smaps_rollup')
DTYPES = {1: 'fifo', 2: 'char', 4: 'dir', 6: 'block', 8: 'file', 10: 'link', 12: 'socket'}


def process_more(stream, where, status):
    """What a process's row has beside the fields that are taken apart elsewhere."""
    statm = numbers(stream.text(where + 'statm'))
    return {
        'caps': {name: status[name] for name in CAPABILITIES if name in status},
        'statm': statm,
        'raw': {name: stream.text(where + name) for name in RAW if where + name in stream.files},
    }


def mount_at(mounts, path):
    """The type of the file system that `path` is on; of mounts on one place the last counts."""
    best, kind = -1, None
    for target, fstype in mounts:
        inside = path == target or path.startswith(target.rstrip('/') + '/')
        if inside and len(target) >= best:
            best, kind = len(target), fstype
    return kind


def unescaped(word):
    """A word of /proc/mounts: \\040 is a space."""
    return re.sub(r'\\([0-7]{3})', lambda m: chr(int(m[1], 8)), word)


def file_hashes(stream):
    """The guest's sha256 of files that were read whole, so that the page cache has them."""
    mounts = [(unescaped(words[1]), words[2])
              for words in (line.split() for line in lines(stream, '/proc/mounts'))]
    out = []
    for record in stream.files.get('file-hashes', b'').split(b'\0')[:-1]:
        words = record.split(b' ', 10)
        digest, size, mode, uid, gid, nlink, inode, dev, blocks, mtime = (
            word.decode() for word in words[:10])
        path = text(words[10])
        dev = int(dev, 16)
        out.append({
            'path': path, 'size': int(size), 'sha256': digest, 'mode': int(mode, 8),
            'uid': int(uid), 'gid': int(gid), 'nlink': int(nlink), 'inode': int(inode),
            'dev': '%d:%d' % (dev >> 8 & 0xfff, dev & 0xff), 'blocks': int(blocks),
            'mtime': mtime, 'fstype': mount_at(mounts, path),
        })
    return out


def directories(stream):
    """{directory: its entries}, "." and ".." left out."""
    out = {}
    for key, data in stream.files.items():
        if not key.startswith('listing '):
            continue
        where = key[len('listing '):]
        entries = []
        for record in data.split(b'\0')[:-1]:
            inode, kind, mode, size, name = record.split(b' ', 4)
            if name in (b'.', b'..'):
                continue
            name = text(name)
            entry = {'name': name, 'inode': int(inode), 'type': DTYPES.get(int(kind), '?'),
                     'mode': int(mode, 8), 'size': int(size)}
            target = stream.links.get(where.rstrip('/') + '/' + name)
            if target is not None:
                entry['target'] = target
            entries.append(entry)
        out[where] = sorted(entries, key=lambda entry: entry['name'])
    return out


def namespaces(stream, kind, files):
    """{"net:[N]": {"pid": one process in it, FILE: text}}, for one kind of namespace."""
    out = {}
    for path, target in sorted(stream.links.items()):
        match = re.match(r'/proc/(\d+)/ns/' + kind + '$', path)
        if not match:
            continue
        found = {name: stream.text(f'/proc/{match[1]}/{name}')
                 for name in files if f'/proc/{match[1]}/{name}' in stream.files}
        if found:
            out[target] = {'pid': int(match[1]), **found}
    return out


def network_namespaces(stream):
    out = namespaces(stream, 'net', ('net/dev', 'net/if_inet6', 'net/route', 'net/fib_trie'))
    for row in out.values():
        row['sockets'] = sockets_of(stream, f'/proc/{row["pid"]}/net/')
        for name in [name for name in row if name.startswith('net/')]:
            row[name[4:]] = row.pop(name)
    return out


def interfaces(stream):
    """The network interfaces of the first namespace, from /sys/class/net."""
    out = {}
    for path, data in stream.files.items():
        match = re.match(r'/sys/class/net/([^/]+)/(\w+)$', path)
        if match:
            out.setdefault(match[1], {})[match[2]] = text(data).strip()
    for line in lines(stream, 'addresses'):
        name, family, address = line.split()
        out.setdefault(name.split(':')[0], {}).setdefault(family, []).append(address)
    return out


def overlay_of(mountinfo):
    """The directories of the overlay that is the root of a mount namespace, or None."""
    found = None
    for line in mountinfo.split('\n'):
        left, _, right = line.partition(' - ')
        if left.split()[4:5] != ['/'] or not right:
            continue
        kind, _, options = right.split(' ', 2)
        options = dict(word.partition('=')[::2] for word in options.split(','))
        # of mounts on one place the last counts
        found = {name: unescaped(options[name]) for name in ('lowerdir', 'upperdir', 'workdir')
                 if name in options} if kind == 'overlay' else None
    return found


def containers(stream, procs):
    """The first process of every PID namespace but the outermost, with what holds it apart."""
    outer = next((p['ns'] for p in procs if p['pid'] == 1), {})
    mounts = namespaces(stream, 'mnt', ('mountinfo',))
    names = namespaces(stream, 'uts', ('hostname',))
    out = []
    for p in procs:
        if len(p['nspid']) < 2 or p['nspid'][-1] != 1:
            continue
        ns = {kind: target for kind, target in p['ns'].items() if not kind.endswith('_children')}
        out.append({
            'pid': p['pid'],
            'nspid': p['nspid'],
            'comm': p['comm'],
            'ns': ns,
            'own': sorted(kind for kind, target in ns.items() if target != outer.get(kind)),
            'cgroup': p['cgroup'],
            'hostname': names.get(ns.get('uts'), {}).get('hostname'),
            'overlay': overlay_of(mounts.get(ns.get('mnt'), {}).get('mountinfo', '')),
            'pids': sorted(q['pid'] for q in procs if q['ns'].get('pid') == ns.get('pid')),
        })
    return out


def swapped(stream, page):
    """{pid: [[virtual address, pages]]}: pages that are in swap (bit 62 of their pagemap entry)."""
    out = {}
    for pid, pieces in stream.pages.items():
        runs = []
        for start, entries in pieces:
            for k, entry in enumerate(entries):
                # both bits are set for none; file and shared pages (bit 61) are not ours to tell
                if entry >> 61 & 7 != 2:
                    continue
                va = start + k * page
                if runs and runs[-1][0] + runs[-1][1] * page == va:
                    runs[-1][1] += 1
                else:
                    runs.append([va, 1])
        if runs:
            out[pid] = [['0x%x' % va, count] for va, count in runs]
    return out


def resident(stream):
    """What the page cache has of the files that programs run from, by device and inode."""
    out = []
    for line in lines(stream, 'resident'):
        dev, inode, pages, *runs = line.split()
        out.append({'dev': dev, 'inode': int(inode), 'pages': int(pages),
                    'runs': [numbers(run.replace('+', ' ')) for run in runs]})
    return out


def truth_more(stream, procs, page):
    """The keys of the whole guest."""
    return {
        'containers': containers(stream, procs),
        'swapped': swapped(stream, page),
        'resident': resident(stream),
        'btf': lines(stream, 'module-btf'),
        'files': file_hashes(stream),
        'directories': directories(stream),
        'netns': network_namespaces(stream),
        'mntns': namespaces(stream, 'mnt', ('mounts', 'mountinfo')),
        'interfaces': interfaces(stream),
        'if_inet6': stream.text('/proc/net/if_inet6'),
        'route': stream.text('/proc/net/route'),
        'swaps': stream.text('/proc/swaps'),
        'tainted': stream.text('/proc/sys/kernel/tainted').strip(),
        'uptime': stream.text('/proc/uptime').strip(),
        'vmstat': stream.text('/proc/vmstat'),
        'cgroups': stream.text('/proc/cgroups'),
    }
