"""A design fitted by REML or maximum likelihood: least squares or a mixed model, generalised or not."""

from __future__ import annotations

from hiermod.engines.likelihood.enough_nodes import fit_with_enough_nodes
from hiermod.engines.likelihood.generalised import fit_generalised
from hiermod.engines.likelihood.glm import fit_glm
from hiermod.engines.likelihood.least_squares import fit_linear
from hiermod.engines.likelihood.mixed import fit_mixed
from hiermod.engines.likelihood.quadrature import check_nodes
from hiermod.families.catalogue import is_linear
from hiermod.fits.frequentist import FrequentistFit
from hiermod.fits.generalised import GeneralisedFit
from hiermod.formula.design import Design


def by_likelihood(design: Design, family: str, link: str, reml: bool = False, nodes: int | str = 1) -> FrequentistFit:
    """The fit of a design whose family has a likelihood here: ``is_linear``, or in ``GENERALISED``.

    reml: for linear models; nodes: of quadrature, for generalised ones, "auto" for enough.  Raises what the engines
    raise."""
    if is_linear(family, link):
        record = fit_mixed(design, reml=reml) if design.blocks else fit_linear(design, reml=reml)
        return FrequentistFit(design, record, family)
    if design.blocks:
        if nodes == "auto":
            return GeneralisedFit(design, fit_with_enough_nodes(design, family, link), family)
        return GeneralisedFit(design, fit_generalised(design, family, link, check_nodes(design, nodes)), family)
    return GeneralisedFit(design, fit_glm(design, family, link), family)
