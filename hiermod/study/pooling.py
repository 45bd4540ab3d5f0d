"""Complete, no and partial pooling of one grouping factor's coefficients, side by side.

Complete pooling: one linear model, the same line for everyone.  No pooling: one linear model in which every level has
its own coefficients, with one residual sd.  Partial pooling: the hierarchical model, by REML and by Bayes.
Gelman and Hill (2007), Data Analysis Using Regression and Multilevel/Hierarchical Models, section 12.2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import stats

from hiermod.core.checked import checked
from hiermod.core.escaping import html_table, terminal
from hiermod.errors import ArgumentError, ArgumentTypeError, UnknownNameError, UnsupportedError, nearest
from hiermod.families.catalogue import is_linear
from hiermod.fits.bayesian import BayesianFit
from hiermod.fits.frequentist import FrequentistFit
from hiermod.fits.tables import EFFECT_COLUMNS, LEVEL, check_group, check_level, coef_terms, effects_frame, quantile
from hiermod.formula.design import Block, Design
from hiermod.formula.rank import TOLERANCE, estimable_columns
from hiermod.inference.groups.pooled_lines import pooled_lines
from hiermod.inference.groups.shrinkage_factors import shrinkage_factors, shrinkage_matrix

if TYPE_CHECKING:
    from hiermod.model import Model

METHODS = ("complete", "none", "REML", "Bayes")


@checked
@dataclass(frozen=True, eq=False)
class Pooling:
    """What ``Model.pooling()`` returns.  group: the factor; terms: its coefficients; reml, bayes: the partial fits."""

    design: Design
    group: str
    terms: tuple[str, ...]
    reml: FrequentistFit
    bayes: BayesianFit | None
    estimates: pd.DataFrame  # method, group, level, term, estimate, std_error, lower, upper
    rest: pd.DataFrame  # (term, method): the coefficients that all levels share

    def table(self, term: str | None = None) -> pd.DataFrame:
        """Every estimate, tidy: method ("complete", "none", "REML", "Bayes"), group, level, term, estimate, std_error,
        lower, upper.  What a level's own rows cannot estimate is nan under "none"."""
        if term is not None and term not in set(self.estimates["term"]):
            known = list(dict.fromkeys(self.estimates["term"]))
            raise UnknownNameError(f"no term {term!r} here.{nearest(term, known)} There are: {', '.join(known)}")
        chosen = self.estimates if term is None else self.estimates[self.estimates["term"] == term]
        return chosen.reset_index(drop=True).copy()

    def wide(self) -> pd.DataFrame:
        """Estimates only: one row per level and term, one column per method."""
        wide = self.estimates.pivot_table(
            index=["level", "term"], columns="method", values="estimate", sort=False, dropna=False
        )
        methods = [method for method in METHODS if method in wide.columns]
        return wide[methods].rename_axis(columns=None)

    def lines(self, variable: str | None = None) -> pd.DataFrame:
        """Each level's line under every method along a numeric predictor: method, level, <variable>, estimate.

        Other numeric predictors are at the level's mean, factors at its most frequent value; nan where the level's own
        rows do not give a line.  Raises UnknownNameError, ArgumentError."""
        return pooled_lines(self.design, check_group(self.design, self.group), self.estimates, self.rest, variable)

    def plot_lines(self, variable: str | None = None, **options: Any) -> Any:
        """A facet for each level with its data and its lines; see ``hiermod.plots.pooling_lines``."""
        from hiermod.plots import pooling_lines

        return pooling_lines(self, variable, **options)

    def plot_map(self, **options: Any) -> Any:
        """Estimates on the contours of the fitted bivariate normal; see ``hiermod.plots.shrinkage_map``."""
        from hiermod.plots import shrinkage_map

        return shrinkage_map(self, **options)

    def shrinkage(self) -> pd.DataFrame:
        """How far the REML fit pools each level: group, level, term, factor, moved.

        factor: 1 - condsd^2 / tau^2, from 0 (fully pooled) to 1 (left alone), defined also for a level of one row.
        moved: the partially pooled estimate minus the level's own, in the term's unit (nan where it has none)."""
        table = shrinkage_factors(self.reml, self.group)
        wide = self.wide()
        moved = (wide["REML"] - wide["none"]).rename("moved").reset_index()
        return table[table["term"].isin(self.terms)].merge(moved, how="left", on=["level", "term"])

    def shrinkage_matrix(self, level: str) -> pd.DataFrame:
        """(k, k): what the REML fit multiplies a level's own effects by, (Z'WZ + sigma^2 Sigma^-1)^-1 Z'WZ."""
        return shrinkage_matrix(self.reml, self.group, level)

    def t_test(self, term: str, mean: float = 0.0, level: float = LEVEL) -> pd.DataFrame:
        """Student's one-sample t test that the levels' own (no-pooling) coefficients average ``mean``.

        estimate, std_error, lower, upper, df, t, p; index term.  It weighs every level the same however many rows it
        has, and leaves out levels that cannot estimate the term.  Raises UnknownNameError, ArgumentError."""
        if term not in self.terms:
            raise UnknownNameError(
                f"no coefficient {term!r} varies by {self.group}.{nearest(term, self.terms)} "
                f"Those that do: {', '.join(self.terms)}."
            )
        own = self.wide().xs(term, level="term")["none"].dropna()
        if len(own) < 2:
            raise ArgumentError(f"a t test needs two levels that can estimate {term!r} alone; {len(own)} can")
        found = stats.ttest_1samp(own, mean)
        limits = found.confidence_interval(check_level(level))
        row = {
            "estimate": own.mean(),
            "std_error": own.sem(),
            "lower": limits.low,
            "upper": limits.high,
            "df": float(found.df),
            "t": found.statistic,
            "p": found.pvalue,
        }
        return pd.DataFrame([row], index=pd.Index([term], name="term"))

    def plot_shrinkage(self, **options: Any) -> Any:
        """Arrows from no-pooling to partial-pooling estimates; see ``hiermod.plots.shrinkage``."""
        from hiermod.plots import shrinkage

        return shrinkage(self, **options)

    def __repr__(self) -> str:
        table = self.wide().to_string(float_format="{:.4g}".format)
        return terminal(f"Pooling of {', '.join(self.terms)} by {self.group}\n\n{table}")

    def _repr_html_(self) -> str:
        return html_table(self.wide(), float_format="{:.4g}".format)


