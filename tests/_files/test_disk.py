"""Files on the disk: whole or not there, whatever comes between."""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import os
import stat
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from sklearn_mtl._files import disk
from sklearn_mtl._files.disk import read_file, write_file

POSIX = pytest.mark.skipif(os.name != "posix", reason="rights, pipes and locks of POSIX")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a file"


def test_parts_become_one_file(path):
    write_file(path, b"one, ", memoryview(b"two"), b"")
    assert read_file(path) == b"one, two"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("name", ["x" * 255, "*[ab]?", "é" * 120])
def test_odd_names(name, tmp_path):
    for content in (b"first", b"second"):
        write_file(tmp_path / name, content)
        assert read_file(tmp_path / name) == content
    assert [p.name for p in tmp_path.iterdir()] == [name]


@POSIX
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_a_new_file_has_the_rights_of_the_umask(umask, path):
    before = os.umask(umask)
    try:
        write_file(path, b"new")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


@POSIX
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o664])
def test_an_older_file_keeps_its_rights(mode, path):
    path.write_bytes(b"old")
    path.chmod(mode)
    write_file(path, b"new")
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert read_file(path) == b"new"


def test_a_link_leads_to_the_file(path, tmp_path):
    path.write_bytes(b"old")
    link = tmp_path / "link"
    link.symlink_to(path)
    write_file(link, b"new")
    assert link.is_symlink()
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG, errno.EDQUOT])
def test_a_full_disk_leaves_the_older_file(number, path, monkeypatch):
    def write(file, view):
        raise OSError(number, os.strerror(number))

    path.write_bytes(b"older")
    monkeypatch.setattr(os, "write", write)
    with pytest.raises(OSError, match=os.strerror(number)) as raised:
        write_file(path, b"newer")
    assert (raised.value.errno, raised.value.filename) == (number, str(path))
    monkeypatch.undo()
    assert path.read_bytes() == b"older"
    assert list(path.parent.iterdir()) == [path]


def test_disks_that_take_a_little_at_a_time(path, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, view: write(file, view[:3]))
    write_file(path, b"0123456789", b"abc")
    assert path.read_bytes() == b"0123456789abc"


def test_it_is_on_the_disk_before_it_takes_the_place(path, monkeypatch):
    done = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda file: (done.append("fsync"), fsync(file)))
    monkeypatch.setattr(Path, "replace", lambda *args: (done.append("replace"), replace(*args))[1])
    write_file(path, b"new")
    assert done == ["fsync", "replace", "fsync"][: 3 if os.name == "posix" else 2]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, MemoryError])
def test_an_interrupt_leaves_no_part(stop, path, monkeypatch):
    def fsync(file):
        raise stop

    path.write_bytes(b"older")
    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(stop):
        write_file(path, b"newer")
    assert path.read_bytes() == b"older"
    assert list(path.parent.iterdir()) == [path]


@POSIX
@pytest.mark.skipif(os.name == "posix" and os.geteuid() == 0, reason="the root may write anywhere")
def test_a_folder_that_cannot_be_written(path):
    path.parent.chmod(0o500)
    try:
        with pytest.raises(PermissionError, match=path.name):
            write_file(path, b"new")
    finally:
        path.parent.chmod(0o700)


def test_a_read_only_file_system_is_named(path, monkeypatch):
    def open_(*args):
        raise OSError(errno.EROFS, "Read-only file system", "a hidden part")

    monkeypatch.setattr(os, "open", open_)
    with pytest.raises(OSError, match="Read-only") as raised:
        write_file(path, b"new")
    assert raised.value.filename == str(path)


def test_no_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no folder .*nowhere\. Make it first"):
        write_file(tmp_path / "nowhere" / "file", b"new")


def test_folders_are_no_files(tmp_path):
    for act in (lambda: write_file(tmp_path, b"new"), lambda: read_file(tmp_path)):
        with pytest.raises(OSError, match="no regular file"):
            act()


@POSIX
def test_pipes_and_devices_are_no_files(path):
    os.mkfifo(path)
    for place in (path, Path("/dev/null")):
        for act in (lambda p=place: write_file(p, b"new"), lambda p=place: read_file(p)):
            with pytest.raises(OSError, match="no regular file") as raised:
                act()
            assert raised.value.filename == str(place)
    assert stat.S_ISFIFO(path.stat().st_mode)
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_threads_that_write_the_same_file_all_succeed(path):
    contents, errors = [bytes([65 + k]) * 5000 for k in range(6)], []

    def work(content: bytes) -> None:
        try:
            for _ in range(15):
                write_file(path, content)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert not path.exists() or path.read_bytes() in contents
    for thread in threads:
        thread.join()
    assert errors == []
    assert list(path.parent.iterdir()) == [path]


