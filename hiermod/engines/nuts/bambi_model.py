"""A bambi.Model that stays the Design's model whatever Bambi does to it: built again it is correlated again, and its
default priors are finite whatever the columns.  Imports Bambi, so it is itself imported only when a graph is built."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from threading import Lock
from typing import Any

import bambi
import bambi.model_components
import numpy as np

from hiermod.core import versions
from hiermod.engines.nuts.quiet import collected
from hiermod.errors import UnsupportedError
from hiermod.families.catalogue import FAMILIES
from hiermod.priors.model_priors import SPREAD, column_scale, is_constant

ROUNDING = 1e6  # times what it should be: a default prior this wide comes from a column's rounding errors


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
        with np.errstate(divide="ignore", invalid="ignore"):  # where a column does not vary
            super()._build_priors()
        finite_defaults(self)


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


def finite_defaults(model: Any) -> None:
    """Replace default priors that Bambi has scaled by a column without variation (priors/gaussian.py has the rule)."""
    parent, scaler = versions.bambi_parent(model), model.scaler
    known = FAMILIES.get(model.family.name)
    latent = known is not None and known.default_scale == "latent"
    unit = latent and model.family.link["p"].name in ("logit", "probit")
    wide = SPREAD * float(scaler.response_std)
    changed = False
    variance = wide**2  # of the default intercept: its own, and what the slopes' priors add at the predictors' means
    for term in parent.common_terms.values():
        if not (getattr(term.prior, "auto_scale", False) and term.prior.name == "Normal"):
            continue
        columns = np.asarray(term.data, dtype=float)
        sigma, mended = _mended(term.prior.args["sigma"], columns, 1.0 if unit else wide)
        if mended:
            term.prior.update(sigma=sigma)
            changed = True
        variance += float(np.sum(np.square(sigma) * np.square(columns.mean(axis=0))))
    intercept = parent.intercept_term
    if changed and not unit and intercept is not None and _is_default(intercept.prior, "Normal"):
        intercept.prior.update(sigma=np.sqrt(variance))
    for term in parent.group_specific_terms.values():
        prior = term.prior.args.get("sigma")
        if not (getattr(term.prior, "auto_scale", False) and getattr(prior, "name", "") == "HalfNormal"):
            continue
        if term.kind == "intercept":
            if changed:
                prior.update(sigma=np.sqrt(variance))
            continue
        sigma, mended = _mended(prior.args["sigma"], np.asarray(term.predictor, dtype=float), wide)
        if mended:
            prior.update(sigma=sigma)


def _is_default(prior: Any, name: str) -> bool:
    return bool(getattr(prior, "auto_scale", False)) and prior.name == name


def _mended(sigma: Any, columns: np.ndarray, wide: float) -> tuple[np.ndarray, bool]:
    """The sds of a term's default priors, those of columns without variation as ``column_scale`` has them."""
    values, flat = np.asarray(sigma, dtype=float), columns.reshape(len(columns), -1)
    expected = wide / column_scale(flat)
    wrong = is_constant(flat) & ~(np.broadcast_to(values, expected.shape) <= ROUNDING * expected)
    return np.where(wrong, expected, values).reshape(values.shape), bool(wrong.any())
