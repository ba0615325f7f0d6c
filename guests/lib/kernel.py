"""Kernel packages: the kernel image, its modules, the ELF file inside a bzImage."""

import gzip
import lzma
import os
import re
import shutil
import struct
import subprocess
import zlib


def load_kernel(spec, work):
    """Unpacks packages (or takes a plain image).

    -> (path of the kernel image, {module name: path}, path of its config or None)
    """
    parts = spec.split(',')
    if not all(p.endswith('.deb') for p in parts):
        return spec, {}, None
    root = os.path.join(work, 'kernel-root')
    shutil.rmtree(root, True)
    os.makedirs(root)
    for package in parts:
        subprocess.run(['dpkg-deb', '-x', package, root], check=True, stdout=subprocess.PIPE)
    image = config = None
    modules = {}
    for folder, _, files in os.walk(root):
        for name in files:
            path = os.path.join(folder, name)
            if name.startswith('vmlinuz') or (name.startswith('vmlinu') and folder.endswith('boot')):
                image = path
            if name.startswith('config-'):
                config = path
            module = re.match(r'(.+)\.ko(\.xz|\.zst|\.gz)?$', name)
            if module:
                modules[module.group(1).replace('-', '_')] = path
    return image, modules, config


def module_bytes(path):
    """A module's ELF file, decompressed."""
    with open(path, 'rb') as f:
        data = f.read()
    if path.endswith('.xz'):
        return lzma.decompress(data)
    if path.endswith('.gz'):
        return gzip.decompress(data)
    if path.endswith('.zst'):
        return subprocess.run(['zstd', '-dc', path], check=True, stdout=subprocess.PIPE).stdout
    return data


def module_depends(elf):
    """depends= of a module, from its .modinfo section."""
    match = re.search(rb'\0depends=([^\0]*)\0', elf) or re.search(rb'depends=([^\0]*)\0', elf)
    return [name for name in match.group(1).decode().split(',') if name] if match else []


def module_order(wanted, modules):
    """The wanted modules and what they depend on: (names in load order, {name: ELF file}).

    Names that the package does not have (built into the kernel) are passed over.
    """
    order = []
    data = {}

    def visit(name):
        name = name.replace('-', '_')
        if name in data or name not in modules:
            return
        data[name] = module_bytes(modules[name])
        for dependency in module_depends(data[name]):
            visit(dependency)
        order.append(name)

    for name in wanted:
        visit(name)
    return order, data


def is_kernel(data):
    """An ELF file, or an arm64 Image?"""
    return data[:4] == b'\x7fELF' or data[56:60] == b'ARM\x64'


def filter_through(*command):
    """A decompressor that is a program: bytes -> bytes."""
    def run(data):
        return subprocess.run(command, input=data, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL).stdout
    return run


DECOMPRESSORS = (
    (b'\xfd7zXZ\0', lambda d: lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(d)),
    (b'\x28\xb5\x2f\xfd', filter_through('zstd', '-dcq')),
    (b'\x02\x21\x4c\x18', filter_through('lz4', '-dcq')),
    (b'\x1f\x8b\x08', lambda d: zlib.decompressobj(31).decompress(d)),
)


def find_vmlinux(path):
    """The ELF file (x86) or Image (arm64) inside a kernel image, decompressed; or None."""
    with open(path, 'rb') as f:
        image = f.read()
    if is_kernel(image):
        return image
    for magic, decompress in DECOMPRESSORS:
        at = image.find(magic)
        while at >= 0:
            try:
                data = decompress(image[at:])
                if is_kernel(data):
                    return data
            except (OSError, EOFError, lzma.LZMAError, zlib.error):
                pass
            at = image.find(magic, at + 1)
    return None


def elf_section(elf, name):
    """The bytes of the section called name in a 64-bit ELF file, or None."""
    table, = struct.unpack_from('<Q', elf, 40)
    size, count, names = struct.unpack_from('<HHH', elf, 58)
    sections = [struct.unpack_from('<IIQQQQ', elf, table + i * size) for i in range(count)]
    for section in sections:
        at = sections[names][4] + section[0]
        if elf[at:elf.index(b'\0', at)] == name:
            return elf[section[4]:section[4] + section[5]]
    return None
