"""Poisson counts of mean mu for a share psi of the rows; the others are 0."""

from __future__ import annotations

from hiermod.families import poisson
from hiermod.families.family import INTEGERS, Family, Notation, inside, the_location
from hiermod.families.zeros_apart import PSI, drawn_or_zero, inflated_logpmf, inflated_variance

ZERO_INFLATED_POISSON = Family(
    name="zero_inflated_poisson",
    kind="count",
    links=("log", "identity"),
    notation=Notation("ZeroInflatedPoisson", arguments=("psi",)),
    parameters=(PSI,),
    also_called=("zip",),
    support=INTEGERS,
    own_zeros=True,
    logpdf=inside(INTEGERS, inflated_logpmf(poisson.logpmf)),
    draw=drawn_or_zero(poisson.draw),
    mean=lambda mu, p: mu * p["psi"],
    variance=inflated_variance(the_location),
)
