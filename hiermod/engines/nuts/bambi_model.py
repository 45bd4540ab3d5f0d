"""A bambi.Model that stays the Design's model whatever Bambi does to it: built again it is correlated again, and its
priors are those it was given.  Imports Bambi, so it is itself imported only when a graph is built."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from threading import Lock
from typing import Any

import bambi
import bambi.model_components
import numpy as np

from hiermod.engines.nuts.quiet import collected
from hiermod.errors import UnsupportedError
from hiermod.priors.model_priors import is_constant


class HierarchicalModel(bambi.Model):
    """What ``hiermod.Model.bambi`` hands out.

    names: what the formula looks up besides columns, each seen to be allowed (formula/functions.py).  finish: what
    makes the graph that Bambi has built the Design's; it is applied whenever ``build`` is, as Bambi asks for after
    ``set_alias``.  renamed: whether its variables have other names than the Design's."""

    def __init__(
        self,
        formula: Any,
        data: Any,
        names: Mapping[str, Any],
        finish: Callable[[HierarchicalModel], None],
        **arguments: Any,
    ) -> None:
        self.finish = finish
        self.renamed = False
        # Bambi looks names up in the frame that calls it before any it is given, and a formula may come from a file: so
        # that frame holds the formula's own names and nothing else.  No name of a formula begins with "_".
        frame = {**names, "__builtins__": {}, "_init": super().__init__, "_given": (formula, data), "_named": arguments}
        with _constant_columns_allowed():
            exec("_init(*_given, **_named)", frame)

    def build(self) -> None:
        """Bambi's graph, then its blocks correlated and centred.  UnsupportedError where PyMC cannot build it."""
        with collected():
            try:
                super().build()
            # What a person's own bambi.Prior can bring about: an unknown distribution or a shape that does not fit, an
            # argument that the distribution lacks, a prior of group effects that cannot be sampled non-centred.
            except (ValueError, TypeError, NotImplementedError) as error:
                raise UnsupportedError(f"PyMC cannot build the graph of {self.formula.main!r}: {error}") from error
            self.finish(self)

    def set_alias(self, aliases: dict[str, Any]) -> None:
        """Bambi's: other names for terms and parameters, used from the next ``build()`` on.

        What hiermod itself computes keeps the names of its tables."""
        super().set_alias(aliases)
        self.renamed = True

    def set_priors(self, priors: Any = None, common: Any = None, group_specific: Any = None) -> None:
        """Refused: the priors are those of the hiermod.Model, whose every engine has the same ones."""
        raise UnsupportedError(
            "set_priors() would change this graph, and no other engine of the hiermod.Model that it belongs to. Make a "
            "new one, hm.Model(..., priors={...}): its .bambi has them"
        )

    def _build_priors(self) -> None:
        with np.errstate(all="ignore"):  # Bambi's own scales, which are not used, of infinite bounds in truncated()
            super()._build_priors()


class _Term(bambi.model_components.CommonTerm):
    """Bambi's common term, which may have one column that does not vary: an interaction over an empty cell."""

    def __init__(self, term: Any, prior: Any, prefix: str | None = None) -> None:
        try:
            super().__init__(term, prior, prefix)
        except ValueError:  # raised when everything is set
            if not is_constant(np.asarray(term.data, dtype=float)).all():
                raise


_patching = Lock()


@contextmanager
def _constant_columns_allowed() -> Iterator[None]:
    """Bambi refuses them, though a proper prior makes them harmless; it has no other place to say so."""
    with _patching:
        before = bambi.model_components.CommonTerm
        bambi.model_components.CommonTerm = _Term
        try:
            yield
        finally:
            bambi.model_components.CommonTerm = before