@POSIX
def test_leftovers_go_with_the_next_one(path):
    """What others are writing, and what is named otherwise, stays."""
    dead = [path.with_name(f"{disk._prefix(path)}{k}.part") for k in range(3)]
    for part in dead:
        part.write_bytes(b"half of it")
    others = [path.with_name(f".{'0' * 8}.1.part"), path.with_name("my.part")]
    for other in others:
        other.write_bytes(b"another's")
    with disk._becoming(path) as (_, living):
        write_file(path, b"new")
        assert living.exists()
        assert not any(part.exists() for part in dead)
    assert sorted(path.parent.iterdir()) == sorted([path, *others])


@POSIX
def test_a_part_that_is_taken_for_a_leftover_is_made_anew(path, monkeypatch):
    """Another process looks just between the making of a part and its lock."""
    lock, taken = disk._lock, []

    def late(file):
        if not taken:
            taken.append(True)
            monkeypatch.setattr(disk, "_lock", lock)
            disk._remove_leftovers(path)
        return lock(file)

    monkeypatch.setattr(disk, "_lock", late)
    write_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


# -- Windows, as far as it can be played ----------------------------------------------------------


@pytest.fixture
def windows(monkeypatch):
    """The module as it is on Windows: files that are open can be neither removed nor replaced."""
    if not Path("/proc/self/fd").exists():
        pytest.skip("looks at open files in /proc")
    import fcntl

    def locking(file, mode, n_bytes):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise PermissionError(errno.EACCES, "Permission denied") from error

    def refusing(method):
        def act(path, *args, **kwargs):
            for place in (path, *args):
                if is_open(place):
                    raise PermissionError(errno.EACCES, "It is open", str(place))
            return method(path, *args, **kwargs)

        return act

    def is_open(path):
        if not path.exists():
            return False
        for file in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                if os.path.samestat(os.stat(int(file)), path.stat()):
                    return True
        return False

    spec = importlib.util.spec_from_file_location("disk_on_windows", disk.__file__)
    module = importlib.util.module_from_spec(spec)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "platform", "win32")
        patch.setitem(sys.modules, "msvcrt", SimpleNamespace(locking=locking, LK_NBLCK=2))
        spec.loader.exec_module(module)
    monkeypatch.setattr(module, "sys", SimpleNamespace(platform="win32"))
    for name in ("unlink", "replace"):
        monkeypatch.setattr(Path, name, refusing(getattr(Path, name)))
    assert module.ON_WINDOWS
    return module


def test_on_windows_files_are_closed_before_they_take_a_place(windows, path):
    for content in (b"first", b"second"):
        windows.write_file(path, content)
        assert windows.read_file(path) == content
    assert list(path.parent.iterdir()) == [path]


def test_on_windows_an_error_leaves_no_part(windows, path, monkeypatch):
    def fsync(file):
        raise OSError(errno.ENOSPC, "No space left on device")

    windows.write_file(path, b"older")
    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="No space"):
        windows.write_file(path, b"newer")
    assert windows.read_file(path) == b"older"
    assert list(path.parent.iterdir()) == [path]


def test_on_windows_a_file_is_replaced_once_it_is_read(windows, path, monkeypatch):
    windows.write_file(path, b"older")
    with path.open() as reader:
        monkeypatch.setattr(windows.time, "sleep", lambda seconds: reader.close())
        windows.write_file(path, b"newer")
    assert windows.read_file(path) == b"newer"
    waited = []
    monkeypatch.setattr(windows.time, "sleep", waited.append)
    with path.open(), pytest.raises(PermissionError) as raised:
        windows.write_file(path, b"newest")
    assert raised.value.filename == str(path)
    assert sum(waited) == pytest.approx(1, abs=0.1)
    assert windows.read_file(path) == b"newer"
    assert list(path.parent.iterdir()) == [path]


def test_on_windows_old_leftovers_are_removed(windows, path):
    parts = [path.with_name(f"{windows._prefix(path)}{n}.part") for n in range(2)]
    for part in parts:
        part.write_bytes(b"half a file")
    os.utime(parts[0], (0, 0))
    windows.write_file(path, b"new")
    assert not parts[0].exists()
    assert parts[1].exists()


def test_on_windows_a_lock_is_a_lock_and_goes(windows, path):
    with windows.locked(path) as alone:
        assert alone
        with windows.locked(path) as again:
            assert not again
        with windows.locked(path) as again:
            assert not again
    assert not any(path.parent.iterdir())
    with contextlib.ExitStack() as first, contextlib.ExitStack() as second:
        assert first.enter_context(windows.locked(path))
        assert not second.enter_context(windows.locked(path))
        first.close()
    assert not any(path.parent.iterdir())


def test_on_windows_threads_write_one_path(windows, path):
    contents = [bytes([k]) * 10_000 for k in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda content: windows.write_file(path, content), contents * 5))
    assert windows.read_file(path) in contents
    assert list(path.parent.iterdir()) == [path]
