"""A fit as JSON text and plain numeric arrays, and back: no pickle, so reading a file runs nothing that it brings.

Only the classes of ``RECORDS`` are ever made from a file, by name; whatever else stands there is refused."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields
from typing import Any

import numpy as np
import pandas as pd

from hiermod.engines.likelihood.generalised_record import GeneralisedMixedFit
from hiermod.engines.likelihood.glm import GeneralisedLinearFit
from hiermod.engines.likelihood.least_squares import LinearFit
from hiermod.engines.likelihood.mixed import MixedFit
from hiermod.engines.likelihood.optimise import Convergence
from hiermod.engines.marginal.on_demand import EffectsOnDemand, LargestFactor
from hiermod.engines.posterior import Inference, Posterior
from hiermod.errors import FileError, UnsupportedError
from hiermod.formula.design import Block, Column, Design
from hiermod.output.storage.fingerprint import Origin
from hiermod.priors.distributions import Distribution
from hiermod.priors.gaussian import GaussianPriors
from hiermod.priors.given import PriorSet

# The names that stand in files -> the classes of today.  Files keep theirs: a class that gets another name changes the
# right side of its line only, and a field that does gets a line in RENAMED.
RECORDS: dict[str, Any] = {
    "Block": Block,
    "Column": Column,
    "Convergence": Convergence,
    "Design": Design,
    "Distribution": Distribution,
    "EffectsOnDemand": EffectsOnDemand,
    "GaussianPriors": GaussianPriors,
    "GeneralisedLinearFit": GeneralisedLinearFit,
    "GeneralisedMixedFit": GeneralisedMixedFit,
    "Inference": Inference,
    "LargestFactor": LargestFactor,
    "LinearFit": LinearFit,
    "MixedFit": MixedFit,
    "Origin": Origin,
    "Posterior": Posterior,
    "PriorSet": PriorSet,
}
RENAMED = {("Posterior", "b"): "effects"}  # (record, field) of older files -> the field of today
PLAIN = (bool, int, str, type(None))
ZONE = re.compile(r"(?!dateutil)(?!.*\.\.)[A-Za-z][\w+\-/:]*")
LIST, MAP, RECORD, NUMBER = "list", "map", "record", "number"
ARRAY, FRAME, INDEX, DAY, MOMENT = "array", "frame", "index", "day", "moment"


class Writer:
    """Turns values into what JSON can hold; arrays go to ``arrays`` and leave their number behind.

    instead: by record, the fields whose value in the file is another one (None: made anew on reading)."""

    def __init__(self, instead: Mapping[str, Mapping[str, Any]]) -> None:
        self.arrays: list[np.ndarray] = []
        self.instead = instead

    def write(self, value: Any, where: str) -> Any:
        """The value for JSON.  UnsupportedError, naming ``where``, for what no file can hold."""
        if isinstance(value, np.generic) and not isinstance(value, np.datetime64 | np.timedelta64):
            value = value.item()
        if isinstance(value, PLAIN):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else {NUMBER: repr(value)}
        if isinstance(value, datetime.date):  # Timestamps are dates too
            return {MOMENT if isinstance(value, datetime.datetime) else DAY: value.isoformat()}
        if isinstance(value, list | tuple):
            items = [self.write(item, where) for item in value]
            return items if isinstance(value, tuple) else {LIST: items}
        if isinstance(value, Mapping):
            return {MAP: [[self.write(key, where), self.write(item, where)] for key, item in value.items()]}
        if isinstance(value, np.ndarray):
            return self._array(value, where)
        if isinstance(value, pd.DataFrame):
            return self._frame(value)
        if isinstance(value, pd.Index):
            return self._index(value, where)
        name = next((name for name, cls in RECORDS.items() if cls is type(value)), None)
        if name is not None:
            return self._record(name, value)
        raise UnsupportedError(
            f"{where} holds {type(value).__name__} values, which a file of hiermod cannot keep: turn them into numbers "
            "or text before the model is made"
        )

    def _record(self, name: str, value: Any) -> dict[str, Any]:
        other = self.instead.get(name, {})
        content = {
            field.name: self.write(other.get(field.name, getattr(value, field.name)), field.name)
            for field in fields(value)
            if field.init
        }
        return {RECORD: name, "fields": content}

    def _array(self, array: np.ndarray, where: str) -> dict[str, Any]:
        kind = array.dtype.kind
        if kind in "OUT":
            return {ARRAY: [self.write(item, where) for item in array.ravel()], "type": "object", "shape": array.shape}
        if kind not in "biufmM":
            raise UnsupportedError(f"{where} holds values of type {array.dtype}, which a file of hiermod cannot keep")
        plain = array.view("i8") if kind in "mM" else array.astype("u1") if kind == "b" else array
        told = {"type": array.dtype.str, "shape": array.shape}
        if not array.size:  # a netCDF dimension of length 0 has no end
            return {ARRAY: [], **told}
        self.arrays.append(np.ascontiguousarray(plain))
        return {ARRAY: len(self.arrays) - 1, **told}

    def _frame(self, frame: pd.DataFrame) -> dict[str, Any]:
        columns = [
            [str(name), self._column(frame[name], f"the column {name!r}")]  # names are text: the formula has them
            for name in frame.columns
        ]
        return {FRAME: columns, "rows": self._index(frame.index, "the index of the data")}

    def _column(self, values: pd.Series, where: str) -> dict[str, Any]:
        if isinstance(values.dtype, pd.CategoricalDtype):
            return self._categorical(values.array, where)
        return self._array(values.to_numpy(), where)

    def _categorical(self, values: Any, where: str) -> dict[str, Any]:
        return {
            "codes": self._array(np.asarray(values.codes), where),
            "levels": self._index(values.categories, where),
            "ordered": bool(values.ordered),
        }

    def _index(self, index: pd.Index, where: str) -> dict[str, Any]:
        names = [self.write(name, f"the name of {where}") for name in index.names]
        if isinstance(index, pd.MultiIndex):
            levels = [self._index(level, where) for level in index.levels]
            return {INDEX: "multi", "names": names, "levels": levels, "codes": [self._array(np.asarray(c), where)
                    for c in index.codes]}  # fmt: skip
        if isinstance(index, pd.RangeIndex):
            return {INDEX: "range", "names": names, "range": [index.start, index.stop, index.step]}
        if isinstance(index, pd.CategoricalIndex):
            return {INDEX: "categorical", "names": names, **self._categorical(index, where)}
        if isinstance(index, pd.PeriodIndex):
            return {INDEX: "period", "names": names, "values": self._array(index.asi8, where), "freq": index.freqstr}
        if isinstance(index, pd.DatetimeIndex):
            zone = None if index.tz is None else str(index.tz)
            values = index.tz_convert("UTC").tz_localize(None) if index.tz is not None else index
            told = {"values": self._array(values.to_numpy(), where), "zone": zone, "freq": index.freqstr}
            return {INDEX: "date", "names": names, **told}
        if pd.api.types.is_extension_array_dtype(index.dtype) or index.dtype.kind == "O":
            values = np.array([None if item is pd.NA else item for item in index], dtype=object)
            text = str(index.dtype)
            return {INDEX: "object", "names": names, "values": self._array(values, where), "type": text}
        return {INDEX: "plain", "names": names, "values": self._array(index.to_numpy(), where)}


class Reader:
    """The inverse of Writer.  arrays: those of the file, by number.  FileError for what Writer never writes."""

    def __init__(self, arrays: Callable[[int], np.ndarray], records: Mapping[str, Callable[..., Any]] = {}) -> None:
        self.arrays = arrays
        self.records = records

    def read(self, value: Any) -> Any:
        """The value that was written."""
        if isinstance(value, (*PLAIN, float)):
            return value
        if isinstance(value, list):
            return tuple(self.read(item) for item in value)
        if LIST in value:
            return [self.read(item) for item in value[LIST]]
        if MAP in value:
            return {self.read(key): self.read(item) for key, item in value[MAP]}
        if NUMBER in value:
            return float(value[NUMBER])
        if DAY in value:
            return datetime.date.fromisoformat(value[DAY])
        if MOMENT in value:
            return pd.Timestamp(value[MOMENT])
        if ARRAY in value:
            return self._array(value)
        if FRAME in value:
            index = self._index(value["rows"])
            columns = {name: self._column(column, index) for name, column in value[FRAME]}
            return pd.DataFrame(columns, index=index)
        if INDEX in value:
            return self._index(value)
        if RECORD in value:
            return self._record(value)
        raise FileError(f"the file holds an entry of no known kind ({', '.join(map(str, value))})")

    def _record(self, value: Mapping[str, Any]) -> Any:
        name = value[RECORD]
        if name not in RECORDS:
            raise FileError(f"the file holds a record {name!r}, which this hiermod does not know")
        known: dict[str, Field[Any]] = {field.name: field for field in fields(RECORDS[name]) if field.init}
        content = {RENAMED.get((name, field), field): item for field, item in value["fields"].items()}
        unknown = set(content) - set(known)
        missing = [
            field.name
            for field in known.values()
            if field.name not in content and field.default is MISSING and field.default_factory is MISSING
        ]
        if unknown or missing:
            told = f"has {', '.join(sorted(unknown))}" if unknown else f"lacks {', '.join(missing)}"
            raise FileError(f"its record {name!r} {told}, unlike this version of hiermod: read it with the version "
                            "that wrote it")  # fmt: skip
        make = self.records.get(name, RECORDS[name])
        return make(**{field: self.read(item) for field, item in content.items()})

    def _array(self, value: Mapping[str, Any]) -> np.ndarray:
        shape, kind = tuple(value["shape"]), value["type"]
        size = math.prod(shape)
        if kind == "object":
            if len(value[ARRAY]) != size:
                raise FileError(f"an array of the file has {len(value[ARRAY])} entries where its text says {shape}")
            array = np.empty(size, dtype=object)
            array[:] = [self.read(item) for item in value[ARRAY]]
            return array.reshape(shape)
        dtype = np.dtype(kind)
        if dtype.kind not in "biufmM":
            raise FileError(f"the file holds an array of type {kind!r}, which is no type of number")
        if value[ARRAY] == []:
            if size:
                raise FileError(f"an array of the file has no entries where its text says {shape}")
            return np.empty(shape, dtype=dtype)
        plain = np.asarray(self.arrays(int(value[ARRAY])))
        array = plain.view(dtype) if dtype.kind in "mM" else plain.astype(dtype, copy=False)
        if array.shape != shape:
            raise FileError(f"an array of the file has shape {array.shape} where its text says {shape}")
        return array

    def _column(self, value: Mapping[str, Any], index: pd.Index) -> pd.Series:
        values = self._categorical(value) if "codes" in value else self._array(value)
        return pd.Series(values, index=index)

    def _categorical(self, value: Mapping[str, Any]) -> Any:
        levels = self._index(value["levels"])
        return pd.Categorical.from_codes(self._array(value["codes"]), levels, ordered=value["ordered"])

    def _index(self, value: Mapping[str, Any]) -> pd.Index:
        kind, names = value[INDEX], [self.read(name) for name in value["names"]]
        if kind == "multi":
            levels = [self._index(level) for level in value["levels"]]
            return pd.MultiIndex(levels, [self._array(codes) for codes in value["codes"]], names=names)
        name = names[0]
        if kind == "range":
            return pd.RangeIndex(*value["range"], name=name)
        if kind == "categorical":
            return pd.CategoricalIndex(self._categorical(value), name=name)
        values = self._array(value["values"])
        if kind == "period":
            return pd.PeriodIndex.from_ordinals(values, freq=value["freq"], name=name)
        if kind == "date":
            dates = pd.DatetimeIndex(values, name=name)
            if value["zone"] is not None:
                if not ZONE.fullmatch(value["zone"]):  # pandas would look for a file of that name
                    raise FileError(f"the file has the time zone {value['zone']!r}, which is none")
                dates = dates.tz_localize("UTC").tz_convert(value["zone"])
            dates.freq = value["freq"]
            return dates
        if kind == "object":
            numbers = value["type"] if value["type"] in ("Int64", "Int32", "Float64", "boolean") else None
            return pd.Index(values, name=name, dtype=numbers) if numbers else pd.Index(list(values), name=name)
        return pd.Index(values, name=name)


def storable(value: Any) -> bool:
    """A number, text, or an array, list, tuple or dict of such: what a file can hold of the person's own names."""
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "biufmM" or all(storable(item) for item in value.ravel())
    if isinstance(value, list | tuple):
        return all(storable(item) for item in value)
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and storable(item) for key, item in value.items())
    return isinstance(value, (*PLAIN, float, np.number, np.bool_))
