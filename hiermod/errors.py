"""Errors and warnings: one root each, and every error is also the built-in kind an ordinary ``except`` expects.

A message says what was wrong, what was found, why it matters and what to do about it."""

from __future__ import annotations

import difflib
import re
import sys
import unicodedata
import warnings
from collections.abc import Iterable

from hiermod.core.escaping import terminal


class HiermodError(Exception):
    """Root of every error that hiermod raises on purpose."""

    def __str__(self) -> str:  # a KeyError would show the repr of its message, quotes and all
        return terminal(str(self.args[0])) if len(self.args) == 1 else super().__str__()


class FormulaError(HiermodError, ValueError):
    """The formula cannot be read, or describes something the model cannot be."""


class DataError(HiermodError, ValueError):
    """The data cannot support the model: missing, infinite, constant, duplicated, empty."""


class DesignError(HiermodError, ValueError):
    """Formula and data are fine alone, yet the model they make cannot be estimated."""


class ArgumentError(HiermodError, ValueError):
    """An argument has a value that is not allowed."""


class ArgumentTypeError(HiermodError, TypeError):
    """An argument has the wrong type."""


class UnknownNameError(HiermodError, KeyError):
    """A name (column, group, data set, parameter) that does not exist here."""


class UnsupportedError(HiermodError, ValueError):
    """A valid request that this engine or kind of fit cannot answer."""


class FitError(HiermodError, ValueError):
    """The computation started and could not finish."""


class FileError(HiermodError, ValueError):
    """A file that is not what it should be."""


class HiermodWarning(UserWarning):
    """Root of every warning that hiermod issues."""


class SingularFitWarning(HiermodWarning):
    """The estimated covariance of the group effects is rank deficient (lme4: boundary (singular) fit)."""


class ConvergenceWarning(HiermodWarning):
    """The optimiser or the sampler did not reach what its own checks ask for."""


class RankDeficiencyWarning(HiermodWarning):
    """Columns of the model matrix that earlier columns explain were left out."""


def warn(message: str, category: type[HiermodWarning]) -> None:
    """Warn at the person's own line: the first one outside hiermod, however many calls below it this is."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] == "hiermod":
        frame, level = frame.f_back, level + 1
    warnings.warn(terminal(message), category, stacklevel=level)


def nearest(name: str, candidates: Iterable[str]) -> str:
    """``" Did you mean 'x'?"`` when a candidate resembles ``name`` or has it among its words, else an empty string.

    Capitals and accents do not count.

    >>> nearest("Raction", ["Reaction", "Days"])
    " Did you mean 'Reaction'?"
    >>> nearest("hours", ["hours studied", "score"])
    " Did you mean 'hours studied'?"
    """
    asked, names = _folded(str(name)), [str(candidate) for candidate in candidates]
    close = difflib.get_close_matches(asked, [_folded(candidate) for candidate in names], n=1, cutoff=0.6)
    found = [candidate for candidate in names if _folded(candidate) in close]
    if not found and len(asked) > 2:
        found = [candidate for candidate in names if asked in re.split(r"[\W_]+", _folded(candidate))][:1]
    best = max(found, key=lambda candidate: difflib.SequenceMatcher(None, str(name), candidate).ratio(), default=None)
    return "" if best is None else f" Did you mean {best!r}?"


def _folded(name: str) -> str:
    """Without capitals and accents."""
    parts = unicodedata.normalize("NFKD", name)
    return "".join(part for part in parts if not unicodedata.combining(part)).casefold()


def listing(names: Iterable[object], limit: int = 8) -> str:
    """Names joined for a message, cut after ``limit`` with the number left out.

    >>> listing(["a", "b", "c"], limit=2)
    'a, b and 1 more'
    """
    items = [str(name) for name in names]
    if len(items) <= limit:
        return ", ".join(items)
    return f"{', '.join(items[:limit])} and {len(items) - limit} more"
