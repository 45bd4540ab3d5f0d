"""Files as people name them: a path that means one, and content that is written whole or not at all.

What is written stands beside its place until it is on the disk, and only then takes the place of what was there."""

from __future__ import annotations

import os
import stat
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from hiermod.errors import ArgumentTypeError, FileError

BINARY = getattr(os, "O_BINARY", 0)  # Windows translates line ends without it
NOT_FILES: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
)


def file_path(path: Any, name: str = "path") -> Path:
    """``path`` with "~" written out.  ArgumentTypeError unless text or a Path; FileError where no file can have it."""
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else None
    if not isinstance(text, str):
        raise ArgumentTypeError(f"{name} must be a text or a pathlib.Path, got {type(path).__name__}")
    if not text:
        raise FileError(f"{name} is an empty text, which names no file")
    try:
        if b"\0" in os.fsencode(text):
            raise FileError(f"{name}={text!r} has a NUL character in it, which no name of a file can have")
        return Path(text).expanduser()
    except UnicodeEncodeError as error:
        raise FileError(f"{name}={text!r} has characters that this system's names cannot have") from error
    except RuntimeError as error:
        raise FileError(f"{name}={text!r} begins with the home folder of somebody unknown here: {error}") from error


def regular(path: Path) -> os.stat_result | None:
    """What the system knows about the file, links followed; None where there is none.

    FileError for a folder, a device, a pipe or a socket, for links that lead in a circle and for a name too long."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise FileError(f"{path} cannot be opened: {error.strerror or error}") from error
    _check_regular(path, found)
    return found


def _check_regular(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        kind = next((name for is_kind, name in NOT_FILES if is_kind(found.st_mode)), "something else")
        more = f": give the name of a file in it, such as {path / 'fit.nc'}" if kind == "a folder" else ""
        raise FileError(f"{path} is {kind}{more or ', not a file'}")


def open_regular(path: Path) -> BinaryIO:
    """The file, open for reading.  FileError where there is none, or where it is no regular file or may not be read."""
    if regular(path) is None:
        raise FileError(f"there is no file {path}")
    try:
        # a pipe that took the file's place this moment would wait for its other end
        number = os.open(path, os.O_RDONLY | BINARY | getattr(os, "O_NONBLOCK", 0))
        handle = os.fdopen(number, "rb")
    except OSError as error:
        raise FileError(f"{path} cannot be opened: {error.strerror or error}") from error
    try:
        _check_regular(path, os.fstat(handle.fileno()))
    except FileError:
        handle.close()
        raise
    return handle


@contextmanager
def whole(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which takes the place of ``path`` when the block ends well and is gone when it does not.

    Through a link, it is the file that the link names.  A file that is replaced leaves its permissions, and its group
    and owner where that is allowed, to the new one.  FileError where ``path`` can hold no file, and for an OSError of
    the block or of the disk; what was there before is then still there."""
    try:
        target = path.resolve()
    except (OSError, RuntimeError) as error:  # links that lead in a circle
        raise FileError(f"{path} leads to no file: {error}") from error
    before = regular(target)
    if not target.parent.is_dir():
        raise FileError(f"there is no folder {target.parent} to save {target.name!r} in: make it first")
    unfinished = target.with_name(f".hiermod-{uuid.uuid4().hex}.part")  # as short as that: names have a limit
    try:
        try:
            # a new file has what the umask leaves; one that replaces another is nobody else's until it is like it
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | BINARY
            number = os.open(unfinished, flags, 0o666 if before is None else 0o600)
            with os.fdopen(number, "wb") as handle:
                if before is not None:
                    _make_like(handle.fileno(), before)
                yield handle
                handle.flush()
                os.fsync(handle.fileno())  # after a power cut too, a file that has its name has its content
            os.replace(unfinished, target)
        except OSError as error:
            raise FileError(
                f"{target} could not be written ({error.strerror or error}). What was there before is unchanged"
            ) from error
    finally:
        with suppress(OSError):  # moved to its place; or on a disk that is gone, which has been told
            unfinished.unlink()


def _make_like(number: int, before: os.stat_result) -> None:
    """Group, owner and permissions of another file, as far as the system has them and allows it."""
    if not hasattr(os, "fchown"):  # Windows
        return
    mode = stat.S_IMODE(before.st_mode) & 0o777
    for owner, group in ((-1, before.st_gid), (before.st_uid, -1)):
        with suppress(OSError):  # only root gives files away
            os.fchown(number, owner, group)
    if os.fstat(number).st_gid != before.st_gid:
        mode &= ~0o070 | (mode & 0o007) << 3  # another group has no more rights than everybody had
    with suppress(OSError):  # file systems without permissions
        os.fchmod(number, mode)
