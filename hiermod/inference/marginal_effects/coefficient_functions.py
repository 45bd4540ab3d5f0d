"""Functions of the common coefficients with their uncertainty: means, contrasts and slopes are all of this kind.

By REML or ML: the linear ones with the chosen degrees of freedom, the others by the delta method (Casella and Berger
2002, section 5.5.4).  By Bayes: the function of every draw, so nothing is approximated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
from scipy import special, stats

from hiermod.engines.likelihood.generalised_record import GeneralisedMixedFit
from hiermod.engines.likelihood.glm import GeneralisedLinearFit
from hiermod.engines.likelihood.mixed import MixedFit
from hiermod.engines.posterior import Posterior, pooled
from hiermod.families.links import inverse_link
from hiermod.fits.ddf import is_bayesian
from hiermod.fits.estimable import estimable_rows
from hiermod.formula.design import Design, FrozenArrays
from hiermod.inference.coefficient_tests.tables import linear_tests
from hiermod.inference.marginal_effects.multiplicity import adjusted_p, critical_values

if TYPE_CHECKING:
    from hiermod.fits.frequentist import FrequentistFit
    from hiermod.fits.vocabulary import Fit

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(41)
WEIGHTS = WEIGHTS / WEIGHTS.sum()
AT_A_TIME = 4_000_000  # draws x rows held at once: 32 MB
SLOPES: dict[
    str, Callable[[np.ndarray], np.ndarray]
] = {  # derivative of the inverse link, for the links that maximum likelihood has
    "log": np.exp,
    "logit": lambda eta: special.expit(eta) * special.expit(-eta),
    "probit": lambda eta: np.exp(-0.5 * eta * eta) / np.sqrt(2 * np.pi),
    "cloglog": lambda eta: np.exp(eta - np.exp(eta)),
}


@dataclass(frozen=True, eq=False)
class Functions(FrozenArrays):
    """k functions of beta: C h(L beta + offset), h the identity or (``response``) the expected response.

    L (r, p), offset (r,); C (k, r), None for the identity.  ratio: exp of the result.  effects: per block (r, k_b), the
    columns left of the bar for a new group: h is then averaged over groups.  What depends on a row of nan is nan."""

    L: np.ndarray
    offset: np.ndarray
    C: np.ndarray | None = None
    response: bool = False
    ratio: bool = False
    effects: tuple[np.ndarray, ...] | None = None

    def __len__(self) -> int:
        return len(self.L) if self.C is None else len(self.C)

    def plain(self) -> Functions:
        """The same where h is the identity: one linear map."""
        if self.C is None:
            return Functions(self.L, self.offset, ratio=self.ratio)
        offset = combined(self.C, self.offset[:, None])[:, 0]
        return Functions(combined(self.C, self.L), offset, ratio=self.ratio)

    @property
    def lost(self) -> np.ndarray:
        """(k,) True where a function depends on a row of nan."""
        C = np.eye(len(self.L)) if self.C is None else self.C
        return np.asarray(np.isnan(combined(C, np.column_stack([self.L, self.offset]))).any(axis=1))


@dataclass(frozen=True, eq=False)
class Family:
    """Rows that are adjusted together: the method, the number of means they compare."""

    rows: np.ndarray
    adjust: str = "none"
    means: int = 0


def combined(C: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """C @ rows, where a row of nan spoils only what gives it weight."""
    broken, weights = np.isnan(rows).any(axis=1), np.nan_to_num(C)
    out = weights @ np.nan_to_num(rows)
    out[np.isnan(C).any(axis=1) | (weights[:, broken] != 0).any(axis=1)] = np.nan
    return np.asarray(out)


def function_table(
    fit: Fit,
    functions: Functions,
    index: pd.Index,
    level: float,
    ddf: str | None,
    families: Sequence[Family] = (),
) -> pd.DataFrame:
    """estimate, std_error, lower, upper of each function, then df, t, p (Gaussian REML and ML), z, p (generalised), or
    prob_direction (Bayes: the posterior probability of the sign that the value has on the link scale)."""
    if fit.link == "identity":
        functions = functions.plain()
    if is_bayesian(fit):
        table = _draws_table(fit, functions, level)
    else:
        table = _estimates_table(cast("FrequentistFit", fit), functions, level, ddf, families)
    return table.set_axis(index)


# --- draws ------------------------------------------------------------------------------------------------------------
def _draws_table(fit: Any, functions: Functions, level: float) -> pd.DataFrame:
    draws = _draws(fit, functions)
    centre = np.log(draws) if functions.ratio else draws
    if functions.response and functions.C is None:  # a mean's sign on the link scale, as the z of its ML counterpart
        centre = _draws(fit, Functions(functions.L, functions.offset))
    above = (centre > 0).mean(axis=0)
    lower, upper = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
    direction = np.where(np.isnan(lower), np.nan, np.maximum(above, (centre < 0).mean(axis=0)))
    columns = {"estimate": draws.mean(axis=0), "std_error": draws.std(axis=0, ddof=1), "lower": lower, "upper": upper}
    return pd.DataFrame(columns | {"prob_direction": direction})


def _draws(fit: Any, functions: Functions) -> np.ndarray:
    """(s, k) the functions at every draw."""
    record: Posterior = fit.record
    beta = pooled(record.beta)
    used = np.nan_to_num(functions.L).any(axis=0)  # a coefficient that no row uses may be nan (ordinal intercepts)
    L, offset = np.nan_to_num(functions.L[:, used]), np.nan_to_num(functions.offset)
    C = None if functions.C is None else np.nan_to_num(functions.C)
    step = max(1, AT_A_TIME // max(1, len(L)))
    pieces = []
    for start in range(0, len(beta), step):
        part = slice(start, start + step)
        eta = beta[part][:, used] @ L.T + offset
        if functions.response:
            spread = np.zeros_like(eta)
            for i, values in enumerate(functions.effects or ()):
                sd = record.sd[i].reshape(-1, values.shape[1])[part]
                corr = record.corr[i]
                scaled = sd[:, None, :] * values
                if corr is None:
                    spread += np.square(scaled).sum(axis=2)
                else:
                    R = corr.reshape(-1, *corr.shape[2:])[part]
                    spread += np.einsum("sri,sij,srj->sr", scaled, R, scaled)
            eta = averaged(fit.link, eta, np.sqrt(spread.clip(min=0.0)))
        out = eta if C is None else eta @ C.T
        pieces.append(np.exp(out) if functions.ratio else out)
    draws = np.concatenate(pieces)
    draws[:, functions.lost] = np.nan
    return draws


def averaged(link: str, eta: np.ndarray, sd: np.ndarray) -> np.ndarray:
    """Expected response where the linear predictor is normal around ``eta``: exact for log, else by quadrature."""
    if not sd.any():
        return inverse_link(link, eta)
    if link == "log":
        return inverse_link(link, eta + 0.5 * sd**2)
    total = np.zeros_like(eta)
    for node, weight in zip(NODES, WEIGHTS, strict=True):
        total += weight * inverse_link(link, eta + node * sd)
    return total


# --- estimates --------------------------------------------------------------------------------------------------------
def _estimates_table(
    fit: FrequentistFit, functions: Functions, level: float, ddf: str | None, families: Sequence[Family]
) -> pd.DataFrame:
    generalised = isinstance(fit.record, GeneralisedMixedFit | GeneralisedLinearFit)
    delta = functions.response and (functions.C is not None or functions.effects is not None)
    if delta:
        estimate, se = _delta(fit, functions)
        df = np.full(len(estimate), np.inf)
    else:
        estimate, se, df = _linear(fit, functions.L, ddf)
        estimate = estimate + functions.offset
    no_df = np.isnan(df) & ~np.isnan(se)  # ddf=None: normal intervals, no p
    with np.errstate(invalid="ignore", divide="ignore"):
        t = estimate / se
    p = 2 * np.where(np.isinf(df), stats.norm.sf(np.abs(t)), stats.t.sf(np.abs(t), df))
    shape = np.where(no_df, np.inf, df)
    wide = critical_values(level, shape, "none", 0, 1)
    for family in families:
        rows, tests = family.rows, len(family.rows)
        p[rows] = adjusted_p(p[rows], t[rows], df[rows], family.adjust, family.means)
        wide[rows] = critical_values(level, shape[rows], family.adjust, family.means, tests)
    lower, upper = estimate - wide * se, estimate + wide * se
    if functions.ratio:
        estimate, lower, upper = np.exp(estimate), np.exp(lower), np.exp(upper)
        se = se * estimate
    elif functions.response and not delta:
        link = fit.link
        se = se * SLOPES[link](estimate)
        estimate, lower, upper = (inverse_link(link, x) for x in (estimate, lower, upper))
    table = {"estimate": estimate, "std_error": se, "lower": lower, "upper": upper}
    return pd.DataFrame(table | ({"z": t, "p": p} if generalised else {"df": df, "t": t, "p": p}))


def _linear(fit: FrequentistFit, L: np.ndarray, ddf: str | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """L beta, its standard error and degrees of freedom; nan for a row that is nan or cannot be estimated."""
    known = np.isfinite(L).all(axis=1)
    rows = np.where(known[:, None], L, 0.0)
    if isinstance(fit.record, GeneralisedMixedFit | GeneralisedLinearFit):
        beta, vcov = np.nan_to_num(np.array(fit.record.beta)), np.nan_to_num(np.array(fit.record.vcov_beta))
        known &= estimable_rows(fit.design, rows)
        estimate = rows @ beta
        se, df = np.sqrt(np.einsum("ma,ab,mb->m", rows, vcov, rows).clip(min=0.0)), np.full(len(rows), np.inf)
    else:
        table = linear_tests(fit, rows, ddf=ddf)
        estimate, se, df = (table[name].to_numpy() for name in ("estimate", "std_error", "df"))
    return np.where(known, estimate, np.nan), np.where(known, se, np.nan), np.where(known, df, np.nan)


def _delta(fit: FrequentistFit, functions: Functions) -> tuple[np.ndarray, np.ndarray]:
    """Estimate and standard error of C h(L beta + offset), (k,) each, given the variances of the group effects."""
    design, link = fit.design, fit.link
    C = np.eye(len(functions.L)) if functions.C is None else np.nan_to_num(functions.C)
    rows = np.nan_to_num(functions.L)
    unknown = ~estimable_rows(design, rows)
    eta = rows @ np.nan_to_num(np.array(fit.record.beta)) + np.nan_to_num(functions.offset)
    sd = np.zeros(len(eta))
    if functions.effects is not None:
        sd = np.sqrt(
            sum(_variances(values, cov) for values, cov in zip(functions.effects, _covariances(fit), strict=True))
        )
    slope = np.zeros(len(eta))
    for node, weight in zip(NODES, WEIGHTS, strict=True) if sd.any() else ((0.0, 1.0),):
        slope += weight * SLOPES[link](eta + node * sd)
    J = C @ (slope[:, None] * rows)
    lost = functions.lost | (C[:, unknown] != 0).any(axis=1)
    variance = np.einsum("ka,ab,kb->k", J, np.nan_to_num(np.array(fit.record.vcov_beta)), J)
    estimate = C @ averaged(link, eta, sd)
    return np.where(lost, np.nan, estimate), np.where(lost, np.nan, np.sqrt(variance))


def _variances(values: np.ndarray, cov: np.ndarray) -> np.ndarray:
    return np.einsum("ri,ij,rj->r", values, cov, values).clip(min=0.0)


def _covariances(fit: FrequentistFit) -> tuple[np.ndarray, ...]:
    if isinstance(fit.record, MixedFit | GeneralisedMixedFit):
        return tuple(float(fit.record.sigma) ** 2 * Lam @ Lam.T for Lam in fit.record.Lambda)
    return ()


def lost_notes(fit: Fit, design: Design, L: np.ndarray, labels: Sequence[str]) -> tuple[str, ...]:
    """A sentence about rows of L that the data cannot tell, or that average over nothing."""
    known = np.isfinite(L).all(axis=1)
    told = estimable_rows(design, np.where(known[:, None], L, 0.0))
    notes = []
    if is_bayesian(fit):
        without = np.isnan(fit.record.beta).all(axis=(0, 1))
        if np.nan_to_num(L)[:, without].any():
            notes.append("thresholds take the intercept's place in this family: means are nan, contrasts are not")
    if not known.all():
        empty = [label for label, ok in zip(labels, known, strict=True) if not ok]
        notes.append(
            f"no row of the data to weigh by for {', '.join(empty[:5])}: nan (weights='equal' has no such need)"
        )
    if not told.all():
        unknown = [label for label, ok in zip(labels, told, strict=True) if not ok]
        what = "only the prior tells them" if is_bayesian(fit) else "nan"
        notes.append(f"the data cannot tell {', '.join(unknown[:5])}, since the model matrix is rank deficient: {what}")
    return tuple(notes)
