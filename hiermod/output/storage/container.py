"""Named Datasets as one netCDF-4 (HDF5) file, made in memory, and back again from an open file.

HDF5 never sees a disk: where one is full it takes Python with it.  Nor does it see bytes that are not those that were
written: on some it waits for ever.  Before it may allocate anything, what a file says of itself is held against what is
in it, and what leads out of the file is refused."""

from __future__ import annotations

import hashlib
import math
import os
import struct
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Any, BinaryIO

from hiermod.core.escaping import label_text
from hiermod.errors import FileError, UnsupportedError

if TYPE_CHECKING:
    import xarray as xr

SIGNATURE = b"\x89HDF\r\n\x1a\n"
DEFLATE = 1040  # zlib packs 1032 bytes into one at the most; the rest is for what is stored beside them
SEAL = b"\nhiermod sha256 "
HEAP = b"GCOL\x01\0\0\0"  # signature and version of a global heap
SMALL = 2**20  # bytes that need no check
FILTERS = {1, 2, 3}  # deflate, shuffle, Fletcher's checksum: those that come with HDF5 and only compute
# what the netCDF library writes for a dimension without values, which is never read
NO_VALUES = b"This is a netCDF dimension but not a netCDF variable"


def pack(groups: Mapping[str, xr.Dataset]) -> BytesIO:
    """The file, with one group for each Dataset.  UnsupportedError, naming the group, for what netCDF cannot hold."""
    import h5netcdf
    from xarray.backends import H5NetCDFStore

    buffer = BytesIO()
    with h5netcdf.File(buffer, "w") as file:
        for name, dataset in groups.items():
            encoding = {one: _encoding(dataset[one]) for one in dataset.variables}
            try:
                dataset.dump_to_store(H5NetCDFStore(file, group=name), encoding=encoding)
            except (TypeError, ValueError, h5netcdf.CompatibilityError) as error:
                raise UnsupportedError(f"the group {name!r} holds what a netCDF file cannot keep: {error}") from error
    return buffer


def describe(buffer: BytesIO, attrs: Mapping[str, Any]) -> None:
    """Give the root of a file in memory its attributes."""
    import h5netcdf

    with h5netcdf.File(buffer, "a") as file:
        file.attrs.update(attrs)


def seal(buffer: BytesIO) -> None:
    """Put the SHA-256 of all bytes behind them, where HDF5 does not look."""
    digest = hashlib.sha256(buffer.getbuffer()).hexdigest().encode()
    buffer.seek(0, os.SEEK_END)
    buffer.write(SEAL + digest + b"\n")