@checked
def pooling(model: Model, bayes: BayesianFit | bool = True, group: str | None = None, **fit: Any) -> Pooling:
    """Complete, no and partial pooling (by REML and by Bayes) of one grouping factor's effects.

    bayes: a fit of this model, True to make one now with ``self.fit(**fit)``, False for REML alone.  group: which
    grouping factor, the first by default."""
    design = model.spec
    if not design.blocks:
        raise UnsupportedError(f"{design.formula!r} has no group effects to pool: add a term such as (1 | g)")
    if not is_linear(model.family, model.link):
        raise UnsupportedError(f"pooling compares linear models; this model has family {model.family!r}")
    factor = design.blocks[0].factor if group is None else check_group(design, group)[0].factor
    blocks = check_group(design, factor)
    reml = model.reml()
    partial: dict[str, Any] = {"REML": reml}
    if isinstance(bayes, BayesianFit):
        if bayes.formula != model.formula or not np.array_equal(bayes.design.y, design.y):
            raise ArgumentTypeError(f"bayes= is a fit of another model ({bayes.formula!r})")
        partial["Bayes"] = bayes
    elif bayes is True:
        partial["Bayes"] = model.fit(**fit)
    elif bayes is not False:
        raise ArgumentTypeError(
            f"bayes must be a Bayesian fit of this model, True or False, got {type(bayes).__name__}"
        )
    effects = [label for block in blocks for label in block.labels]
    terms = [term for term in coef_terms(design, blocks) if term in effects]
    pieces, rest = {}, {}
    pieces["complete"], rest["complete"] = _complete(model, factor, blocks[0], terms)
    pieces["none"], rest["none"] = no_pooling(design, blocks, terms, reml.record.beta)
    for name, one in partial.items():
        table = one.coef(factor)
        pieces[name] = table[table["term"].isin(terms)]
        rest[name] = one.fixef()["estimate"]
    others = [label for label in design.common if label not in terms]
    shared = pd.DataFrame({name: series.reindex(others) for name, series in rest.items()}, index=others)
    tables = [table.assign(method=name)[["method", *EFFECT_COLUMNS]] for name, table in pieces.items()]
    estimates = pd.concat(tables, ignore_index=True)
    return Pooling(design, factor, tuple(terms), reml, partial.get("Bayes"), estimates, shared.fillna(0.0))


