"""A file of finished work, one JSON object per line: what was done stays done when the rest is interrupted.

The first line says what the work is; a file of other work is refused.  Every line ends in a checksum of itself and of
the first, so that a changed digit is seen, and a line of other work too.  A last line that was cut off is dropped."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from typing import Any

from hiermod.core.files import file_path, open_regular, regular
from hiermod.errors import FileError

log = logging.getLogger("hiermod.checkpoint")
FORMAT = "hiermod checkpoint 2"
WITHOUT_CHECKS = "hiermod checkpoint 1"  # as the first versions wrote it
CHECK = "check"  # the last entry of every line


class Checkpoint:
    """Header and records of one file.  Nothing is written before ``begin`` and ``add``."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Read what is there.  FileError for a file that is no checkpoint or is damaged before its last line."""
        self.path = file_path(path, "checkpoint")
        self.header: dict[str, Any] | None = None
        self.records: list[dict[str, Any]] = []
        self._whole = 0  # bytes of complete lines
        if regular(self.path) is None:
            return
        with open_regular(self.path) as file:
            content = file.read()
        lines = content.split(b"\n")
        for number, line in enumerate(lines[:-1], 1):  # what follows the last line break was cut off
            self._take(line, number)
            self._whole += len(line) + 1
        if self.header is None and lines[-1] and not _begins_header(lines[-1]):
            raise self._foreign("its first line is not a header")

    def _take(self, line: bytes, number: int) -> None:
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise self._foreign(f"line {number} is no JSON ({error})") from error
        if number == 1:
            formats = (FORMAT, WITHOUT_CHECKS)
            if not isinstance(found, dict) or found.get("format") not in formats:
                raise self._foreign("its first line is not a header")
            if found["format"] == WITHOUT_CHECKS:
                log.warning("%s was begun by an earlier version: changed digits in it cannot be seen", self.path)
        elif not isinstance(found, dict):
            raise self._foreign(f"line {number} is no record")
        check = found.pop(CHECK, None)
        header = found if number == 1 else self.header
        if header["format"] == FORMAT and check != self._check(found, header):  # type: ignore[index]
            raise self._foreign(f"line {number} is not as it was written: its checksum is that of another line")
        if number == 1:
            self.header = found
        else:
            self.records.append(found)

    @staticmethod
    def _check(record: Mapping[str, Any], header: Mapping[str, Any] | None) -> str:
        """Of a record and the work that it belongs to; JSON gives every number the same text again."""
        return hashlib.sha256(json.dumps([header, record]).encode()).hexdigest()[:16]

    def _foreign(self, why: str) -> FileError:
        return FileError(
            f"{str(self.path)!r} is not a checkpoint of hiermod, or it is damaged: {why}. Give another file name, or "
            "remove it to start again"
        )

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Write the header; where there is one, FileError if a setting differs.  Cuts off an incomplete last line."""
        header = json.loads(json.dumps({"format": FORMAT, **settings}))
        if self.header is None:
            self.header = header
            self._write(header, "wb")
            return
        other = [name for name in settings if header[name] != self.header.get(name)]
        if other:
            told = "; ".join(f"{name}: there {self.header.get(name)!r}, now {header[name]!r}" for name in other[:3])
            raise FileError(
                f"checkpoint {str(self.path)!r} holds other work, whose numbers cannot be mixed with these ({told}). "
                "Give another file name, or remove it to start again"
            )
        try:
            if self.path.stat().st_size != self._whole:
                os.truncate(self.path, self._whole)
        except OSError as error:
            raise self._unwritten(error) from error

    def add(self, record: Mapping[str, Any]) -> None:
        """Append a record and see it on disk."""
        self._write(record, "ab")

    def _write(self, record: Mapping[str, Any], mode: str) -> None:
        line = dict(record)
        if self.header is not None and self.header["format"] == FORMAT:
            line[CHECK] = self._check(record, self.header)
        try:
            with self.path.open(mode) as file:
                file.write(json.dumps(line).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise self._unwritten(error) from error

    def _unwritten(self, error: OSError) -> FileError:
        return FileError(f"checkpoint {str(self.path)!r} cannot be written: {error}. What it has is kept")


def _begins_header(part: bytes) -> bool:
    """Whether a first line that was cut off was one of ours."""
    start = b'{"format": "hiermod checkpoint '
    return part.startswith(start) or start.startswith(part)
