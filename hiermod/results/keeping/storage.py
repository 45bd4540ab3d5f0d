"""One fit in one netCDF-4 file: saved whole or not at all, read into memory, refused when it is not what was saved.

The draws stand in the groups that ArviZ writes (posterior, sample_stats, ...), everything else in the group
``hiermod``: one JSON text and the arrays it names.  A SHA-256 of it all finds files that changed on the way."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hiermod import _versions
from hiermod.bayes.coordinates import exact_correlations
from hiermod.bayes.idata import build_idata
from hiermod.bayes.posterior import extract
from hiermod.errors import ArgumentTypeError, FileError, HiermodError, UnknownNameError, UnsupportedError
from hiermod.formula.design import Design
from hiermod.results.bayesian import BayesianFit
from hiermod.results.frequentist import FrequentistFit
from hiermod.results.glmm import GeneralisedFit
from hiermod.results.keeping.fingerprint import content_fingerprint, versions
from hiermod.results.keeping.origins import origin_of
from hiermod.results.keeping.stored_records import DRAWS, check_namespace, draws_in, instead_of, makers
from hiermod.results.keeping.stored_values import Reader, Writer
from hiermod.results.vocabulary import Fit

if TYPE_CHECKING:
    import xarray as xr

FORMAT = 1  # raised when older versions of hiermod could misread what newer ones write
OWN = "hiermod"  # the group with everything but draws
SIGNATURE = b"\x89HDF\r\n\x1a\n"
# The names that stand in files -> the classes of today, as in stored_values.RECORDS.
KINDS = {"BayesianFit": BayesianFit, "FrequentistFit": FrequentistFit, "GeneralisedFit": GeneralisedFit}
ALWAYS = ("posterior", "sample_stats", "observed_data")  # of draws that were never asked for as idata
SLASH = "\N{DIVISION SLASH}"  # for the "/" of names such as I(x / 2), which in a netCDF file would begin a group


def save(fit: Fit, path: str | os.PathLike[str]) -> Path:
    """Write ``fit`` to ``path``; a file that is there is replaced once the new one is whole on the disk.

    Returns the path.  Raises FileError where the file cannot be written and UnsupportedError for data that no file can
    hold; either way, as after an interrupt, what was there before is still there."""
    target = _path(path)
    groups, attrs = _groups(fit)
    with _whole(target) as unfinished:
        for i, (name, dataset) in enumerate(groups.items()):
            encoding = {one: _encoding(dataset[one]) for one in dataset.variables}
            dataset.to_netcdf(unfinished, mode="a" if i else "w", group=name, engine="h5netcdf", encoding=encoding)
        attrs["sha256"] = _read_back(unfinished, groups)
        _empty(attrs).to_netcdf(unfinished, mode="a", engine="h5netcdf")
    return target


def _read_back(path: Path, groups: Mapping[str, xr.Dataset]) -> str:
    """SHA-256 of what the file now holds, once fit and draws are seen to be in it: a file that is kept can be read."""
    found = {name: _read(path, name, plain=name == OWN) for name in groups}
    needed = [name for name in (OWN, "posterior") if name in groups]
    if _content({name: found[name] for name in needed}) != _content({name: groups[name] for name in needed}):
        raise FileError(f"what was written to {path.parent} could not be read back as it was: nothing is kept")
    return _content(found)


def read(path: str | os.PathLike[str], extra_namespace: Mapping[str, Any] | None = None) -> Fit:
    """The fit in a file, without its Model: what ``hiermod.load`` does, which says more."""
    given = check_namespace(extra_namespace)
    source = _path(path)
    _check_file(source)
    try:
        own = _read(source, OWN, plain=True)
    except KeyError:
        raise FileError(
            f"{source} is a netCDF file, but not one that fit.save() wrote: it has no group {OWN!r}"
        ) from None
    _check_format(source, own)
    try:
        groups = {name: _read(source, name) for name in json.loads(own.attrs["groups"])}
        told = _read(source, "/").attrs.get("sha256")
    except KeyError as error:
        raise FileError(f"{source} lacks the group {error}, which it had when it was saved") from None
    if _content({OWN: own, **groups}) != told:
        raise FileError(f"{source} is not as it was saved: its content and its SHA-256 disagree. Use another copy")
    try:
        return _fit(own, groups, given)
    except UnknownNameError:
        raise
    except FileError as error:
        raise FileError(f"{source} cannot be read: {error}") from error
    except (HiermodError, AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise FileError(f"{source} holds no fit that hiermod can make sense of: {error}") from error


# --- a fit as groups ------------------------------------------------------------------------------------------------


def _groups(fit: Fit) -> tuple[dict[str, xr.Dataset], dict[str, Any]]:
    """The Datasets of the file by name, and the attributes of its root, which people read."""
    import xarray as xr

    kind = next((name for name, cls in KINDS.items() if cls is type(fit)), None)
    if kind is None:
        raise UnsupportedError(f"a {type(fit).__name__} cannot be saved")
    draws, how = _draws(fit) if isinstance(fit, BayesianFit) else ({}, None)
    origin = origin_of(fit)
    described = {
        "kind": kind,
        "family": fit.family,
        "link": getattr(fit, "link", None),
        "design": fit.design,
        "record": fit.record,  # type: ignore[attr-defined]
        "priors": fit.priors if isinstance(fit, BayesianFit) else None,
        "origin": origin,
        "draws": how,
        "names": _slashes(draws),
    }
    writer = Writer(instead_of(fit.design, {name: None for name in DRAWS} if how and how["from"] else {}))
    text = json.dumps(writer.write(described, "the fit"), allow_nan=False).encode("utf-8", "surrogatepass")
    variables: dict[str, Any] = {"fit": (("fit_bytes",), np.frombuffer(text, dtype="u1"))}
    for i, array in enumerate(writer.arrays):
        axes = [(size, array.shape[:axis].count(size)) for axis, size in enumerate(array.shape)]
        variables[f"a{i}"] = (tuple(f"length_{size}" + "_again" * before for size, before in axes), array)
    groups = {name: _renamed(dataset, SLASH) for name, dataset in draws.items()}
    own = xr.Dataset(variables)
    attrs = {
        "format": FORMAT,
        "hiermod": versions()["hiermod"],
        "groups": json.dumps(list(groups)),
    }
    readable = {
        "title": f"{kind} of hiermod: {fit.formula}",
        "family": fit.family,
        "created": origin.created,
        "versions": json.dumps(origin.versions),
        "data_sha256": origin.data,
        "priors": json.dumps(origin.priors, ensure_ascii=False),
    }
    return {OWN: own.assign_attrs(attrs), **groups}, readable


def _draws(fit: BayesianFit) -> tuple[dict[str, xr.Dataset], dict[str, Any]]:
    """The groups of ``idata``, and whether the record's arrays can be taken from them.

    Group effects that are drawn when asked for stay so, unless the person has asked for ``idata``."""
    kept = fit.record.idata is not None or "_idata" in vars(fit)
    try:
        idata = (
            fit.idata if kept else build_idata(fit.record, fit.design, on_demand=False)
        )  # asked for here, it is not the person's
    except ValueError:  # a DataTree takes no "/" in names: the draws go into the file as arrays
        return {}, {"from": "", "auxiliary": {}, "idata": False}
    names = [name for name in _versions.group_names(idata) if kept or name in ALWAYS]
    groups = {name: _plain(_versions.group_dataset(idata, name)) for name in names}
    groups |= {name: _plain(dataset) for name, dataset in fit._added.items()}
    drawn = all(isinstance(one, np.ndarray) for one in fit.record.effects)
    taken = draws_in(groups["posterior"], fit.record, fit.design) if drawn else None
    return groups, {
        "from": "posterior" if taken is not None else "",
        "auxiliary": taken or {},
        "idata": kept,
        "added": tuple(fit._added),
    }


def _fit(own: xr.Dataset, groups: dict[str, xr.Dataset], given: Mapping[str, Any] | None) -> Fit:
    """The fit that the groups describe."""
    text = json.loads(own["fit"].values.tobytes().decode("utf-8", "surrogatepass"))
    designs: list[Design] = []
    plain = dict(text["map"])
    made = makers(lambda: designs[0], plain["family"], plain["link"], given)
    reader = Reader(lambda i: own[f"a{i}"].values, made)
    designs.append(reader.read(plain["design"]))
    design, family, link = designs[0], reader.read(plain["family"]), reader.read(plain["link"])
    record, origin = reader.read(plain["record"]), reader.read(plain["origin"])
    kind = plain["kind"]
    if kind == "BayesianFit":
        how, names = reader.read(plain["draws"]), reader.read(plain["names"])
        groups = {name: _renamed(dataset, "/", names) for name, dataset in groups.items()}
        if "posterior" in groups:
            groups["posterior"] = _with_exact_correlations(groups["posterior"], design)
        if how["from"]:
            record = replace(record, **vars(extract(groups[how["from"]], design, how["auxiliary"])))
        if how["idata"]:
            record = replace(record, idata=_idata(groups))
        fit: Fit = BayesianFit(design, record, family, link, reader.read(plain["priors"]))
        vars(fit)["_added"] = {name: groups[name] for name in how.get("added", ())}
    else:
        fit = KINDS[kind](design, record, family)
    fit.origin = origin
    return fit


def _with_exact_correlations(posterior: xr.Dataset, design: Design) -> xr.Dataset:
    """Files of earlier versions have 1 - 1e-16 on the diagonals, which ArviZ's plots cannot bin."""
    designs = (design, *design.parts.values())
    names = [block.corr_name for one in designs for block in one.correlated_blocks if block.corr_name in posterior]
    found = {name: posterior[name].copy(data=exact_correlations(posterior[name].values)) for name in names}
    return posterior.assign(found)