def _complete(model: Model, factor: str, block: Block, terms: list[str]) -> tuple[pd.DataFrame, pd.Series]:
    """The linear model of the common part, repeated for every level; a term it lacks is 0 for everyone."""
    from dataclasses import replace

    from hiermod.engines.likelihood.least_squares import fit_linear

    fixed = FrequentistFit(replace(model.spec, blocks=()), fit_linear(replace(model.spec, blocks=()))).fixef()
    zero = pd.Series({"estimate": 0.0, "std_error": 0.0, "lower": 0.0, "upper": 0.0})
    rows = [fixed.loc[term] if term in fixed.index else zero for term in terms]
    J = len(block.levels)
    values = {name: np.tile([float(row[name]) for row in rows], (J, 1)) for name in zero.index}
    return effects_frame(factor, block.levels, terms, **values), fixed["estimate"]


def no_pooling(
    design: Design, blocks: tuple[Block, ...], terms: list[str], beta: np.ndarray
) -> tuple[pd.DataFrame, pd.Series]:
    """One linear model with every level's own ``terms``, the rest of X common, and one residual sd; and that rest.

    Each level is regressed on its own columns first, the common rest on what that leaves (Frisch and Waugh), so that no
    matrix with levels x terms columns is formed.  A level's columns that its rows cannot tell apart give nan.
    A common column that is constant within levels cannot be told from their own coefficients: its coefficient is taken
    from ``beta`` (p,), the partially pooled fit, so that "Intercept" means the same under every method."""
    y = design.y - (0.0 if design.offset is None else design.offset)
    whiten = design.precision.whiten
    own = whiten(np.column_stack([_column(design, blocks, term) for term in terms]))
    others = np.array([label not in terms for label in design.common], dtype=bool)
    rest = whiten(design.X[:, others])
    target = np.column_stack([whiten(y), rest])
    codes, J, k = blocks[0].codes, len(blocks[0].levels), len(terms)
    order = np.argsort(codes, kind="stable")
    edges = np.searchsorted(codes[order], np.arange(J + 1))
    solved = np.full((J, k, target.shape[1]), np.nan)
    unscaled = np.zeros((J, k, k))
    kept = np.zeros((J, k), dtype=bool)
    residual = np.empty_like(target)
    for j in range(J):
        rows = order[edges[j] : edges[j + 1]]
        keep = estimable_columns(own[rows], np.zeros(k))
        Q, R = np.linalg.qr(own[rows][:, keep])
        inside = Q.T @ target[rows]
        residual[rows] = target[rows] - Q @ inside
        kept[j] = keep
        inverse = np.linalg.inv(R) if keep.any() else np.empty((0, 0))
        solved[j, keep] = inverse @ inside
        unscaled[j][np.ix_(keep, keep)] = inverse @ inverse.T
    gamma, rest_cov, rank = _common_rest(residual, np.linalg.norm(rest, axis=0), np.nan_to_num(beta[others]))
    estimate = solved[..., 0] - np.nan_to_num(solved[..., 1:]) @ gamma
    spare = residual[:, 0] - residual[:, 1:] @ gamma
    df = design.nobs - int(kept.sum()) - rank
    sigma = 1.0 if design.precision.sigma_known else (np.sqrt(spare @ spare / df) if df > 0 else np.nan)
    through = np.nan_to_num(solved[..., 1:])
    variance = np.einsum("jkk->jk", unscaled) + np.einsum("jka,ab,jkb->jk", through, rest_cov, through)
    se = np.where(kept, sigma * np.sqrt(variance), np.nan)
    half = quantile(LEVEL, np.inf if design.precision.sigma_known else max(df, 1)) * se
    table = effects_frame(blocks[0].factor, blocks[0].levels, terms, estimate, se, estimate - half, estimate + half)
    return table, pd.Series(gamma, index=np.asarray(design.common, dtype=object)[others])


def _common_rest(residual: np.ndarray, norms: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Coefficients of the common columns after the levels' own, their unscaled covariance, and how many there are.

    A column that the levels' own columns explain (its residual is below 1e-7 of its norm) keeps its ``known`` one."""
    y, X = residual[:, 0], residual[:, 1:]
    keep = np.linalg.norm(X, axis=0) > TOLERANCE * norms
    keep[keep] = estimable_columns(X[:, keep], np.zeros(int(keep.sum())))
    gamma, cov = np.where(keep, 0.0, known), np.zeros((len(norms), len(norms)))
    y = y - X @ gamma
    if keep.any():
        Q, R = np.linalg.qr(X[:, keep])
        inverse = np.linalg.inv(R)
        gamma[keep] = inverse @ (Q.T @ y)
        cov[np.ix_(keep, keep)] = inverse @ inverse.T
    return gamma, cov, int(keep.sum())


def _column(design: Design, blocks: tuple[Block, ...], term: str) -> np.ndarray:
    for block in blocks:
        if term in block.labels:
            return block.values[:, block.labels.index(term)]
    return design.X[:, design.common.index(term)]
