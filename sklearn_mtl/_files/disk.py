"""Files are replaced as a whole: what stood there stays until all of the new one is on the disk."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
import time
import uuid
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

__all__ = ["locked", "read_file", "write_file"]

PathLike = str | os.PathLike[str]

# Nobody can remove or replace a file there that somebody has open.
ON_WINDOWS = sys.platform == "win32"


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
        if alone and not ON_WINDOWS:
            lock.unlink(missing_ok=True)
        os.close(file)
        if ON_WINDOWS:
            with contextlib.suppress(OSError):  # somebody else has it open, and removes it
                lock.unlink(missing_ok=True)


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
    with _becoming(target) as (file, part):
        if mode is not None and not ON_WINDOWS:  # where a right to write is all that there is
            part.chmod(stat.S_IMODE(mode))
        for piece in content:
            view = memoryview(piece)
            while view:
                view = view[os.write(file, view) :]
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
def _becoming(target: Path) -> Iterator[tuple[int, Path]]:
    """Open a file of its own beside the target, which takes its place once all is on the disk."""
    file, part = _open_part(target)
    is_open = True
    try:
        yield file, part
        os.fsync(file)
        if ON_WINDOWS:
            os.close(file)
            is_open = False
        _put(part, target)
    finally:
        if is_open:
            os.close(file)
        part.unlink(missing_ok=True)


def _open_part(target: Path) -> tuple[int, Path]:
    while True:
        part = target.with_name(f"{_prefix(target)}{uuid.uuid4().hex}.part")
        file = os.open(
            part, os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0), 0o666
        )
        if ON_WINDOWS or (_lock(file) and part.exists()):
            return file, part
        os.close(file)  # somebody took it for a leftover, just before it was locked


def _put(part: Path, target: Path) -> None:
    """Put a part in the place of the target; on Windows, once nobody reads that, for a second."""
    for pause in (0.01, 0.03, 0.1, 0.3, 0.6) if ON_WINDOWS else ():
        try:
            part.replace(target)
        except PermissionError:
            time.sleep(pause)
        else:
            return
    part.replace(target)


def _prefix(target: Path) -> str:
    """Begin the names of parts of a target, whose own name may be as long as names can be."""
    return f".{zlib.crc32(os.fsencode(target.name)):08x}."


def _remove_leftovers(target: Path) -> None:
    """Remove parts that nobody holds: they are of processes that were killed."""
    for part in target.parent.glob(f"{_prefix(target)}*.part"):
        with contextlib.suppress(OSError):  # another one was quicker, or they are not ours
            if sys.platform == "win32":
                if time.time() - part.stat().st_mtime > 60:  # else it may just be put in place
                    part.unlink()
            else:
                file = os.open(part, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
                try:
                    if _lock(file):
                        part.unlink()
                finally:
                    os.close(file)


def _lock(file: int) -> bool:
    """Try to lock a file until it is closed, by whomever or whatever."""
    try:
        if sys.platform == "win32":
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EAGAIN, errno.EACCES)  # file systems without locks
    return True
