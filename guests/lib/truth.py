"""truth.json: what the guest said about itself, out of the collector's stream."""

import base64
import json
import re
import struct

from truth_more import process_more, truth_more
from truth_text import lines, numbers, sockets_of, text

# Chosen kallsyms entries (all of them are in kallsyms.txt)
SYMBOLS = frozenset('''
_text _stext _etext _sdata _edata _end __bss_start __bss_stop init_task linux_banner
init_top_pgt swapper_pg_dir early_top_pgt init_mm init_pid_ns init_nsproxy init_uts_ns
modules saved_command_line page_offset_base vmalloc_base vmemmap_base phys_base
memstart_addr kimage_voffset __per_cpu_offset current_task pcpu_hot cpu_number
__per_cpu_start __per_cpu_end cpu_tss_rw entry_SYSCALL_64 entry_SYSCALL_64_after_hwframe
asm_exc_page_fault ret_from_fork ret_from_fork_asm schedule __schedule __switch_to
__switch_to_asm start_kernel rest_init kallsyms_names kallsyms_num_syms kallsyms_offsets
kallsyms_relative_base kallsyms_token_table kallsyms_token_index kallsyms_markers
kallsyms_addresses __start_BTF __stop_BTF __start_orc_unwind __stop_orc_unwind
__start_orc_unwind_ip __stop_orc_unwind_ip idt_table vectors do_idle cpu_startup_entry
default_idle __x64_sys_nanosleep pgtable_l5_enabled __pgtable_l5_enabled vmcoreinfo_data
vmcoreinfo_note root_mountflags super_blocks init_files init_fs runqueues tick_cpu_sched
jiffies jiffies_64 _printk_rb_static prb log_buf init_user_ns cpu_entry_area node_data
node_states __cpu_online_mask __cpu_possible_mask nr_cpu_ids mem_section max_pfn
contig_page_data const_current_task tasklist_lock
'''.split())

AUXV = {
    3: 'PHDR', 4: 'PHENT', 5: 'PHNUM', 6: 'PAGESZ', 7: 'BASE', 9: 'ENTRY', 11: 'UID',
    12: 'EUID', 13: 'GID', 14: 'EGID', 15: 'PLATFORM', 16: 'HWCAP', 17: 'CLKTCK',
    23: 'SECURE', 25: 'RANDOM', 26: 'HWCAP2', 31: 'EXECFN', 33: 'SYSINFO_EHDR',
}

# numbers of the fields of /proc/PID/stat, counted from the state
MM_FIELDS = (
    ('start_code', 23), ('end_code', 24), ('start_stack', 25), ('start_data', 42),
    ('end_data', 43), ('start_brk', 44), ('arg_start', 45), ('arg_end', 46),
    ('env_start', 47), ('env_end', 48),
)

PF_KTHREAD = 0x200000


class Stream:
    """The collector's stream, taken apart (workloads/collect.c says how it is made)."""

    def __init__(self, data):
        self.files = {}     # path -> bytes
        self.links = {}     # path -> where the link points
        self.marks = []     # "what realtime=.. boottime=.. self=.."
        self.pages = {}     # pid -> [(virtual address, pagemap entries)]
        at = 0
        while at < len(data):
            end = data.index(b'\n', at)
            head = data[at:end]
            at = end + 1
            if head[:2] == b'@M':
                self.marks.append(head[3:].decode())
                continue
            if head[:2] == b'@P':
                _, pid, va, count = head.split()
                count = int(count)
                entries = struct.unpack_from(f'<{count}Q', data, at)
                self.pages.setdefault(int(pid), []).append((int(va, 16), entries))
                at += count * 8
                continue
            kind, size, path = head.split(b' ', 2)
            size = int(size)
            path = path.decode()
            body = data[at:at + size]
            at += size
            if kind == b'@F':
                self.files[path] = self.files.get(path, b'') + body
            elif kind == b'@L':
                self.links[path] = body.decode(errors='surrogateescape')
            else:
                raise ValueError(head)
        self.of_process = {}    # pid -> the paths of its files and links
        for path in (*self.files, *self.links):
            match = re.match(r'/proc/(\d+)/', path)
            if match:
                self.of_process.setdefault(int(match[1]), []).append(path)

    def text(self, path):
        """A file as text; empty where there is none."""
        return text(self.files.get(path, b''))


