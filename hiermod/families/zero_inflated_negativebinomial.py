"""Negative binomial counts of mean mu for a share psi of the rows; the others are 0."""

from __future__ import annotations

from hiermod.families import negativebinomial
from hiermod.families.family import INTEGERS, Family, Notation, Parameter, inside
from hiermod.families.zeros_apart import PSI, drawn_or_zero, inflated_logpmf, inflated_variance

ZERO_INFLATED_NEGATIVEBINOMIAL = Family(
    name="zero_inflated_negativebinomial",
    kind="count",
    links=("log", "identity", "cloglog"),
    notation=Notation("ZeroInflatedNegativeBinomial", arguments=("alpha", "psi")),
    parameters=(Parameter("alpha"), PSI),
    also_called=("zinb",),
    support=INTEGERS,
    own_zeros=True,
    logpdf=inside(INTEGERS, inflated_logpmf(negativebinomial.logpmf)),
    draw=drawn_or_zero(negativebinomial.draw),
    mean=lambda mu, p: mu * p["psi"],
    variance=inflated_variance(negativebinomial.variance),
)
