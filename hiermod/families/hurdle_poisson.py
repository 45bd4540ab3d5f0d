"""0, or with probability psi a Poisson count of mean mu that is above 0."""

from __future__ import annotations

from scipy import stats

from hiermod.families import poisson
from hiermod.families.family import INTEGERS, Family, Notation, inside, the_location
from hiermod.families.zeros_apart import (
    PSI,
    drawn_above_zero,
    drawn_or_zero,
    hurdle_logpmf,
    hurdle_mean,
    hurdle_variance,
)

HURDLE_POISSON = Family(
    name="hurdle_poisson",
    kind="count",
    links=("log", "identity"),
    notation=Notation("HurdlePoisson", arguments=("psi",)),
    parameters=(PSI,),
    support=INTEGERS,
    own_zeros=True,
    logpdf=inside(INTEGERS, hurdle_logpmf(poisson.logpmf, poisson.log_zero)),
    draw=drawn_or_zero(drawn_above_zero(poisson.log_zero, lambda u, mean, _: stats.poisson.ppf(u, mean))),
    mean=hurdle_mean(poisson.log_zero),
    variance=hurdle_variance(the_location, poisson.log_zero),
)