def stat_fields(data):
    """/proc/PID/stat: (pid, comm as bytes, fields from the state on)."""
    left, right = data.index(b'('), data.rindex(b')')
    fields = [field.decode() for field in data[right + 2:].split()]
    return int(data[:left]), data[left + 1:right], fields


def status_fields(data):
    """The "name: value" lines of /proc/PID/status and of fdinfo."""
    lines = (line.split(':', 1) for line in text(data).split('\n') if ':' in line)
    return dict((key.strip(), value.strip()) for key, value in lines)


def parse_maps(data):
    out = []
    for line in text(data).split('\n'):
        m = re.match(r'([0-9a-f]+)-([0-9a-f]+) (\S+) ([0-9a-f]+) (\S+) (\d+)\s*(.*)$', line)
        if m:
            out.append({
                'start': '0x' + m[1], 'end': '0x' + m[2], 'perms': m[3],
                'offset': int(m[4], 16), 'dev': m[5], 'inode': int(m[6]), 'path': m[7] or None,
            })
    return out


def parse_auxv(data):
    out = {}
    for key, value in struct.iter_unpack('<QQ', data[:len(data) // 16 * 16]):
        if key:
            out[AUXV.get(key, str(key))] = '0x%x' % value
    return out


def kallsyms(stream):
    """({chosen symbol: address}, how many symbols there are)"""
    chosen = {}
    count = 0
    for line in stream.files.get('/proc/kallsyms', b'').split(b'\n'):
        words = line.split()
        if len(words) != 3:
            continue
        count += 1
        name = words[2].decode()
        if name in SYMBOLS or name.startswith('__tracepoint_dummy'):
            chosen.setdefault(name, '0x' + words[0].decode())
    return chosen, count


def thread_of(stream, where, tid):
    """A thread, from /proc/PID/task/TID; None where it ended meanwhile."""
    base = f'{where}task/{tid}/'
    if base + 'stat' not in stream.files:
        return None
    _, comm, stat = stat_fields(stream.files[base + 'stat'])
    status = status_fields(stream.files.get(base + 'status', b''))
    words = stream.text(base + 'syscall').split()
    call = None
    if words and words[0] != 'running':
        call = {'nr': int(words[0]), 'args': words[1:-2], 'sp': words[-2], 'pc': words[-1]}
    kstack = [re.sub(r'^\[<[0-9a-fx]*>\] ', '', line)
              for line in stream.text(base + 'stack').split('\n') if line]
    return {
        'tid': tid,
        'nstid': numbers(status.get('NSpid', str(tid))),
        'comm': text(comm),
        'comm_hex': comm.hex(),
        'state': stat[0],
        'flags': int(stat[6]),
        'start_ticks': int(stat[19]),
        'cpu': int(stat[36]),
        'policy': int(stat[38]),
        'prio': int(stat[15]),
        'nice': int(stat[16]),
        'utime': int(stat[11]),
        'stime': int(stat[12]),
        'uid': numbers(status.get('Uid', '')),
        'cap_eff': status.get('CapEff'),
        'seccomp': status.get('Seccomp'),
        'running': words[:1] == ['running'],
        'syscall': call,
        'wchan': stream.text(base + 'wchan'),
        'kstack': kstack,
    }


def files_of(stream, pid):
    """The open files, from /proc/PID/fd and fdinfo, by number."""
    out = {}
    where = f'/proc/{pid}/'
    for path in stream.of_process[pid]:
        if not path.startswith(where + 'fd/'):
            continue
        number, target = path.rsplit('/', 1)[1], stream.links[path]
        info = status_fields(stream.files.get(f'{where}fdinfo/{number}', b''))
        out[number] = {
            'path': target, 'pos': int(info.get('pos', 0)), 'flags': info.get('flags'),
            'mnt_id': info.get('mnt_id'),
        }
    return dict(sorted(out.items(), key=lambda item: int(item[0])))


def process_of(stream, pid):
    """A process, from /proc/PID; None where it ended meanwhile."""
    where = f'/proc/{pid}/'
    files, links = stream.files, stream.links
    if where + 'stat' not in files:
        return None
    _, comm, stat = stat_fields(files[where + 'stat'])
    status = status_fields(files.get(where + 'status', b''))
    paths = stream.of_process[pid]
    tids = sorted({int(p.split('/')[4]) for p in paths if p.startswith(where + 'task/')})
    threads = [thread_of(stream, where, tid) for tid in tids]
    cmdline = files.get(where + 'cmdline', b'')
    environ = files.get(where + 'environ', b'')
    count = files.get(where + 'fd-count')    # told in brief
    return {
        'pid': pid,
        'tgid': int(status.get('Tgid', pid)),
        'ppid': int(stat[1]),
        'pgrp': int(stat[2]),
        'session': int(stat[3]),
        'nspid': numbers(status.get('NSpid', str(pid))),
        'nssid': numbers(status.get('NSsid', '')),
        'comm': text(comm),
        'comm_hex': comm.hex(),
        'state': stat[0],
        'kernel_thread': bool(int(stat[6]) & PF_KTHREAD),
        'flags': int(stat[6]),
        'exe': links.get(where + 'exe'),
        'cwd': links.get(where + 'cwd'),
        'root': links.get(where + 'root'),
        'cmdline': [text(word) for word in cmdline.split(b'\0')[:-1]],
        'cmdline_raw': base64.b64encode(cmdline).decode(),
        'environ': [text(word) for word in environ.split(b'\0')[:-1]],
        'uid': numbers(status.get('Uid', '')),
        'gid': numbers(status.get('Gid', '')),
        'groups': status.get('Groups', ''),
        'umask': status.get('Umask'),
        'start_ticks': int(stat[19]),
        'vsize': int(stat[20]),
        'rss_pages': int(stat[21]),
        'mm': {name: '0x%x' % int(stat[n]) for name, n in MM_FIELDS if len(stat) > n},
        'exit_code': int(stat[49]) if len(stat) > 49 else None,
        'oom_score_adj': stream.text(where + 'oom_score_adj').strip(),
        'cap_eff': status.get('CapEff'),
        'seccomp': status.get('Seccomp'),
        'tracer': int(status.get('TracerPid', 0)),
        'ns': {path.rsplit('/', 1)[1]: links[path] for path in paths
               if path.startswith(where + 'ns/')},
        'auxv': parse_auxv(files.get(where + 'auxv', b'')),
        'maps': parse_maps(files.get(where + 'maps', b'')),
        'fds': files_of(stream, pid) if count is None else None,
        'fd_count': int(count) if count is not None else None,
        'threads': [thread for thread in threads if thread],
        'cgroup': stream.text(where + 'cgroup').strip(),
        **process_more(stream, where, status),
    }


def processes(stream):
    found = (process_of(stream, pid) for pid in sorted(stream.of_process))
    return [process for process in found if process]


def threads_last(stream):
    """The second pass, right before the stop: one stat line after the other."""
    # comm may hold a newline: lines are joined until one is whole
    out = []
    current = b''
    for line in stream.files.get('last-stat', b'').split(b'\n'):
        current = current + b'\n' + line if current else line
        if not re.match(rb'\d+ \(.*\) \S \d+ ', current, re.S):
            continue
        if len(current[current.rindex(b')'):].split()) <= 45:
            continue
        tid, comm, stat = stat_fields(current)
        out.append({'tid': tid, 'comm': text(comm), 'state': stat[0], 'ppid': int(stat[1]),
                    'cpu': int(stat[36])})
        current = b''
    return out


def loaded_modules(stream):
    out = []
    for line in stream.text('/proc/modules').split('\n'):
        words = line.split()
        if len(words) < 6:
            continue
        where = f'/sys/module/{words[0]}/'
        sections = {path.split('/')[-1]: data.decode().strip()
                    for path, data in stream.files.items()
                    if path.startswith(where + 'sections/')}
        note = stream.files.get(where + 'notes/.note.gnu.build-id', b'')
        out.append({
            'name': words[0],
            'size': int(words[1]),
            'refcnt': int(words[2]),
            'used_by': [name for name in words[3].split(',') if name not in ('-', '')],
            'state': words[4],
            'base': words[5],
            'taint': words[6] if len(words) > 6 else '',
            'sections': sections,
            'coresize': stream.text(where + 'coresize').strip(),
            'initstate': stream.text(where + 'initstate').strip(),
            'taint_sysfs': stream.text(where + 'taint').strip(),
            'build_id': note[16:].hex() if note else None,
        })
    return out


def unwound_after(after):
    """What libunwind saw in the guest after the capture: {tid: frames}."""
    out = {}
    for data in Stream(after).files.values():
        current = None
        for line in text(data).split('\n'):
            words = line.split()
            if not words:
                continue
            if words[0] == 'T':
                current = out.setdefault(int(words[1]), [])
            elif words[0] == 'F' and current is not None:
                current.append({'ip': words[2], 'sp': words[3], 'signal': words[4] == '1',
                                'sym': words[5]})
    return out


def reports(stream, procs, after):
    """The workloads' own reports, with the ids of the outermost namespace."""
    outer = {}
    inner = {}
    for process in procs:
        for thread in process['threads']:
            outer[thread['tid']] = (process, thread)
            if len(thread['nstid']) > 1:
                inner[thread['nstid'][-1]] = (process, thread)
    unwound = unwound_after(after) if after else {}
    out = []
    for path, data in sorted(stream.files.items()):
        if not path.startswith('/run/lab/'):
            continue
        report = json.loads(data)
        known = inner if report['label'] == 'container-init' else outer
        if report['tid'] in known:
            process, thread = known[report['tid']]
            report['pid'] = process['pid']
            report['tid'] = thread['tid']
            report['exe'] = process['exe']
        if 'chain' in report:
            report['expect_frames'] = [entry['fn'] for entry in report['chain']]
        else:
            report['expect_frames'] = report.pop('expect', [])
        report['unwind_after'] = unwound.get(report['tid'], [])
        out.append(report)
    return out


def pagemap(stream, page):
    """{pid: [[virtual address, first frame number, pages]]}, present pages only."""
    out = {}
    for pid, pieces in stream.pages.items():
        runs = []
        for start, entries in pieces:
            for k, entry in enumerate(entries):
                if not entry >> 63:
                    continue
                va, frame = start + k * page, entry & ((1 << 55) - 1)
                last = runs[-1] if runs else None
                if last and last[0] + last[2] * page == va and last[1] + last[2] == frame:
                    last[2] += 1
                else:
                    runs.append([va, frame, 1])
        out[pid] = [['0x%x' % va, '0x%x' % frame, count] for va, frame, count in runs]
    return out


def page_size(procs):
    """The guest's page size in bytes, as the kernel tells its programs."""
    for process in procs:
        if 'PAGESZ' in process['auxv']:
            return int(process['auxv']['PAGESZ'], 16)
    return 4096


def build_truth(name, arch, data, after):
    """-> (truth.json, pagemap.json, kallsyms.txt) of the collector's stream `data`.

    `after` is what the guest sent when it unwound its processes after the capture.
    """
    stream = Stream(data)
    symbols, symbol_count = kallsyms(stream)
    procs = processes(stream)
    stat = dict(line.split(None, 1) for line in stream.text('/proc/stat').split('\n')
                if ' ' in line)

    def sysctl(path):
        return stream.text('/proc/sys/kernel/' + path).strip()

    truth = {
        'schema': 1,
        'name': name,
        'arch': arch,
        'uname': {key: sysctl(file) for key, file in
                  (('release', 'osrelease'), ('version', 'version'), ('hostname', 'hostname'))},
        'linux_banner': stream.text('/proc/version'),
        'cmdline': stream.text('/proc/cmdline').strip(),
        'boot_id': sysctl('random/boot_id'),
        'btime': int(stat.get('btime', '0')),
        'marks': stream.marks,
        'symbols': symbols,
        'nsyms': symbol_count,
        'build_id_notes': stream.files.get('/sys/kernel/notes', b'').hex(),
        'vmcoreinfo': stream.text('/sys/kernel/vmcoreinfo').strip(),
        'page_size': page_size(procs),
        'iomem': stream.text('/proc/iomem'),
        'meminfo': stream.text('/proc/meminfo'),
        'modules': loaded_modules(stream),
        'mounts': [line.split()[:4] for line in lines(stream, '/proc/mounts')],
        'mountinfo': lines(stream, '/proc/self/mountinfo'),
        'net': sockets_of(stream, '/proc/net/'),
        'netdev': stream.text('/proc/net/dev'),
        'dmesg_tail': stream.text('dmesg').split('\n')[-60:],
        'dmesg': stream.text('dmesg').split('\n'),
        'processes': procs,
        'threads_last': threads_last(stream),
        'workloads': reports(stream, procs, after),
        **truth_more(stream, procs, page_size(procs)),
    }
    return truth, pagemap(stream, truth['page_size']), stream.files.get('/proc/kallsyms', b'')
