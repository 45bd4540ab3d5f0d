"""A file of finished work, one JSON object per line: what was done stays done when the rest is interrupted.

The first line says what the work is; a file of other work is refused.  A last line that was cut off is dropped."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hiermod.errors import FileError

FORMAT = "hiermod checkpoint 1"


class Checkpoint:
    """Header and records of one file.  Nothing is written before ``begin`` and ``add``."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Read what is there.  FileError for a file that is no checkpoint or is damaged before its last line."""
        self.path = Path(path)
        self.header: dict[str, Any] | None = None
        self.records: list[dict[str, Any]] = []
        self._whole = 0  # bytes of complete lines
        if not self.path.exists():
            return
        try:
            content = self.path.read_bytes()
        except OSError as error:
            raise FileError(f"checkpoint {str(self.path)!r} cannot be read: {error}") from error
        lines = content.split(b"\n")
        for number, line in enumerate(lines[:-1], 1):  # what follows the last line break was cut off
            self._take(line, number)
            self._whole += len(line) + 1
        if self.header is None and lines[-1] and FORMAT.encode() not in lines[-1]:
            raise self._foreign("its first line is not a header")

    def _take(self, line: bytes, number: int) -> None:
        try:
            found = json.loads(line)
        except ValueError as error:
            raise self._foreign(f"line {number} is no JSON ({error})") from error
        if number == 1:
            if not isinstance(found, dict) or found.get("format") != FORMAT:
                raise self._foreign("its first line is not a header")
            self.header = found
        elif not isinstance(found, dict):
            raise self._foreign(f"line {number} is no record")
        else:
            self.records.append(found)

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
        other = [name for name in header if header[name] != self.header.get(name)]
        if other:
            told = "; ".join(f"{name}: there {self.header.get(name)!r}, now {header[name]!r}" for name in other[:3])
            raise FileError(
                f"checkpoint {str(self.path)!r} holds other work, whose numbers cannot be mixed with these ({told}). "
                "Give another file name, or remove it to start again"
            )
        if self.path.stat().st_size != self._whole:
            os.truncate(self.path, self._whole)

    def add(self, record: Mapping[str, Any]) -> None:
        """Append a record and see it on disk."""
        self._write(record, "ab")

    def _write(self, record: Mapping[str, Any], mode: str) -> None:
        try:
            with self.path.open(mode) as file:
                file.write(json.dumps(record).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise FileError(f"checkpoint {str(self.path)!r} cannot be written: {error}") from error
