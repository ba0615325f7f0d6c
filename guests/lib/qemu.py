"""A running QEMU, by its QMP socket and its gdb stub."""

import json
import os
import re
import shlex
import socket
import time


def connect(path, alive=lambda: True, tries=100):
    """Connects to a UNIX socket that may still be coming up, as long as alive() says so."""
    for _ in range(tries):
        if not alive():
            break
        try:
            s = socket.socket(socket.AF_UNIX)
            s.connect(path)
            return s
        except OSError:
            time.sleep(0.1)
    raise SystemExit('cannot connect ' + path)


class Qmp:
    """QEMU's monitor protocol: qmp('stop'), qmp('pmemsave', val=0, ...)."""

    def __init__(self, path, alive=lambda: True):
        self.socket = connect(path, alive)
        self.file = self.socket.makefile('rwb')
        self.read()
        self('qmp_capabilities')

    def read(self):
        return json.loads(self.file.readline())

    def __call__(self, command, **arguments):
        message = {'execute': command, 'arguments': arguments}
        self.file.write(json.dumps(message).encode() + b'\n')
        self.file.flush()
        while True:
            reply = self.read()
            if 'return' in reply:
                return reply['return']
            if 'error' in reply:
                raise RuntimeError(f'{command}: {reply["error"]}')

    def close(self):
        self.file.close()
        self.socket.close()

    def hmp(self, line):
        """A line of the human monitor."""
        return self('human-monitor-command', **{'command-line': line})


def listening(name, path):
    """A -chardev that waits for whoever connects to a UNIX socket."""
    return f'socket,id={name},path={path},server=on,wait=off'


def control_arguments(folder=''):
    """QMP and the gdb stub, by sockets in a folder."""
    return [
        '-qmp', f'unix:{os.path.join(folder, "qmp.sock")},server=on,wait=off',
        '-chardev', listening('gdb0', os.path.join(folder, 'gdb.sock')),
        '-gdb', 'chardev:gdb0',
    ]


def ram_name(machine, arch):
    """The RAM block of a machine, as a migration stream names it."""
    if arch == 'aarch64':
        return 'mach-virt.ram'
    return 'microvm.ram' if machine.startswith('microvm') else 'pc.ram'


def live_command(meta, image, kvm, shared):
    """The QEMU that takes over the state that an image holds, run in a folder for its sockets.

    meta: the image's meta.json. kvm: with KVM in TCG's place. shared: RAM is a shared memfd.
    """
    words = [word.replace('kernel/', image + '/kernel/', 1) if word.startswith('kernel/') else word
             for word in meta['qemu']]
    if kvm:
        words[words.index('-accel') + 1] = 'kvm'
    if shared:
        # the block has to keep the name that it had when it was saved
        name = ram_name(words[words.index('-M') + 1], meta['arch'])
        words[words.index('-M') + 1] += f',memory-backend={name}'
        words += ['-object', f'memory-backend-memfd,id={name},size={meta["ram_mib"]}M,share=on,'
                             'x-use-canonical-path-for-ramblock-id=off']
    state = os.path.join(image, 'state.mig')
    how = f'cat {shlex.quote(state)}'
    if not os.path.exists(state):
        how = f'zstd -dcq {shlex.quote(state)}.zst'
    # Where nobody is at the other end the collector looks for somebody again and again; under
    # a KVM that emulates kernel mode no system call comes back to user mode.
    truth = 'file,id=truth,path=/dev/null' if kvm else listening('truth', 'truth.sock')
    return words + [
        '-chardev', truth,
        *control_arguments(),
        '-pidfile', 'qemu.pid',
        '-S', '-incoming', 'exec:' + how,
    ]


