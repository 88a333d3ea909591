"""One run per output folder: ``OUT/.lock``, held by the kernel, with a note of who holds it.

The file is locked with ``flock``, which ends with the process however it dies: no lock survives ``kill -9``. Some
network file systems keep such locks to one machine. The holder therefore touches the file while it lives, and a lock of
another machine is respected until nobody has touched it for a while. Clocks jump, and those of two machines differ: a
lock that looks forgotten is watched before it is taken.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import stat
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

from changen_cli.core.errors import LockedError, OutputError
from changen_cli.core.untrusted import parse_json, read_text

FILE_NAME = ".lock"
BEAT_S = 20.0
STALE_S = 6 * BEAT_S
_NOTE_BYTES = 4096


@dataclass(frozen=True)
class Holder:
    """Who holds a lock.

    Attributes:
        pid: The process.
        host: Its machine.
        started: When it took the lock, seconds since the epoch.
        ticks: When the process began, in the kernel's ticks since boot: tells it from a later one with its number.
            0 where the system does not say.
    """

    pid: int
    host: str
    started: float
    ticks: int

    def __str__(self) -> str:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.started))
        return f"process {self.pid} on {self.host}, since {since}"


class OutputLock:
    """The lock of one output folder; a context manager. The folder is made, and removed again if nothing came of it.

    Args:
        folder: The output folder.
        name: The file's name, where several locks are wanted; it begins with ``.lock``.

    Raises:
        LockedError: Another run that lives holds it.
        OutputError: The folder cannot be made.
    """

    def __init__(self, folder: Path, name: str = FILE_NAME) -> None:
        self._path = folder / name
        self._file = _take(self._path)
        self._stop = threading.Event()
        holder = Holder(os.getpid(), socket.gethostname(), round(time.time(), 1), _ticks(os.getpid()))
        try:
            self._file.truncate(0)
            self._file.write(json.dumps(asdict(holder)))
            self._file.flush()
        except OSError:  # a full disk
            self.release()
            raise
        threading.Thread(target=self._beat, name="lock", daemon=True).start()

    def __enter__(self) -> OutputLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def release(self) -> None:
        """Give the folder free."""
        self._stop.set()
        # Neither a note that cannot be written nor a file that cannot be removed may hide why the run ended.
        with suppress(OSError):
            # Removed while it is held: who waits for it sees that its file is no longer the one of that name.
            self._path.unlink(missing_ok=True)
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            self._path.parent.rmdir()  # if nothing came of it

    def _beat(self) -> None:
        while not self._stop.wait(BEAT_S):
            try:
                os.utime(self._file.fileno())
            except (OSError, ValueError):
                return


def read_holder(folder: Path, name: str = FILE_NAME) -> Holder | None:
    """Who holds the lock of a folder, as far as can be told without taking it; None when nobody who lives does."""
    path = folder / name
    holder = _read(path)
    return holder if holder is not None and _lives(path, holder) else None


def _take(path: Path) -> IO[str]:
    """Open and lock the file of that name, whatever happens to it meanwhile."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = _open(path)
        except FileNotFoundError:
            continue  # the run before removed the folder
        try:
            holder = _read(path)
            if not _flock(file, path) or (
                holder is not None and holder.host != socket.gethostname() and _lives(path, holder, watched=True)
            ):
                raise LockedError(
                    f"{path.parent} is being written by {_noted(path) or 'another run'}",
                    "Wait for it, end it, or choose another --output",
                )
            if os.fstat(file.fileno()).st_ino == path.stat().st_ino:
                return file
        except FileNotFoundError:
            pass
        except BaseException:
            file.close()
            raise
        file.close()  # the run before removed it between our opening and locking it


def _open(path: Path) -> IO[str]:
    """Open the file, and make it where it is not there; a link or a pipe that waits in its place is not followed.

    Raises:
        OutputError: It is none.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        descriptor = os.open(path, flags, 0o666)
    except OSError as error:
        raise (OutputError(f"{path} is no file", "Remove it") if error.errno == errno.ELOOP else error) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OutputError(f"{path} is no file", "Remove it")
    return os.fdopen(descriptor, "a+", encoding="utf-8")


def _flock(file: IO[str], path: Path) -> bool:
    """Lock an open file; False when another process holds it. Without ``flock`` the note alone decides."""
    try:
        import fcntl
    except ImportError:
        fcntl = None  # type: ignore[assignment]
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            return False
        except OSError:
            pass  # a file system without locks
    holder = _read(path)
    return holder is None or not _lives(path, holder, watched=True)


def _noted(path: Path) -> Holder | None:
    """Who holds a lock that is held; the note is written right after the lock was taken."""
    for _ in range(20):
        holder = _read(path)
        if holder is not None:
            return holder
        time.sleep(0.05)
    return None


def _read(path: Path) -> Holder | None:
    try:
        holder = Holder(**parse_json(read_text(path, _NOTE_BYTES)))
        str(holder)
    except (OSError, ValueError, TypeError, OverflowError):
        return None
    return holder if type(holder.pid) is type(holder.ticks) is int and 0 < holder.pid < 1 << 31 else None


def _lives(path: Path, holder: Holder, *, watched: bool = False) -> bool:
    """Whether the holder's process is there; on another machine, whether it touches the file.

    Args:
        path: The lock.
        holder: Who wrote it.
        watched: Whether to wait and see, where the time of the file says that nobody does.
    """
    if holder.host == socket.gethostname():
        try:
            os.kill(holder.pid, 0)
        except ProcessLookupError:
            return False
        except OSError:
            pass  # another user's
        return holder.ticks == _ticks(holder.pid)
    try:
        touched = path.stat().st_mtime_ns
        if abs(time.time() - touched / 1e9) < STALE_S:
            return True
        end = time.monotonic() + 2 * BEAT_S
        while watched and time.monotonic() < end:
            time.sleep(BEAT_S / 20)
            if path.stat().st_mtime_ns != touched:
                return True
    except OSError:
        pass
    return False


def _ticks(pid: int) -> int:
    """When a process began; 0 where the system does not say."""
    try:
        # The name in parentheses may hold spaces and parentheses itself.
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0
