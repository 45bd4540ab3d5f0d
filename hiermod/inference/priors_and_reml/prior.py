"""PriorPredictive: what the priors say about parameters, groups and data before any data are seen.

In the vocabulary of fits: estimates are prior means, std_error prior standard deviations, intervals equal-tailed.
Gabry, Simpson, Vehtari, Betancourt and Gelman (2019, J. R. Stat. Soc. A 182, 389-402), section 3."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hiermod.core.annotated import noted
from hiermod.core.arguments import check_count, generator
from hiermod.core.checked import checked
from hiermod.core.summary import Section, Summary
from hiermod.engines.posterior import Posterior
from hiermod.engines.prior_draws import PriorDraws, draw_prior, prior_idata
from hiermod.errors import ArgumentError, ArgumentTypeError
from hiermod.fits.bayesian import BayesianFit
from hiermod.fits.ddf import chosen_ddf
from hiermod.fits.frequentist import FrequentistFit
from hiermod.fits.tables import LEVEL, check_level, corr_names, sd_names, simulated_frame
from hiermod.fits.vocabulary import Fit
from hiermod.formula.design import Design
from hiermod.inference.priors_and_reml.prior_against import against_table, simulate_summaries
from hiermod.inference.priors_and_reml.prior_lines import prior_lines
from hiermod.priors.model_priors import model_priors
from hiermod.priors.table import priors_frame

if TYPE_CHECKING:
    from hiermod.model import Model


@checked
class PriorPredictive(Fit):
    """What ``Model.prior_predictive()`` returns: draws of parameters, group effects and data.  Immutable; pickles.

    ``record`` holds the arrays, (1, draw, ...), as a posterior's."""

    record: Posterior

    def __init__(self, design: Design, draws: PriorDraws, family: str, link: str, centred: bool) -> None:
        self.design, self.draws, self.family, self.link, self.centred = design, draws, family, link, centred
        self.record = draws.record

    @cached_property
    def _idata(self) -> Any:
        return prior_idata(self.draws, self.design)

    @property
    def idata(self) -> Any:
        """Groups prior, prior_predictive (left out beyond 200 MB) and observed_data, for ArviZ, Bambi's names."""
        return self._idata

    # --- tables -------------------------------------------------------------------------------------------------
    def priors(self) -> pd.DataFrame:
        """The priors drawn from: parameter, distribution, why, key."""
        return priors_frame(self.draws.entries)

    def fixef(self, level: float = LEVEL, ddf: str | None = "auto") -> pd.DataFrame:
        """Common effects under the prior: estimate (mean), std_error (sd), median, lower, upper; index term.

        The intercept is that of the formula, at predictors equal to 0, as in every fit.  ddf: draws have no degrees of
        freedom, so anything but "auto" and None raises UnsupportedError."""
        chosen_ddf(self, ddf)
        return _table(self.record.beta[0], list(self.design.common), level).rename_axis("term")

    def parameters(self, level: float = LEVEL) -> pd.DataFrame:
        """The columns of ``fixef`` for every parameter, named as in a posterior; index parameter."""
        pieces, names = [self.record.beta[0]], list(self.design.common)
        for block, sd, corr in zip(self.design.blocks, self.record.sd, self.record.corr, strict=True):
            pieces.append(sd[0])
            names += sd_names(block)
            if corr is not None:
                pieces.append(corr[0][:, *np.triu_indices(block.size, 1)])
                names += corr_names(block)
        if self.record.sigma is not None:
            pieces.append(self.record.sigma[0][:, None])
            names.append("sigma")
        for name, values in self.record.auxiliary.items():
            flat = values[0].reshape(self.draws.count, -1)
            pieces.append(flat)
            names += [name] if flat.shape[1] == 1 else [f"{name}[{i}]" for i in range(flat.shape[1])]
        return _table(np.concatenate(pieces, axis=1), names, level).rename_axis("parameter")

    def varcorr(self, level: float = LEVEL) -> pd.DataFrame:
        """group, term1, term2, sdcor, vcov, lower, upper under the prior, as a posterior's varcorr."""
        return BayesianFit(self.design, self.record, self.family, self.link).varcorr(level)

    def simulate(self, draws: int = 1, random_seed: int | np.random.Generator | None = None) -> pd.DataFrame:
        """Data sets that the prior thinks possible: (n, draws), columns sim_1, sim_2, ..., each from its own draw.

        Each data set has its own parameters and group effects; for counts out of trials it holds the successes,
        for ordinal responses categories as the data have them."""
        check_count("draws", draws, 1)
        rng = generator(random_seed)
        if draws > self.draws.count:
            raise ArgumentError(
                f"draws is {draws}, and there are {self.draws.count} draws from the prior: "
                "ask prior_predictive(draws=) for more"
            )
        chosen = rng.choice(self.draws.count, size=int(draws), replace=False)
        y = np.concatenate(list(self.draws.responses(self.design, chosen, rng)))
        return simulated_frame(self.design, y)

    # --- prior and data -----------------------------------------------------------------------------------------
    @cached_property
    def _simulated(self) -> dict[str, np.ndarray]:
        return simulate_summaries(self.draws, self.design)

    def data_summaries(self) -> pd.DataFrame:
        """Summaries of the simulated data, one column each and one row per draw: mean, sd, range, between groups."""
        return pd.DataFrame(self._simulated).rename_axis("draw")

    def lines(
        self,
        x: str | None = None,
        group: str | None = None,
        draws: int = 50,
        random_seed: int | np.random.Generator | None = None,
    ) -> pd.DataFrame:
        """Expected responses of one simulated group per draw along ``x``: draw, level, x, y.

        x: a numeric column of the data, by default the first on the left of a bar, else in the formula; without one,
        the levels of ``group`` side by side.  Raises UnknownNameError, UnsupportedError (ordinal and mixture families).
        attrs: x, group, and the data as points, a DataFrame of x and y."""
        return prior_lines(self.draws, self.design, self.family, self.link, x, group, draws, random_seed)

    def against(self, reml: FrequentistFit, alpha: float = 0.05) -> pd.DataFrame:
        """Where the estimates of a REML (or ML) fit and the data fall in the prior; index parameter.

        Columns: kind (fixed, sd, corr, sigma, data); reml (of the rows ``data: ...`` the observed summary), std_error,
        lower, upper (95 %, normal on the log scale for sds and on Fisher's for correlations);
        prior_median, prior_lower, prior_upper (95 %); prior_quantile of the estimate; conflict_p, the prior
        probability of a value no denser than the estimate (Evans and Moshonov 2006: 1 at the mode, small in the
        tails; of an intercept at the predictors' means, if its prior is there); conflict_p_data, the same under prior
        and standard error together; conflict: both below ``alpha`` after Holm's correction for the number of parameters
        (the summaries of the data have their own): the chance that any prior that is right is called a conflict;
        prior_weight, the prior's share of the information: 0 the data decide, 1 the prior does; prior_shift, how far it
        moves the estimate, in standard errors (sds on the log scale); verdict ("data decide", "prior has a say", "prior
        decides", "prior-data conflict", the words of ``prior_sensitivity``; "boundary", "no standard error", "fixed",
        "undefined"; of data also "as expected", "wide", "too wide") and words.  attrs["sentences"] sums it
        up.  nan where REML has no estimate or no standard error.

        A prior can be so wide that it contains every estimate and still expects absurd data: where the data's sd or
        range is 20 times smaller than it expects, that row has the verdict "too wide" and counts as a conflict.
        Raises ArgumentTypeError for another kind of fit, ArgumentError for one of other data.

        >>> import hiermod as hm
        >>> m = hm.Model("Yield ~ 1 + (1 | Batch)", hm.load_dataset("dyestuff"))
        >>> table = m.prior_predictive(random_seed=1).against(m.reml())
        >>> table["conflict"].any()
        np.False_
        """
        if not isinstance(reml, FrequentistFit):
            raise ArgumentTypeError(f"against takes a fit by REML or ML (m.reml(), m.ml()), got {type(reml).__name__}")
        check_level(alpha, "alpha")
        mine, other = self.design, reml.design
        if (mine.common, mine.response, _bars(mine)) != (other.common, other.response, _bars(other)):
            raise ArgumentError(
                f"the prior is that of {mine.formula!r} and the fit is of {other.formula!r}: their parameters are not "
                "the same. Take prior and fit from one Model"
            )
        if not np.array_equal(mine.y, other.y):
            raise ArgumentError("prior and fit have different data: take both from one Model")
        return noted(against_table(self.draws, mine, self.centred, reml, float(alpha), self._simulated))

    # --- text ---------------------------------------------------------------------------------------------------
    def summary(self) -> Summary:
        """The priors, what they imply for parameters and what they expect of data."""
        from hiermod.inference.priors_and_reml.data_summaries import data_summaries, summarise

        observed = summarise(self.design.y[None], self.design, data_summaries(self.design))
        rows = {
            name: [*np.nanquantile(values, [0.025, 0.5, 0.975]), observed[name][0]]
            for name, values in self._simulated.items()
        }
        expected = pd.DataFrame.from_dict(rows, orient="index", columns=["2.5 %", "median", "97.5 %", "observed"])
        priors = self.priors()[["parameter", "distribution"]].set_index("parameter").rename_axis(None)
        note = (
            f"{self.draws.count} draws, seed {self.record.inference.seed}. prior.against(m.reml()) sets it against data"
        )
        return Summary(
            f"Prior predictive of {self.formula}, family {self.family}",
            (
                Section("Priors:", priors),
                Section("Data that the prior expects:", expected.map(lambda value: f"{value:.4g}"), note),
            ),
        )


