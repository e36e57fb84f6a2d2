"""Files are replaced as a whole: what stood there stays until all of the new one is on the disk."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
import uuid
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

if sys.platform != "win32":  # where leftovers stay
    import fcntl

__all__ = ["locked", "read_file", "write_file"]

PathLike = str | os.PathLike[str]


def read_file(path: PathLike) -> bytes:
    """Read a regular file; a pipe or a device might never end."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise _no_file(path)
    return Path(path).read_bytes()


@contextlib.contextmanager
def locked(path: PathLike) -> Iterator[bool]:
    """Tell whether nobody else, by this function, is at work with a path, and keep it so."""
    target = Path(path).resolve()
    _require_folder(target, path)
    lock = target.with_name(f"{_prefix(target)}lock")
    while True:
        try:
            file = os.open(lock, os.O_CREAT | os.O_RDWR, 0o666)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error
        alone = _lock(file)
        if not alone or os.fstat(file).st_nlink:
            break
        os.close(file)  # the last one has removed it just now
    try:
        yield alone
    finally:
        if alone:
            lock.unlink(missing_ok=True)
        os.close(file)


def write_file(path: PathLike, *content: bytes) -> None:
    """Write a file, or leave the older one as it is, and raise an OSError that names the path.

    A new file has the rights that the umask leaves, an older one keeps its own.
    """
    target = Path(path).resolve()
    _require_folder(target, path)
    try:
        _replace(target, content)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def _replace(target: Path, content: Iterable[bytes]) -> None:
    mode = target.stat().st_mode if target.exists() else None
    if mode is not None and not stat.S_ISREG(mode):
        raise _no_file(target)
    _remove_leftovers(target)
    with _part_of(target) as (file, part):
        if mode is not None:
            part.chmod(stat.S_IMODE(mode))
        for piece in content:
            view = memoryview(piece)
            while view:
                view = view[os.write(file, view) :]
        os.fsync(file)
        part.replace(target)
    with contextlib.suppress(OSError):  # not all systems write folders
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _require_folder(target: Path, path: PathLike) -> None:
    if not target.parent.is_dir():
        raise FileNotFoundError(
            errno.ENOENT, f"There is no folder {target.parent}. Make it first", str(path)
        )


def _no_file(path: PathLike) -> OSError:
    return OSError(errno.EINVAL, "This is no regular file. Pass the path of a file", str(path))


# -- parts: hidden files that become the target, locked by those who write them -------------------


@contextlib.contextmanager
def _part_of(target: Path) -> Iterator[tuple[int, Path]]:
    """Open a file of its own beside the target, which is gone in the end, or has become it."""
    while True:
        part = target.with_name(f"{_prefix(target)}{uuid.uuid4().hex}.part")
        file = os.open(
            part, os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0), 0o666
        )
        if _lock(file) and part.exists():
            break
        os.close(file)  # somebody took it for a leftover, just before it was locked
    try:
        yield file, part
    finally:
        os.close(file)
        part.unlink(missing_ok=True)


def _prefix(target: Path) -> str:
    """Begin the names of parts of a target, whose own name may be as long as names can be."""
    return f".{zlib.crc32(os.fsencode(target.name)):08x}."


def _remove_leftovers(target: Path) -> None:
    """Remove parts that nobody holds: they are of processes that were killed."""
    if sys.platform == "win32":
        return
    for part in target.parent.glob(f"{_prefix(target)}*.part"):
        with contextlib.suppress(OSError):  # another one was quicker, or they are not ours
            file = os.open(part, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                if _lock(file):
                    part.unlink()
            finally:
                os.close(file)


def _lock(file: int) -> bool:
    """Try to lock a file until it is closed, by whomever or whatever."""
    if sys.platform == "win32":
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EAGAIN, errno.EACCES)  # file systems without locks
    return True