class Gdb:
    """The gdb remote protocol, as far as reading registers goes."""

    PACKET = re.compile(rb'\$([^#]*)#..', re.S)

    def __init__(self, path):
        self.socket = connect(path)
        self.socket.settimeout(20)
        self.buffer = b''

    def get(self):
        """The next packet, acknowledged."""
        packet = self.PACKET.search(self.buffer)
        while not packet:
            data = self.socket.recv(65536)
            if not data:
                raise EOFError
            self.buffer += data
            packet = self.PACKET.search(self.buffer)
        self.buffer = self.buffer[packet.end():]
        self.socket.send(b'+')
        return re.sub(rb'}(.)', lambda m: bytes([m.group(1)[0] ^ 0x20]), packet.group(1),
                      flags=re.S)

    def __call__(self, packet):
        packet = packet.encode()
        self.socket.send(b'$' + packet + b'#%02x' % (sum(packet) & 255))
        return self.get()

    def xfer(self, annex):
        """A file of the target description."""
        out = b''
        while True:
            reply = self(f'qXfer:features:read:{annex}:{len(out):x},ffb')
            out += reply[1:]
            if reply[:1] != b'm':
                return out.decode()

    def close(self):
        self.socket.close()


# What is replaced in a kernel's code: (function, what is searched at its start, what goes there).
# A KVM that emulates kernel mode may not know fwait, which does nothing where no exception of
# the FPU is pending: a process ends, then movq $0, %gs:... follows.
NOT_EMULATED = [('fpu__drop', bytes.fromhex('9b6548c705'), bytes.fromhex('90'))]
# The next tick is never asked for: xor %eax, %eax; ret. Where kernel mode is emulated a tick
# takes longer than the time to the next one.
NO_TIMER = [(name, b'', bytes.fromhex('31c0c3'))
            for name in ('lapic_next_event', 'lapic_next_deadline')]


def change_code(path, symbols, changes):
    """Changes the kernel's code in a paused guest, through its gdb stub. -> what was changed"""
    done = []
    gdb = Gdb(path)
    for name, old, new in changes:
        if name not in symbols:
            continue
        code = bytes.fromhex(gdb(f'm{symbols[name]:x},200').decode())
        at = code.find(old)
        if at < 0:
            continue
        if gdb(f'M{symbols[name] + at:x},{len(new):x}:{new.hex()}') != b'OK':
            raise RuntimeError(f'{name} cannot be changed')
        done.append(f'{name}+{at:#x}')
    gdb.close()     # without detaching: that would let the guest run
    return done


def described_registers(gdb, files):
    """[(number, name, bits)] of the target description; its files are put into `files`."""
    registers = []
    number = 0

    def scan(xml):
        nonlocal number
        # QEMU's i386 description has registers in comments
        xml = re.sub(r'<!--.*?-->', '', xml, flags=re.S)
        for match in re.finditer(r'<(xi:include href="([^"]+)"|reg ([^>]*?)/?>)', xml):
            if match.group(2):
                included = gdb.xfer(match.group(2))
                files[match.group(2)] = included
                scan(included)
                continue
            attributes = dict(re.findall(r'(\w+)="([^"]*)"', match.group(3)))
            if 'regnum' in attributes:
                number = int(attributes['regnum'], 0)
            registers.append((number, attributes['name'], int(attributes['bitsize'])))
            number += 1

    files['target.xml'] = gdb.xfer('target.xml')
    scan(files['target.xml'])
    return registers


def gdb_registers(path):
    """Every register that the gdb stub names, of every vCPU."""
    gdb = Gdb(path)
    out = {
        'supported': gdb('qSupported:multiprocess+;xmlRegisters=i386,arm').decode(),
        'xml': {},
        'vcpus': [],
    }
    registers = described_registers(gdb, out['xml'])
    threads = []
    reply = gdb('qfThreadInfo')
    while reply[:1] == b'm':
        threads += reply[1:].decode().split(',')
        reply = gdb('qsThreadInfo')
    for thread in threads:
        gdb('Hg' + thread)
        vcpu = {'thread': thread, 'regs': {}, 'g_packet': gdb('g').decode()}
        for number, name, _ in registers:
            value = gdb(f'p{number:x}')
            if not value or value[:1] == b'E' or b'x' in value:
                continue
            value = bytes.fromhex(value.decode())
            vcpu['regs'][name] = '0x%x' % int.from_bytes(value, 'little')
        out['vcpus'].append(vcpu)
    gdb.close()
    return out
