"""Kernel packages of a Debian archive: which one a pattern means, and where it is then.

The lists are those of fetch-kernels, so this machine's own apt state stays as it is.
"""

import os
import re
import subprocess

HERE = os.path.dirname(os.path.abspath(__file__))
FETCH = os.path.join(os.path.dirname(HERE), 'fetch-kernels')
DEBIAN_ARCH = {'x86_64': 'amd64', 'aarch64': 'arm64'}


class Missing(Exception):
    """The archive does not have it (any more)."""


def output(*command, env=None):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          env=env).stdout.decode()


def codename():
    """The release of this machine's Debian."""
    with open('/etc/os-release') as f:
        found = re.search(r'^VERSION_CODENAME=(\S+)$', f.read(), re.M)
    if not found:
        raise SystemExit('no VERSION_CODENAME in /etc/os-release: guests are made on Debian')
    return found[1]


def own_mirror():
    """The archive that this machine's apt takes its own release from."""
    uris = output('apt-get', '--print-uris', 'update')
    found = re.search(r"'(\S+)/dists/" + codename() + "/(?:In)?Release'", uris)
    if not found:
        raise SystemExit('no archive in the configuration of apt: give --mirror')
    return found[1]


def valid_until():
    """Whether apt is set to refuse lists that are past their date: "true" or "false"."""
    found = re.search(r'Acquire::Check-Valid-Until "(\w+)"', output('apt-config', 'dump'))
    return found[1] if found else 'true'


def by_version(name):
    """A key that sorts 6.12.9 before 6.12.10."""
    return [(int(part), '') if part.isdigit() else (-1, part)
            for part in re.findall(r'\d+|[^\d]+', name)]


class Archive:
    def __init__(self, folder, mirror=None):
        self.folder = os.path.abspath(folder)
        self.mirror = mirror or own_mirror()
        self.known = {}     # suite -> names of its packages, or what went wrong

    def fetch(self, suite, packages, fresh):
        """Runs fetch-kernels; packages may be none (the lists only)."""
        env = dict(os.environ, CHECK_VALID_UNTIL=valid_until())
        if not fresh:
            env['NO_UPDATE'] = '1'
        run = subprocess.run([FETCH, self.folder, self.mirror, suite, *packages],
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env)
        if run.returncode:
            lines = [line[3:] for line in run.stdout.decode(errors='replace').split('\n')
                     if line.startswith('E:')]
            # an address of a mirror has no place in a table
            why = re.sub(r'\w+://\S+\s*', '', lines[0]) if lines else 'cannot be fetched'
            raise Missing(f'suite {suite}: {why}')

    def cache(self, suite, *words):
        config = os.path.join(self.folder, f'.apt-{suite}', 'apt.conf')
        return output('apt-cache', *words, env=dict(os.environ, APT_CONFIG=config))

    def names(self, suite):
        """The names of a suite's packages, of every architecture."""
        if suite not in self.known:
            try:
                self.fetch(suite, [], fresh=True)
                self.known[suite] = self.cache(suite, 'pkgnames').split()
            except Missing as error:
                self.known[suite] = error
        if isinstance(self.known[suite], Missing):
            raise self.known[suite]
        return self.known[suite]

    def has(self, suite, package):
        """Is there such a package ("name:arch") with a version?"""
        if package.split(':')[0] not in self.names(suite):
            return False
        return '\nFilename: ' in self.cache(suite, 'show', '--no-all-versions', package)

    def parts(self, suite, version, debian):
        """The packages that a kernel's image and modules are in, or None where one is gone.

        From 7.1 on linux-image-* is empty and depends on two others, which leave the archive
        at times of their own.
        """
        about = self.cache(suite, 'show', '--no-all-versions', f'linux-image-{version}:{debian}')
        names = re.findall(r'\b(linux-(?:binary|modules)-\S+) \(=', about)
        names = names or [f'linux-image-{version}']
        return names if all(self.has(suite, f'{name}:{debian}') for name in names) else None

    def kernel(self, suites, pattern, arch):
        """(suite, package names) of the newest linux-image-* that fits and is there whole.

        suites: in order of preference. pattern: of what follows "linux-image-".
        """
        reasons = []
        debian = DEBIAN_ARCH[arch]
        for suite in suites:
            try:
                names = self.names(suite)
            except Missing as error:
                reasons.append(str(error))
                continue
            fits = [name[len('linux-image-'):] for name in names
                    if re.fullmatch('linux-image-' + pattern, name)]
            for version in sorted(fits, key=by_version, reverse=True):
                if self.has(suite, f'linux-image-{version}:{debian}'):
                    parts = self.parts(suite, version, debian)
                    if parts:
                        return suite, parts
                    reasons.append(f'suite {suite}: of {version} not all packages are there')
            reasons.append(f'suite {suite}: no linux-image-{pattern}')
        raise Missing('; '.join(reasons))

    def package(self, suite, name, debian):
        """The path of a package of an architecture, downloaded where it is not there."""
        about = self.cache(suite, 'show', '--no-all-versions', f'{name}:{debian}')
        version = re.search(r'^Version: (\S+)$', about, re.M)
        if not version:
            raise Missing(f'suite {suite}: no {name}:{debian}')
        path = os.path.join(self.folder, f'{name}_{version[1].replace(":", "%3a")}_{debian}.deb')
        if not os.path.exists(path):
            self.fetch(suite, [f'{name}:{debian}'], fresh=False)
        return path
