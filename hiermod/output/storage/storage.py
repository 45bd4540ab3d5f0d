"""One fit in one netCDF-4 file: saved whole or not at all, read into memory, refused when it is not what was saved.

The draws stand in the groups that ArviZ writes (posterior, sample_stats, ...), everything else in the group
``hiermod``: one JSON text and the arrays it names.  A SHA-256 of it all finds files that changed on the way."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from hiermod.core import versions
from hiermod.core.checked import checked
from hiermod.core.files import file_path, open_regular, whole
from hiermod.engines.idata import build_idata
from hiermod.engines.marginal.coordinates import exact_correlations
from hiermod.engines.posterior import extract
from hiermod.errors import FileError, HiermodError, UnknownNameError, UnsupportedError
from hiermod.fits import row_draws
from hiermod.fits.bayesian import BayesianFit
from hiermod.fits.frequentist import FrequentistFit
from hiermod.fits.generalised import GeneralisedFit
from hiermod.fits.vocabulary import Fit
from hiermod.formula.design import Design
from hiermod.formula.parts import parts_of
from hiermod.output.storage.container import Packed, describe, pack, seal, told
from hiermod.output.storage.fingerprint import content_fingerprint, package_versions
from hiermod.output.storage.origins import origin_of
from hiermod.output.storage.stored_records import DRAWS, check_namespace, draws_in, instead_of, makers
from hiermod.output.storage.stored_values import Reader, Writer

if TYPE_CHECKING:
    import xarray as xr

FORMAT = 1  # raised when older versions of hiermod could misread what newer ones write
OWN = "hiermod"  # the group with everything but draws
# The names that stand in files -> the classes of today, as in stored_values.RECORDS.
KINDS = {"BayesianFit": BayesianFit, "FrequentistFit": FrequentistFit, "GeneralisedFit": GeneralisedFit}
ALWAYS = ("posterior", "sample_stats", "observed_data")  # of draws that were never asked for as idata
# what making a fit raises when a file with the right SHA-256 was made by somebody else
BROKEN = (HiermodError, ArithmeticError, AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError)
SLASH = "\N{DIVISION SLASH}"  # for the "/" of names such as I(x / 2), which in a netCDF file would begin a group


@checked
def save(fit: Fit, path: str | os.PathLike[str]) -> Path:
    """Write the fit to a netCDF file; ``hm.load(path)`` reads it back, in another process too.

    It holds the rows and columns that the model used: share it as the data may be shared.  A file that is there is
    replaced once the new one is whole.  Returns the path; raises FileError."""
    target = file_path(path)
    with whole(target) as handle:
        groups, attrs = _groups(fit)
        packed = pack(groups)
        describe(packed, {**attrs, "sha256": _read_back(packed, groups)})
        seal(packed)
        handle.write(packed.getbuffer())
    return target


def _read_back(packed: BytesIO, groups: Mapping[str, xr.Dataset]) -> str:
    """SHA-256 of what the file holds, once fit and draws are seen to be in it: a file that is kept can be read."""
    file = Packed(packed)
    found = {name: file.group(name, plain=name == OWN) for name in groups}
    needed = [name for name in (OWN, "posterior") if name in groups]
    if _content({name: found[name] for name in needed}) != _content({name: groups[name] for name in needed}):
        raise FileError("what was to be written could not be read back as it was: nothing is kept")
    return _content(found)


def read(path: str | os.PathLike[str], extra_namespace: Mapping[str, Any] | None = None) -> Fit:
    """The fit in a file, without its Model: what ``hiermod.load`` does, which says more."""
    given = check_namespace(extra_namespace)
    source = file_path(path)
    with open_regular(source) as handle:
        try:
            own, groups = _stored(handle)
        except FileError as error:
            raise FileError(f"{source} {error}") from error
    try:
        return _fit(own, groups, given)
    except UnknownNameError:
        raise
    except FileError as error:
        raise FileError(f"{source} cannot be read: {error}") from error
    except MemoryError as error:
        raise FileError(f"{source} describes a fit that needs more memory than there is") from error
    except BROKEN as error:
        raise FileError(f"{source} holds no fit that hiermod can make sense of: {told(error)}") from error


def _stored(handle: BinaryIO) -> tuple[xr.Dataset, dict[str, xr.Dataset]]:
    """The own group and the draws, as they were saved.  FileError without the file's name."""
    file = Packed.read(handle)
    if OWN not in file.names:
        raise FileError(f"is a netCDF file, but not one that fit.save() wrote: it has no group {OWN!r}")
    own = file.group(OWN, plain=True)
    _check_format(own)
    try:
        names = json.loads(own.attrs["groups"])
    except (TypeError, ValueError, RecursionError) as error:
        raise FileError(f"is damaged: its list of groups cannot be read ({told(error)})") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise FileError("is damaged: its list of groups is none")
    missing = [name for name in names if name not in file.names]
    if missing:
        raise FileError(f"lacks the group {missing[0]!r}, which it had when it was saved")
    groups = {name: file.group(name) for name in names}
    sha256 = file.attributes().get("sha256")
    if not isinstance(sha256, str) or _content({OWN: own, **groups}) != sha256:
        raise FileError("is not as it was saved: its content and its SHA-256 disagree. Use another copy")
    return own, groups


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
        "record": fit.record,
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
        "hiermod": package_versions()["hiermod"],
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
            fit.idata
            if kept
            else build_idata(fit.record, fit.design, on_demand=False, gaussian=row_draws.is_gaussian(fit))
        )  # asked for here, it is not the person's
    except ValueError:  # a DataTree takes no "/" in names: the draws go into the file as arrays
        return {}, {"from": "", "auxiliary": {}, "idata": False}
    names = [name for name in versions.group_names(idata) if kept or name in ALWAYS]
    groups = {name: _plain(versions.group_dataset(idata, name)) for name in names}
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
    designs = (design, *parts_of(design).values())
    names = [block.corr_name for one in designs for block in one.correlated_blocks if block.corr_name in posterior]
    found = {name: posterior[name].copy(data=exact_correlations(posterior[name].values)) for name in names}
    return posterior.assign(found)


def _idata(groups: Mapping[str, xr.Dataset]) -> Any:
    """The groups for ArviZ; None, to be made when asked for, where a DataTree cannot have their names ("/")."""
    try:
        return versions.make_idata(groups)
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


def _check_format(own: xr.Dataset) -> None:
    number, writer = own.attrs.get("format"), own.attrs.get("hiermod", "?")
    if not isinstance(number, int | np.integer) or "fit" not in own or "groups" not in own.attrs:
        raise FileError(f"has a group {OWN!r} without what fit.save() puts there")
    if number > FORMAT:
        raise FileError(
            f"was written by hiermod {told(writer)} in format {number}, and this hiermod "
            f"({package_versions()['hiermod']}) reads formats up to {FORMAT}: install a newer one"
        )