def _idata(groups: Mapping[str, xr.Dataset]) -> Any:
    """The groups for ArviZ; None, to be made when asked for, where a DataTree cannot have their names ("/")."""
    try:
        return _versions.make_idata(groups)
    except ValueError:
        return None


def _plain(dataset: xr.Dataset) -> xr.Dataset:
    """Columns of objects, such as a sampler's messages, as text; as nan where there is none."""
    changed = {}
    for name in dataset.data_vars:
        if dataset[name].dtype.kind == "O":
            values = [value if isinstance(value, str) else "" for value in dataset[name].values.ravel()]
            array = np.array(values) if any(values) else np.full(len(values), np.nan)
            changed[name] = dataset[name].copy(data=array.reshape(dataset[name].shape))
    return dataset.assign(changed) if changed else dataset


def _slashes(groups: Mapping[str, xr.Dataset]) -> tuple[str, ...]:
    """Names with a "/", as they are."""
    names = (str(name) for dataset in groups.values() for name in (*dataset.variables, *dataset.dims))
    return tuple(sorted({name for name in names if "/" in name}))


def _renamed(dataset: xr.Dataset, to: str, names: tuple[str, ...] | None = None) -> xr.Dataset:
    """Names with "/" as the file has them, or back as they were (``names``)."""
    if names is None:
        changes = {name: name.replace("/", to) for name in _slashes({"": dataset})}
    else:
        changes = {name.replace("/", SLASH): name for name in names}
        changes = {old: new for old, new in changes.items() if old in dataset.variables or old in dataset.dims}
    return dataset.rename(changes) if changes else dataset