@checked
def prior_predictive(
    model: Model, draws: int = 1000, random_seed: int | np.random.Generator | None = None
) -> PriorPredictive:
    """Draws from the prior: parameters, group effects and whole data sets; ``.against(m.reml())`` judges them.

    PyMC and Bambi are needed only for priors that numpy cannot draw, links that can leave the range of the mean, hurdle
    models of counts, formulas in parameters=, and weighted(), censored() and truncated() responses.
    Raises UnsupportedError for a flat prior.

    >>> import hiermod as hm
    >>> m = hm.Model("Reaction ~ Days + (Days | Subject)", hm.load_dataset("sleepstudy"))
    >>> prior = m.prior_predictive(random_seed=1)
    >>> prior.simulate(3, random_seed=2).shape
    (180, 3)
    """
    spec, centred = model.spec, model.center_predictors
    found = draw_prior(
        spec,
        model._prior_entries(),
        model_priors(spec, model._priors, model.family, model.link, centred),
        model.family,
        model.link,
        centred,
        lambda: model._graph,
        draws=draws,
        random_seed=random_seed,
    )
    return PriorPredictive(spec, found, model.family, model.link, bool(centred and spec.has_intercept))


def _bars(design: Design) -> list[tuple[str, ...]]:
    return [(block.factor, *block.labels) for block in design.blocks]


def _table(draws: np.ndarray, names: list[str], level: float) -> pd.DataFrame:
    """(d, t) draws, one row per name."""
    tail = (1 - check_level(level)) / 2
    lower, median, upper = np.quantile(draws, [tail, 0.5, 1 - tail], axis=0) if len(names) else np.empty((3, 0))
    columns = {"estimate": draws.mean(axis=0), "std_error": draws.std(axis=0, ddof=1) if len(draws) > 1 else np.nan}
    return pd.DataFrame(columns | {"median": median, "lower": lower, "upper": upper}, index=names)