class Packed:
    """The content of a file: its groups and the attributes of its root, in memory once asked for.

    Whatever h5py, h5netcdf and xarray raise on bytes that are not theirs is a FileError; without the file's name, which
    the caller knows."""

    def __init__(self, content: BytesIO) -> None:
        """Check what the file says of itself.  FileError where it cannot be true or leads out of the file."""
        self.handle = content
        whole = content.getvalue()  # no copy
        if not whole:
            raise FileError("is empty: it was not written by fit.save(), which leaves no unfinished files")
        if not whole.startswith(SIGNATURE):
            raise FileError("is not a file that fit.save() wrote: it is no netCDF-4 (HDF5) file")
        _check_seal(whole)
        longest = _check_heaps(whole)
        with _as_damage():
            self.names = _checked(content, most_texts=DEFLATE * len(whole) // max(longest, 1))

    @classmethod
    def read(cls, handle: BinaryIO) -> Packed:
        """Of a file on a disk, which is read once: it may be replaced meanwhile."""
        with _as_damage():
            content = BytesIO(handle.read())
        return cls(content)

    def group(self, name: str, plain: bool = False) -> xr.Dataset:
        """One group.  plain: as the file has it, without the rules by which netCDF packs numbers and marks gaps."""
        import h5netcdf
        import xarray as xr
        from xarray.backends import H5NetCDFStore

        with _as_damage():
            self.handle.seek(0)
            with (
                h5netcdf.File(self.handle, "r", decode_vlen_strings=True) as file,
                xr.open_dataset(
                    H5NetCDFStore(file, group=name), engine=None, decode_cf=not plain, decode_times=False
                ) as dataset,
            ):
                return dataset.load()

    def attributes(self) -> dict[str, Any]:
        """Of the root."""
        import h5py

        with _as_damage():
            self.handle.seek(0)
            with h5py.File(self.handle, "r") as file:
                return dict(file.attrs)


@contextmanager
def _as_damage() -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what they say about such bytes would not help: the SHA-256 judges
            yield
    except (FileError, ImportError):
        raise
    except MemoryError as error:
        raise FileError("needs more memory to be read than there is") from error
    except Exception as error:  # HDF5 and what reads it raise many kinds on bytes that are not theirs
        raise FileError(f"is damaged, perhaps cut off: {told(error)}") from error


def told(what: object) -> str:
    """An error or a name in one line: the words may be the file's."""
    return label_text(" ".join(str(what).split()) or type(what).__name__)[:300]


def _encoding(variable: Any) -> dict[str, Any]:
    """Compression, which pays for text and codes; no value of its own for missing numbers."""
    encoding: dict[str, Any] = {"_FillValue": None} if variable.dtype.kind in "fiub" else {}
    if variable.dtype.kind in "fiub" and variable.nbytes > 512:
        encoding |= {"zlib": True, "complevel": 1, "shuffle": True}
    return encoding


# --- what a file says of itself -----------------------------------------------------------------------------------


def _checked(handle: BytesIO, most_texts: int) -> tuple[str, ...]:
    """The names of the groups, once every dataset of theirs is seen to be as large as it says.

    most_texts: in a dataset whose entries name texts kept elsewhere, all of which may name the longest."""
    import h5py

    handle.seek(0)
    with h5py.File(handle, "r") as file:
        _check_attributes(file)
        names = []
        for name in file:
            if file.get(name, getlink=True, getclass=True) is not h5py.HardLink:
                raise FileError(f"has a link in the place of its group {told(name)!r}, perhaps to other files")
            if isinstance(file[name], h5py.Group):
                names.append(name)
                _check_group(file[name], most_texts)
        return tuple(names)


def _check_group(group: Any, most_texts: int) -> None:
    import h5py

    _check_attributes(group)
    for name in group:
        if group.get(name, getlink=True, getclass=True) is not h5py.HardLink:
            raise FileError(f"has a link in the place of {told(name)!r}, perhaps to other files")
        found = group[name]
        if isinstance(found, h5py.Dataset):
            _check_attributes(found)
            told_name = told(f"{group.name}/{name}")
            _check_dataset(found, told_name)
            if found.dtype.kind == "O" and found.size > most_texts:
                raise FileError(
                    f"is damaged: {told_name!r} names more text, {found.size:,} times, than a file can hold"
                )


def _check_dataset(dataset: Any, name: str) -> None:
    """The declared size can be that of the bytes that are stored for it, and those are in this file."""
    properties = dataset.id.get_create_plist()
    if dataset.is_virtual or properties.get_external_count():
        raise FileError(f"keeps the numbers of {name!r} in other files")
    steps = [properties.get_filter(i)[0] for i in range(properties.get_nfilters())]
    filters = set(steps)
    if not filters <= FILTERS:
        raise FileError(f"packs {name!r} in a way (HDF5 filter {min(filters - FILTERS)}) that fit.save() does not use")
    if len(steps) > len(filters):  # packed twice, a few bytes are a million times as many
        raise FileError(f"packs {name!r} several times in the same way, which fit.save() does not")
    if dataset.attrs.get("NAME", b"").startswith(NO_VALUES):
        return
    stored = dataset.id.get_storage_size()
    chunk = math.prod(dataset.chunks) * dataset.dtype.itemsize if dataset.chunks else 0
    for size in (dataset.nbytes, chunk if dataset.size else 0):
        if size > (stored * DEFLATE if filters else stored) + (0 if size == dataset.nbytes else SMALL):
            raise FileError(
                f"is damaged: it says that {name!r} takes {size:,} bytes of memory, and holds {stored:,} bytes for it"
            )


def _check_seal(whole: bytes) -> None:
    """The bytes are those that were written.  Files of the first versions have no seal: HDF5 sees what they miss."""
    at = whole.rfind(SEAL[:8], -len(SEAL) - 65)
    if at >= 0 and whole[at:] != SEAL + hashlib.sha256(memoryview(whole)[:at]).hexdigest().encode() + b"\n":
        raise FileError("is damaged, perhaps cut off: its bytes and the SHA-256 at its end disagree. Use another copy")


def _check_heaps(whole: bytes) -> int:
    """The global heaps, where HDF5 keeps text and references, end: in one whose entry has no length HDF5 would stay.

    Returns the bytes of the longest entry."""
    longest, start = 0, whole.find(HEAP)
    while start >= 0:
        (size,) = struct.unpack_from("<Q", whole[start + 8 : start + 16].ljust(8, b"\0"))
        at, end = start + 16, min(start + size, len(whole))
        while at + 16 <= end:
            index, length = struct.unpack_from("<H6xQ", whole, at)
            step = length if index == 0 else 16 + -(-length // 8) * 8  # entry 0 is what is free, its head included
            if step == 0 or step > end - at:
                raise FileError("is damaged, perhaps cut off: a table of texts in it has an entry without an end")
            longest = max(longest, length if index else 0)
            at += step
        start = whole.find(HEAP, start + 8)
    return longest


def _check_attributes(holder: Any) -> None:
    for name in holder.attrs:
        attribute = holder.attrs.get_id(name)
        size = math.prod(attribute.shape or ()) * attribute.dtype.itemsize
        if size > max(attribute.get_storage_size(), SMALL):
            raise FileError(f"is damaged: it says that an attribute takes {size:,} bytes, which it does not hold")