def _content(groups: Mapping[str, xr.Dataset]) -> str:
    """SHA-256 of every variable of every group: names, dims and values."""

    def pieces() -> Iterator[tuple[str, Any]]:
        for group, dataset in groups.items():
            for name in sorted(map(str, dataset.variables)):
                variable = dataset[name]
                yield f"{group} {name} {' '.join(map(str, variable.dims))}", np.asarray(variable.values)

    return content_fingerprint(pieces())


# --- the file -------------------------------------------------------------------------------------------------------


def _path(path: Any) -> Path:
    if not isinstance(path, str | os.PathLike):
        raise ArgumentTypeError(f"path must be a text or a pathlib.Path, got {type(path).__name__}")
    return Path(path).expanduser()


def _encoding(variable: Any) -> dict[str, Any]:
    """Compression, which pays for text and codes; no value of its own for missing numbers."""
    encoding: dict[str, Any] = {"_FillValue": None} if variable.dtype.kind in "fiub" else {}
    if variable.dtype.kind in "fiub" and variable.nbytes > 512:
        encoding |= {"zlib": True, "complevel": 1, "shuffle": True}
    return encoding


def _empty(attrs: Mapping[str, Any]) -> xr.Dataset:
    import xarray as xr

    return xr.Dataset(attrs=dict(attrs))


