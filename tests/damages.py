"""Files of fits as accidents and as people with intent leave them: the same ones every time, by number.

Bytes cut off, changed, moved, doubled and lost; HDF5 that lies about its sizes or points out of the file; JSON that was
rewritten and given the SHA-256 that belongs to it; files of other kinds."""

from __future__ import annotations

import functools
import io
import json
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr

from hiermod.output.storage import storage
from hiermod.output.storage.container import Packed, describe, pack, seal

Damage = tuple[str, bytes]


def truncated(whole: bytes, rng: np.random.Generator) -> bytes:
    return whole[: int(rng.integers(len(whole)))]


def flipped(whole: bytes, rng: np.random.Generator) -> bytes:
    """One to eight bits."""
    changed = bytearray(whole)
    for at in rng.integers(0, len(whole), int(rng.integers(1, 9))):
        changed[at] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def overwritten(whole: bytes, rng: np.random.Generator) -> bytes:
    """A run of zeros, of ones, or of noise."""
    at, length = int(rng.integers(len(whole))), int(rng.integers(1, 65))
    run = [bytes(length), b"\xff" * length, rng.bytes(length)][int(rng.integers(3))]
    return (whole[:at] + run + whole[at + length :])[: len(whole)]


def swapped(whole: bytes, rng: np.random.Generator) -> bytes:
    """Two pieces of one length in each other's place."""
    length = int(rng.choice([8, 64, 512, 4096]))
    a, b = (int(one) * length for one in sorted(rng.choice(len(whole) // length, 2, replace=False)))
    return whole[:a] + whole[b : b + length] + whole[a + length : b] + whole[a : a + length] + whole[b + length :]


def shifted(whole: bytes, rng: np.random.Generator) -> bytes:
    """A piece lost, or there twice."""
    at, length = int(rng.integers(len(whole))), int(rng.integers(1, 2000))
    return whole[:at] + whole[at + length :] if rng.random() < 0.5 else whole[: at + length] + whole[at:]


def inflated(whole: bytes, rng: np.random.Generator) -> bytes:
    """A number that could be a size of something, 8 bytes long, made enormous."""
    small = [i for i in range(0, len(whole) - 8, 8) if 0 < struct.unpack_from("<Q", whole, i)[0] < 5000]
    at = int(rng.choice(small))
    size = [2**31, 2**33, 10**11, 2**40, 2**62, 2**64 - 1][int(rng.integers(6))]
    return whole[:at] + struct.pack("<Q", size) + whole[at + 8 :]


ACCIDENTS: dict[str, Callable[[bytes, np.random.Generator], bytes]] = {
    "truncated": truncated,
    "flipped": flipped,
    "overwritten": overwritten,
    "swapped": swapped,
    "shifted": shifted,
    "inflated": inflated,
}


def accidents(whole: bytes, count: int, seed: int) -> Iterator[Damage]:
    """``count`` damaged copies of each kind."""
    for k, (kind, damage) in enumerate(ACCIDENTS.items()):
        for i in range(count):
            yield f"{kind} {i}", damage(whole, np.random.default_rng([seed, k, i]))


# --- HDF5 that lies ----------------------------------------------------------------------------------------------


def edits(whole: bytes, folder: Path) -> Iterator[Damage]:
    """Copies edited with h5py: parts missing, replaced, of absurd size, elsewhere."""

    def edited(change: Callable[[Any], None]) -> bytes:
        copy = folder / "edited.h5"
        copy.write_bytes(whole)
        with h5py.File(copy, "r+") as file:
            change(file)
        return copy.read_bytes()

    with h5py.File(io.BytesIO(whole), "r") as file:
        groups = list(file)
        variables = [f"{group}/{name}" for group in groups for name in file[group]]
        attributes = [(where, name) for where in ("/", *groups) for name in file[where].attrs]

    def delete(name: str) -> Callable[[Any], None]:
        return lambda file: file.__delitem__(name)

    def resized(name: str, **how: Any) -> Callable[[Any], None]:
        def change(file: Any) -> None:
            kind = file[name].dtype
            del file[name]
            file.create_dataset(name, dtype=kind, **how)

        return change

    def linked(name: str, link: Any) -> Callable[[Any], None]:
        def change(file: Any) -> None:
            del file[name]
            file[name] = link

        return change

    def virtual(name: str) -> Callable[[Any], None]:
        def change(file: Any) -> None:
            layout = h5py.VirtualLayout(shape=file[name].shape, dtype=file[name].dtype)
            layout[...] = h5py.VirtualSource(folder / "other.h5", name, shape=file[name].shape)
            del file[name]
            file.create_virtual_dataset(name, layout)

        return change

    for name in (*groups, *variables):
        yield f"without {name}", edited(delete(name))
        yield f"{name} is a link out", edited(linked(name, h5py.ExternalLink("/etc/passwd", "/")))
        yield f"{name} is a link to nothing", edited(linked(name, h5py.SoftLink("/nowhere")))
        yield f"{name} is the root", edited(linked(name, h5py.SoftLink("/")))
    for name in variables:
        yield f"{name} of 745 GB", edited(resized(name, shape=(10**11,)))
        yield f"{name} of 745 GB in chunks", edited(resized(name, shape=(10**6, 10**5), chunks=(10**3, 10**3)))
        yield f"{name} packed, of 8 TB", edited(resized(name, shape=(10**12,), chunks=(10**6,), compression="gzip"))
        yield f"{name} one chunk of 3 GB", edited(resized(name, shape=(4 * 10**8,), chunks=(4 * 10**8,)))
        yield f"{name} elsewhere", edited(resized(name, shape=(4,), external=[("/etc/passwd", 0, 2**20)]))
        yield f"{name} is virtual", edited(virtual(name))
        yield f"{name} packed otherwise", edited(resized(name, shape=(40,), chunks=(40,), compression="lzf"))
        yield f"{name} a group", edited(lambda file, name=name: (delete(name)(file), file.create_group(name)))
    junk = [7, -1.5, "[" * 100_000, '["posterior"', '{"a": 1}', "[1, 2]", '["hiermod", "/"]', b"\xff\xfe", np.arange(9)]
    for where, name in attributes:
        yield f"{where} without {name}", edited(lambda file, w=where, n=name: file[w].attrs.__delitem__(n))
        for i, value in enumerate(junk):
            try:
                yield f"{where} {name} is junk {i}", edited(lambda f, w=where, n=name, v=value: f[w].attrs.create(n, v))
            except (OSError, RuntimeError):  # an attribute larger than 64 KB, which HDF5 itself refuses here
                continue


# --- JSON with the SHA-256 that belongs to it -----------------------------------------------------------------------


@functools.lru_cache(maxsize=4)
def _read(whole: bytes) -> tuple[xr.Dataset, dict[str, xr.Dataset]]:
    """The own group and the others of a good file; not to be changed."""
    file = Packed(io.BytesIO(whole))
    own = file.group("hiermod", plain=True)
    return own, {name: file.group(name) for name in json.loads(own.attrs["groups"])}


def forged(whole: bytes, change: Callable[[Any], Any]) -> bytes:
    """A file whose JSON went through ``change``, its SHA-256 made to agree: only someone with intent makes those."""
    own, groups = _read(whole)
    changed = change(json.loads(own["fit"].values.tobytes()))
    text = changed if isinstance(changed, bytes) else json.dumps(changed).encode("utf-8", "surrogatepass")
    own = own.drop_vars("fit").assign(fit=(("fit_bytes",), np.frombuffer(text, dtype="u1")))
    packed = pack({"hiermod": own, **groups})
    describe(packed, {"sha256": storage._content({"hiermod": own, **groups})})
    seal(packed)
    return packed.getvalue()


ODD: list[Any] = [
    None, True, -1, 0, 10**12, 10**400, 1.5, "", "a\0b", "\x1b[2J", "posterior", [], [[]], {}, {"list": []},
    {"number": "nan"}, {"number": "x"}, {"array": [], "type": "float64", "shape": [10**9, 10**9]},
    {"array": [1], "type": "object", "shape": [10**13]}, {"array": 999, "type": "<f8", "shape": [1]},
    {"array": 0, "type": "O", "shape": [1]}, {"array": 0, "type": "V8", "shape": [1]}, {"day": "never"},
    {"moment": "x" * 50}, {"index": "range", "names": [None], "range": [0, 10**15, 1]},
    {"index": "date", "names": [None], "values": {"array": [], "type": "<M8[ns]", "shape": [0]}, "freq": None,
     "zone": "dateutil//dev/tty"},
    {"record": "Path", "fields": {}}, {"record": "Design", "fields": {}}, {"record": "Origin", "fields": []},
    {"map": [[[1, 2], 3]]}, {"map": [[{"list": []}, 3]]}, {"map": 3}, {"frame": [["a", 1]], "rows": 3},
]  # fmt: skip


def mutated(text: Any, rng: np.random.Generator) -> Any:
    """The JSON with one entry somewhere in it lost, doubled or odd."""
    places: list[tuple[Any, Any]] = []

    def look(value: Any) -> None:
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            places.append((value, key))
            if isinstance(item, dict | list):
                look(item)

    look(text)
    holder, key = places[int(rng.integers(len(places)))]
    what = rng.random()
    if what < 0.2:
        del holder[key]
    elif what < 0.3 and isinstance(holder, list):
        holder.insert(key, holder[key])
    else:
        holder[key] = ODD[int(rng.integers(len(ODD)))]
    return text


def forgeries(whole: bytes, count: int, seed: int) -> Iterator[Damage]:
    """``count`` mutations, and texts that are no JSON or too deep to be read."""
    for i in range(count):
        yield f"mutated {i}", forged(whole, lambda text, i=i: mutated(text, np.random.default_rng([seed, i])))
    for name, text in {
        "deep lists": b"[" * 200_000 + b"]" * 200_000,
        "deep maps": b'{"list": [' * 50_000 + b"]}" * 50_000,
        "deep but whole": b'{"map": [["family", ' + b"[" * 5_000 + b"]" * 5_000 + b"]]}",
        "cut": b'{"map": [["kind", ',
        "a long number": b'{"map": ' + b"9" * 10_000 + b"}",
        "no text": b"\xff\xfe\x00",
        "nothing": b"",
        "a list": b"[]",
        "nan": b'{"map": [["kind", NaN]]}',
    }.items():
        yield name, forged(whole, lambda _, text=text: text)


# --- files of other kinds ----------------------------------------------------------------------------------------


def foreign() -> Iterator[Damage]:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("fit.nc", b"\x89HDF\r\n\x1a\n")
    plain = io.BytesIO()
    with h5py.File(plain, "w") as file:
        file["x"] = [1.0]
    draws = xr.Dataset({"a": (("chain", "draw"), np.zeros((2, 5)))})
    yield "nothing", b""
    yield "text", b"Reaction,Days\n1,2\n"
    yield "json", b"[" * 100_000
    yield "pickle", b"\x80\x04\x95\x1d\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94."
    yield "zip", archive.getvalue()
    yield "png", b"\x89PNG\r\n\x1a\n" + bytes(100)
    yield "netCDF-3", b"CDF\x01" + bytes(100)
    yield "the start of HDF5", b"\x89HDF\r\n\x1a\n"
    yield "the start of HDF5, then noise", b"\x89HDF\r\n\x1a\n" + np.random.default_rng(1).bytes(5000)
    yield "the start of HDF5, then nothing", b"\x89HDF\r\n\x1a\n" + bytes(5000)
    yield "HDF5 of others", plain.getvalue()
    yield "draws of ArviZ", pack({"posterior": draws}).getvalue()
    yield "an own group that is not", pack({"hiermod": draws, "posterior": draws}).getvalue()
