"""Readers of the text tables of /proc."""

import socket


def text(data):
    return data.decode('utf-8', 'backslashreplace')


def numbers(words):
    return [int(word) for word in words.split()]


def lines(stream, path):
    """The lines of a file that are not empty."""
    return [line for line in stream.text(path).split('\n') if line]


def table(data):
    """The words of every line but the first."""
    return [line.split() for line in text(data).split('\n') if line.strip()][1:]


def socket_address(field):
    """An address of /proc/net/tcp or tcp6: "0100007F:1F48" -> "127.0.0.1:8008"."""
    address, port = field.split(':')
    data = bytes.fromhex(address)
    if len(data) == 4:
        return '%d.%d.%d.%d:%d' % (*data[::-1], int(port, 16))
    data = b''.join(data[i:i + 4][::-1] for i in range(0, 16, 4))
    return socket.inet_ntop(socket.AF_INET6, data) + ':%d' % int(port, 16)


def sockets_of(stream, where):
    """The sockets of a network namespace, from its /proc/.../net/ folder."""
    net = {'tcp': [], 'udp': [], 'unix': []}
    for kind in ('tcp', 'tcp6', 'udp', 'udp6'):
        for words in table(stream.files.get(where + kind, b'')):
            net[kind[:3]].append({
                'v6': kind[-1] == '6',
                'local': socket_address(words[1]),
                'remote': socket_address(words[2]),
                'state': int(words[3], 16),
                'uid': int(words[7]),
                'inode': int(words[9]),
            })
    for words in table(stream.files.get(where + 'unix', b'')):
        net['unix'].append({
            'refcnt': int(words[1], 16),
            'flags': words[3],
            'type': int(words[4]),
            'state': int(words[5]),
            'inode': int(words[6]),
            'path': words[7] if len(words) > 7 else None,
        })
    return net