@contextmanager
def _whole(target: Path) -> Iterator[Path]:
    """A new file in the target's folder, which takes its place when the block ends well and goes when it does not."""
    target = target.resolve()  # through a link, to the file it names
    if target.is_dir():
        raise FileError(f"{target} is a folder: give the name of a file in it, such as {target / 'fit.nc'}")
    if not target.parent.is_dir():
        raise FileError(f"there is no folder {target.parent} to save {target.name!r} in: make it first")
    unfinished = target.with_name(f".{target.name}.{uuid.uuid4().hex[:12]}.part")
    try:
        try:
            yield unfinished
            _to_disk(unfinished)
            os.replace(unfinished, target)
        except (OSError, RuntimeError) as error:  # h5py's word for a disk that is full is either
            raise FileError(f"{target} could not be written ({error}). What was there before is unchanged") from error
    finally:
        unfinished.unlink(missing_ok=True)


def _to_disk(path: Path) -> None:
    """Not only in the system's memory: after a power cut a file that has its name has its content too."""
    with path.open("r+b") as handle:
        os.fsync(handle.fileno())


def _check_file(source: Path) -> None:
    """FileError unless it is a file that begins as HDF5 does."""
    try:
        with source.open("rb") as handle:
            start = handle.read(len(SIGNATURE))
    except FileNotFoundError:
        raise FileError(f"there is no file {source}") from None
    except OSError as error:
        raise FileError(f"{source} cannot be opened: {error.strerror or error}") from error
    if not start:
        raise FileError(f"{source} is empty: it was not written by fit.save(), which leaves no unfinished files")
    if start != SIGNATURE:
        raise FileError(f"{source} is not a file that fit.save() wrote: it is no netCDF-4 (HDF5) file")
    import h5py

    try:
        with source.open("rb") as handle, h5py.File(handle, "r") as file:
            file.attrs.get("_nc3_strict")
    except (OSError, RuntimeError) as error:  # before h5netcdf meets it, which does not clean up after itself
        raise FileError(f"{source} is damaged, perhaps cut off: {error}") from error


def _read(source: Path, group: str, plain: bool = False) -> xr.Dataset:
    """One group in memory, the file closed.  plain: as the file has it.  KeyError where there is no such group."""
    import xarray as xr

    try:
        with source.open("rb") as handle, xr.open_dataset(
            handle, engine="h5netcdf", group=group, decode_cf=not plain, decode_times=False
        ) as dataset:  # fmt: skip
            return dataset.load()
    except (KeyError, FileNotFoundError):
        raise KeyError(group) from None
    except (ImportError, MemoryError):
        raise
    except Exception as error:  # h5py and h5netcdf raise many kinds on bytes that are not theirs
        if "group not found" in str(error):
            raise KeyError(group) from None
        raise FileError(f"{source} is damaged, perhaps cut off: {error}") from error


def _check_format(source: Path, own: xr.Dataset) -> None:
    number, writer = own.attrs.get("format"), own.attrs.get("hiermod", "?")
    if not isinstance(number, int | np.integer) or "fit" not in own or "groups" not in own.attrs:
        raise FileError(f"{source} has a group {OWN!r} without what fit.save() puts there")
    if number > FORMAT:
        raise FileError(
            f"{source} was written by hiermod {writer} in format {number}, and this hiermod ({versions()['hiermod']}) "
            f"reads formats up to {FORMAT}: install a newer one"
        )
