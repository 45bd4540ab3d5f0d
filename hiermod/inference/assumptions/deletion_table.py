"""The influence of groups and rows as a table: Cook's distance, dfbetas, leverage and changes of every estimate.

Cook's distance as in R's influence.me and HLMdiag: (b - b_u)'V^-1 (b - b_u) / p with V the covariance of the fit
(Nieuwenhuis, te Grotenhuis and Pelzer 2012, R Journal 4(2); Loy and Hofmann 2014, J. Stat. Softw. 56(5))."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hiermod.core.arguments import LARGEST_CORES, check_count
from hiermod.core.checked import checked
from hiermod.errors import ArgumentError, UnknownNameError, nearest
from hiermod.families.catalogue import FAMILIES
from hiermod.fits.tables import values_as_groups
from hiermod.formula.design import Design
from hiermod.inference.assumptions.deletion import Deletion, held_deletion
from hiermod.inference.assumptions.deletion_refits import refitted_deletion

if TYPE_CHECKING:
    from hiermod.fits.frequentist import FrequentistFit

MEASURES = ("cooks_distance", "mdffits", "covratio", "leverage", "leverage_common")


@checked
def influence(fit: FrequentistFit, group: str | None = None, refit: bool = False, cores: int = 1) -> pd.DataFrame:
    """What each level of ``group``, or each row (None), does to the estimates: one line for each left out.

    rows; cooks_distance (dfbeta'V^-1 dfbeta / p); mdffits (the same with V without the unit); covratio; leverage
    (degrees of freedom of the fitted values it takes; one row: lme4's hatvalues) and its part from the common
    effects; dfbetas[term] (change over the standard error without the unit); change[parameter] (estimate less the
    estimate without).  group: a grouping factor or a column of the data the model uses.  refit=False holds the
    variance parameters (a generalised fit takes one step); refit=True fits again each time, in ``cores`` processes.
    ``attrs["notes"]`` says which, and what could not be had.  Raises UnknownNameError, ArgumentError.

    >>> import hiermod as hm
    >>> m = hm.Model("Reaction ~ Days + (Days | Subject)", hm.load_dataset("sleepstudy"))
    >>> table = m.reml().influence("Subject")
    >>> table["cooks_distance"].idxmax(), round(float(table["cooks_distance"].max()), 3)
    ('309', 0.149)
    """
    cores = check_count("cores", cores, most=LARGEST_CORES)
    codes, labels = units(fit.design, group)
    if len(labels) < 2:
        raise ArgumentError(f"{group!r} has one level: without it no row is left to fit")
    names = tuple(str(label) for label in labels)
    if refit:
        found = refitted_deletion(fit.record, fit.design, codes, names, cores)
    else:
        found = held_deletion(fit.record, fit.design, codes, names)
    table = _columns(fit, found, labels, group)
    table.attrs["notes"] = (_how(fit, refit), *found.messages)
    table.attrs["group"], table.attrs["refit"] = group, bool(refit)
    return table


def units(design: Design, group: str | None) -> tuple[np.ndarray, pd.Index]:
    """(n,) the unit of each row, and the units' labels: rows, levels of a grouping factor, or values of a column."""
    if group is None:
        return np.arange(design.nobs), design.index
    for block in design.blocks:
        if block.factor == group:
            return np.asarray(block.codes, dtype=np.intp), pd.Index(block.levels, name=group)
    if group in design.frame.columns:
        codes, values = values_as_groups(design.frame[group])
        return codes, values.rename(group)
    known = [*design.ngroups, *(str(name) for name in design.frame.columns)]
    raise UnknownNameError(
        f"{group!r} is neither a grouping factor nor a column of this model.{nearest(str(group), known)} group=None "
        "leaves out single rows"
    )


def _columns(fit: FrequentistFit, found: Deletion, labels: pd.Index, group: str | None) -> pd.DataFrame:
    columns = {"rows": found.n_rows} | {name: getattr(found, name) for name in MEASURES}
    common = list(fit.design.common)
    columns |= {f"dfbetas[{name}]": found.dfbetas[:, i] for i, name in enumerate(common)}
    columns |= {f"change[{name}]": found.change[:, i] for i, name in enumerate(common)}
    if found.parameters.shape[1]:
        rest = list(fit.parameters().index[len(common) :])
        columns |= {f"change[{name}]": found.parameters[:, i] for i, name in enumerate(rest)}
    return pd.DataFrame({name: np.array(values) for name, values in columns.items()}, index=labels)


def _how(fit: FrequentistFit, refit: bool) -> str:
    if refit:
        return "Each line is a fit of the other rows: variance parameters are estimated again."
    if FAMILIES[fit.family].normal_errors:
        if not fit.is_mixed:
            return "The residual variance is held at its estimate: exact for the coefficients."
        return (
            "Variance parameters are held at their estimates from all rows: exact for the coefficients given those. "
            "refit=True estimates them again without each group."
        )
    return (
        "One step of iteratively reweighted least squares from the estimates, variance parameters held: an "
        "approximation. refit=True fits again without each group."
    )
