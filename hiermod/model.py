"""Model, the front door: one formula and one data frame, fitted by REML, by maximum likelihood or by Bayes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import pandas as pd

from hiermod.core.answers import answers
from hiermod.core.checked import checked
from hiermod.core.synonyms import FIT, no_attribute
from hiermod.core.synonyms import MODEL as MODEL_NAMES
from hiermod.errors import (
    ArgumentError,
    ArgumentTypeError,
    ConvergenceWarning,
    DataError,
    DesignError,
    HiermodWarning,
    RankDeficiencyWarning,
    SingularFitWarning,
    UnsupportedError,
    listing,
    warn,
)
from hiermod.families.catalogue import FAMILIES, GENERALISED, check_family, check_link, is_linear
from hiermod.formula.build import build_design
from hiermod.formula.design import Design
from hiermod.priors.table import Entry, prior_entries, priors_frame

if TYPE_CHECKING:
    from hiermod.engines.engine import Specification
    from hiermod.engines.marginal.density import MarginalDensity
    from hiermod.fits.bayesian import BayesianFit
    from hiermod.fits.frequentist import FrequentistFit
    from hiermod.inference.priors_and_reml.prior import prior_predictive as _prior_predictive
    from hiermod.output.equations.equation import equation as _equation
    from hiermod.output.equations.matrices import design as _design
    from hiermod.plots.draw_prior import plot_priors as _plot_priors
    from hiermod.priors.gaussian import GaussianPriors
    from hiermod.study.pooling import pooling as _pooling

GRAPH_WARNING_BYTES = 2e9  # beyond this Bambi's dense group indicators deserve a word before they are built


# name -> the module of its function, whose first argument is the model: as in fits/vocabulary.py, these may point up
MODEL = {
    "equation": "hiermod.output.equations.equation",
    "design": "hiermod.output.equations.matrices",
    "prior_predictive": "hiermod.inference.priors_and_reml.prior",
    "plot_priors": "hiermod.plots.draw_prior",
    "pooling": "hiermod.study.pooling",
}


@answers(MODEL)
@checked
class Model:
    """A hierarchical model: a formula and the data it is about.

    formula: Bambi's language with lme4's group terms, ``"Reaction ~ Days + (Days | Subject)"``: ``(x | g)`` correlates
    intercept and slope, ``(x || g)`` does not (every column independent, those of a factor too, which lme4 1.1 leaves
    correlated), ``(1 | a/b)`` nests.  data: a DataFrame, never changed.
    family, link: a name of Bambi's.  priors: dict keyed by Bambi's names, see ``hiermod.priors.given``.
    weights: prior weights as in lme4, var(e_i) = sigma^2 / w_i.  se: known residual sd of each row.  Either is a
    column's name (``predict`` looks for it in new data too), an array, or a Series, matched to the rows by its index.
    dropna: leave out rows with missing values in columns the model uses.  center_predictors: as in Bambi, the prior of
    the intercept is on the intercept at the predictors' means.  noncentered: True, False or "auto".
    extra_namespace: functions and values the formula may use besides columns and the list of functions that every
    formula has (docs/guide/formulas.md).  parameters: formulas for further parameters of the
    response, each on its own scale (log; logit for psi): ``{"sigma": "x + (1 | g)"}``.

    Raises errors that are HiermodError and also ValueError, TypeError or KeyError; warns RankDeficiencyWarning.

    >>> import hiermod as hm
    >>> m = hm.Model("Reaction ~ Days + (Days | Subject)", hm.load_dataset("sleepstudy"))
    >>> m
    Model('Reaction ~ Days + (Days | Subject)'): gaussian, 180 rows; Subject: 18 levels
    """

    if TYPE_CHECKING:
        equation, design, prior_predictive = _equation, _design, _prior_predictive
        plot_priors, pooling = _plot_priors, _pooling

    def __init__(
        self,
        formula: str,
        data: pd.DataFrame,
        family: str = "gaussian",
        link: str | None = None,
        priors: Mapping[str, Any] | None = None,
        weights: str | np.ndarray | pd.Series | None = None,
        se: str | np.ndarray | pd.Series | None = None,
        dropna: bool = False,
        center_predictors: bool = True,
        noncentered: bool | str = "auto",
        extra_namespace: Mapping[str, Any] | None = None,
        parameters: Mapping[str, str] | None = None,
    ) -> None:
        if isinstance(formula, pd.DataFrame) and isinstance(data, str):
            raise ArgumentTypeError(f"the formula comes first, then the data: hm.Model({data!r}, d)")
        self.family = check_family(family)
        self.link = check_link(self.family, link)
        if weights is not None and se is not None:
            raise ArgumentError(
                "give weights or se, not both: se fixes the residual sd of each row, weights scale an unknown one"
            )
        if (weights is not None or se is not None) and not FAMILIES[self.family].normal_errors:
            what = "weights" if weights is not None else "se"
            raise UnsupportedError(f"{what}= is for family 'gaussian'; got family {self.family!r}")
        if noncentered not in (True, False, "auto"):
            raise ArgumentError(f"noncentered must be True, False or 'auto', got {noncentered!r}")
        self.center_predictors, self.noncentered = bool(center_predictors), noncentered
        self.extra_namespace = dict(extra_namespace) if isinstance(extra_namespace, Mapping) else extra_namespace
        self.spec: Design = build_design(
            formula,
            data,
            weights=weights,
            se=se,
            dropna=dropna,
            extra_namespace=self.extra_namespace,
            family=self.family,
            parameters=parameters,
        )
        if self.extra_namespace:
            self.extra_namespace = dict(self.spec.evaluator.extra_namespace)  # what goes by rows, in their order
        self._check_counts()
        from hiermod.priors.given import resolve_priors

        self._priors = resolve_priors(priors, self.spec, self.family)
        self._bambi: Any = None  # handed out
        self._named: Any = None  # with the names of hiermod's tables, where the one handed out has others
        self._centring = ""  # which group effects the graph has centred, and why
        dropped = [name for name, kept in zip(self.spec.common, self.spec.estimable, strict=True) if not kept]
        if dropped:
            warn(
                f"the model matrix is rank deficient: earlier columns explain {listing(dropped)}, so REML and ML leave "
                f"{'it' if len(dropped) == 1 else 'them'} out (nan in tables). The Bayesian fit keeps every column, "
                "and there only the prior tells them apart",
                RankDeficiencyWarning,
            )

    def _check_counts(self) -> None:
        if FAMILIES[self.family].out_of_trials and self.spec.trials is None:
            raise DataError(
                f"family {self.family!r} needs counts: write p(successes, trials) or cbind(successes, failures) left "
                "of '~'; for a response of 0 and 1 use family='bernoulli'"
            )
        if self.spec.trials is not None and not FAMILIES[self.family].out_of_trials:
            raise DataError(f"the response {self.spec.response!r} is counts out of trials: use family='binomial'")

    @property
    def formula(self) -> str:
        """The formula as typed."""
        return self.spec.formula

    @property
    def data(self) -> pd.DataFrame:
        """The rows and columns the model uses, as the engines read them (a copy)."""
        return self.spec.frame.copy()

    def priors(self) -> pd.DataFrame:
        """Every prior and the reason for its scale: parameter, distribution, why, key (its name in ``priors=``).

        y is the response, x the column in question, sd with n in the denominator.  attrs["notes"]: more in sentences.

        >>> import hiermod as hm
        >>> m = hm.Model("Yield ~ 1 + (1 | Batch)", hm.load_dataset("dyestuff"), priors={"1|Batch": "HalfNormal(50)"})
        >>> m.priors().set_index("parameter").loc["1|Batch_sigma", ["distribution", "why"]].tolist()
        ['HalfNormal(sigma=50)', 'given']
        """
        return priors_frame(self._prior_entries())

    def _prior_entries(self) -> tuple[Entry, ...]:
        return prior_entries(self.spec, self._priors, self.family, self.link, self.center_predictors)

    # --- frequentist --------------------------------------------------------------------------------------------
    def reml(self) -> FrequentistFit:
        """Restricted maximum likelihood, what lme4's lmer computes (a formula without a bar: least squares, R's lm).

        Warns SingularFitWarning and ConvergenceWarning; raises UnsupportedError for other families and DesignError
        where there are as many group effects as observations.

        >>> import hiermod as hm
        >>> fit = hm.Model("Yield ~ 1 + (1 | Batch)", hm.load_dataset("dyestuff")).reml()
        >>> round(fit.criterion, 3), round(fit.sigma, 2)
        (319.654, 49.51)
        """
        return self._frequentist(reml=True)

    def ml(self, nodes: int | str = 1) -> FrequentistFit:
        """Maximum likelihood: lmer(REML = FALSE); for bernoulli, binomial and poisson models glmer, or glm; glmmTMB's
        for the other families, each with the links that docs/guide/families.md lists.

        nodes: of adaptive Gauss-Hermite quadrature for generalised models with one scalar group effect; 1 is Laplace's
        approximation, "auto" takes as many (15, 31, 63 or 127) as leave the log likelihood exact to 1e-6.

        Warns and raises as ``reml``; FitError where a coefficient separates the responses perfectly.

        >>> import hiermod as hm
        >>> d = hm.load_dataset("cbpp")
        >>> m = hm.Model("p(incidence, size) ~ period + (1 | herd)", d, family="binomial")
        >>> round(m.ml().loglik, 2)
        -92.03
        """
        if self.family in GENERALISED:
            return self._by_likelihood(nodes=nodes)
        if nodes != 1:
            raise ArgumentError(
                f"nodes= is for families {', '.join(GENERALISED)}; this model has family {self.family!r}"
            )
        return self._frequentist(reml=False)

    def _by_likelihood(self, reml: bool = False, nodes: int | str = 1) -> FrequentistFit:
        from hiermod.fits.by_likelihood import by_likelihood

        return _told(by_likelihood(self.spec, self.family, self.link, reml, nodes))

    def _frequentist(self, reml: bool) -> FrequentistFit:
        name = "reml" if reml else "ml"
        if not is_linear(self.family, self.link):
            raise UnsupportedError(
                f"{name}() is for Gaussian models with identity link; this one has family {self.family!r} and link "
                f"{self.link!r}. {'ml() or fit()' if self.family in GENERALISED else 'fit()'} can fit it"
            )
        if self.spec.formulas:
            told = ", ".join(self.spec.formulas)
            raise UnsupportedError(f"{name}() has no formulas for other parameters ({told}); fit() has: Bayes by NUTS")
        if self.spec.special is not None:
            raise UnsupportedError(
                f"{self.spec.response!r} weighs or censors the log likelihood of each row, another model than "
                f"REML's: {name}() cannot fit it, fit() can. lme4's prior weights, var(e) = sigma^2 / w, are weights="
            )
        return self._by_likelihood(reml=reml)

    # --- Bayes --------------------------------------------------------------------------------------------------
    @property
    def bambi(self) -> Any:
        """The Bambi model, its PyMC graph built with correlated group effects.  Built when first asked for.

        It stays this model: its ``build()``, which Bambi wants after ``set_alias``, makes the correlated graph again,
        and its priors are changed by a new Model."""
        if self._bambi is None:
            self._bambi = self._build_bambi()
        return self._bambi

    @property
    def _graph(self) -> Any:
        """The Bambi model under the names of hiermod's tables: ``bambi``, unless it has been given aliases."""
        if not self.bambi.renamed:
            return self.bambi
        if self._named is None:
            self._named = self._build_bambi()
        return self._named

    def _build_bambi(self) -> Any:
        from hiermod.engines.nuts.centring import choose_centring
        from hiermod.engines.nuts.graph import build_bambi

        self._check_size()
        centring = choose_centring(self)
        built = build_bambi(
            self.spec,
            family=self.family,
            link=self.link,
            priors=self._priors,
            center_predictors=self.center_predictors,
            noncentered=self.noncentered,
            centred=centring.centred,
            extra_namespace=self.extra_namespace,
        )
        self._centring = centring.words
        return built

    @property
    def pymc(self) -> Any:
        """The PyMC model (``pymc.Model``)."""
        return self.bambi.backend.model

    def graph(self) -> Any:
        """A picture of the PyMC graph (``graphviz.Digraph``).  Needs the Python package graphviz and its program."""
        from hiermod.engines.nuts.graph import picture

        return picture(self.bambi)

    def _check_size(self) -> None:
        """UnsupportedError where the graph does not fit into memory; a warning where it takes much."""
        from hiermod.engines.nuts.graph import check_graph_room

        otherwise = "Bambi alone needs the same"
        if is_linear(self.family, self.link) and self.spec.special is None:
            otherwise = "The marginal engine (Normal or flat priors of common effects) and m.reml() need no graph"
        elif self.family in GENERALISED:
            otherwise = "m.ml() needs no graph"
        check_graph_room(self.spec, otherwise)
        dense = sum(8.0 * self.spec.nobs * len(block.levels) for block in self.spec.blocks)
        if dense > GRAPH_WARNING_BYTES:
            warn(
                f"Bambi makes a dense indicator of {self.spec.nobs} rows by the levels of each grouping factor, "
                f"about {dense / 1e9:.1f} GB while the graph is built, and NUTS then samples "
                f"{sum(len(b.levels) * b.size for b in self.spec.blocks)} group effects",
                HiermodWarning,
            )

    def fit(
        self,
        draws: int = 1000,
        tune: int | None = None,
        chains: int = 4,
        inference_method: str = "auto",
        random_seed: int | np.random.Generator | None = None,
        progressbar: bool = True,
        cores: int | None = None,
        target_accept: float | None = None,
        cache: str | os.PathLike[str] | None = None,
        **sampler: Any,
    ) -> BayesianFit:
        """Draw from the posterior: exactly where the model allows it, else with NUTS.

        inference_method: "marginal" integrates common and group effects out (Gaussian models with Normal or flat priors
        on common effects) and samples the variance parameters only; "whitened" is NUTS on the posterior itself, in
        coordinates that whiten the group effects (most families and priors; code is compiled once for a machine);
        "nutpie", "pymc", "numpyro" and "blackjax" are NUTS on the graph.  "auto" is the cheapest without an obstacle
        (hiermod/engines/catalogue.py), in this order; ``fit.inference`` says which ran and why.  The same
        ``random_seed`` gives the same draws whatever ``cores``.  tune (of each chain; None: 200 whitened, else 1000),
        target_accept (None: 0.8 whitened, else 0.9), cores and ``sampler`` matter to NUTS only.  The progress bar shows
        only on a terminal or in a notebook.  Warns ConvergenceWarning with what to do when divergences, R-hat or
        effective sample sizes call for it.  Raises ArgumentError and UnsupportedError (engine not installed, or not for
        this model).

        cache: a folder for fits; one is read from it where data, formula, priors, settings, seed and the versions that
        matter are those it was made with (``fit.inference.reason`` says so), else made and kept there.

        >>> import hiermod as hm
        >>> m = hm.Model("Yield ~ 1 + (1 | Batch)", hm.load_dataset("dyestuff"))
        >>> m.fit(random_seed=1).inference.method
        'marginal'
        """
        if cache is not None:
            from hiermod.output.storage.cached import cached_fit

            asked = {"draws": draws, "tune": tune, "chains": chains, "target_accept": target_accept, **sampler}
            asked["inference_method"] = inference_method
            return cached_fit(self, cache, random_seed, asked, progressbar=progressbar, cores=cores)
        from hiermod.engines.catalogue import choose
        from hiermod.engines.engine import Sampling
        from hiermod.fits.bayesian import BayesianFit
        from hiermod.priors.given import where_the_prior_decides

        specified = self._specification()
        chosen = choose(inference_method, specified)
        if FAMILIES[self.family].normal_errors:
            for words in where_the_prior_decides(self.spec):
                warn(words, HiermodWarning)
        own = {"tune": tune, "target_accept": target_accept}
        sampler |= {name: value for name, value in own.items() if value is not None}
        record = chosen.run(specified, Sampling(draws, chains, random_seed, progressbar, cores), **sampler)
        if record.inference.messages:
            warn(" ".join(record.inference.messages), ConvergenceWarning)
        return BayesianFit(self.spec, record, self.family, self.link, self._gaussian_priors(specified), self)

    def _specification(self) -> Specification:
        """This model as engines see it."""
        from hiermod.engines.engine import Graph, Specification

        def graph() -> Graph:
            return Graph(self._graph, self._centring)

        return Specification(self.spec, self.family, self.link, self._priors, self.center_predictors, graph)

    def _marginal_density(self) -> MarginalDensity:
        """The density of the variance parameters; UnsupportedError, saying why, where there is no closed form."""
        return self._specification().density

    def _gaussian_priors(self, specified: Specification | None = None) -> GaussianPriors | None:
        """The priors as numbers, frozen for scores and refits; None where effects do not integrate out."""
        try:
            return (specified or self._specification()).density.priors
        except (UnsupportedError, DesignError):
            return None

    # --- as a value ---------------------------------------------------------------------------------------------
    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_bambi": None, "_named": None}  # a PyMC graph is rebuilt, never shipped

    if not TYPE_CHECKING:  # for a checker of types every name would exist

        def __getattr__(self, name: str) -> NoReturn:
            from hiermod.fits.bayesian import BayesianFit
            from hiermod.fits.frequentist import FrequentistFit

            kinds = {"m.reml()": FrequentistFit, "m.fit()": BayesianFit}
            have = [f"{how}.{name}" for how, kind in kinds.items() if name in dir(kind) and not name.startswith("_")]
            named = None if have else next((FIT[one] for one in FIT if one == name), None)
            otherwise = f"it belongs to fits: {' or '.join(have)}" if have else named.told(False) if named else ""
            raise no_attribute(self, name, MODEL_NAMES, otherwise=otherwise)

    def __repr__(self) -> str:
        groups = "".join(f"; {name}: {count} levels" for name, count in self.spec.ngroups.items())
        return f"Model({self.formula!r}): {self.family}, {self.spec.nobs} rows{groups}"


def _told(fit: FrequentistFit) -> FrequentistFit:
    """The fit, with a warning where it did not converge or is singular."""
    from hiermod.output.frequentist_text import boundary, cure, too_many

    if not fit.converged:
        ended = fit.record.convergence  # type: ignore[union-attr]
        told = f"the optimiser did not converge ({ended.message}): do not report these estimates. {cure(ended)}"
        warn(told, ConvergenceWarning)
    for sentence in too_many(fit):
        warn(sentence, ConvergenceWarning)
    if fit.singular:
        warn(
            f"boundary (singular) fit: {'; '.join(boundary(fit))}. fit.check() says what it means and what to try",
            SingularFitWarning,
        )
    return fit
