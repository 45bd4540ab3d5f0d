"""PyMC's half-Student-t as a scipy distribution: a t folded at 0, which scipy has not."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import stats


class _FoldedT(stats.rv_continuous):
    """|t| with nu degrees of freedom; loc and scale as in scipy."""

    def _argcheck(self, nu: Any) -> Any:
        return np.asarray(nu) > 0

    def _logpdf(self, x: Any, nu: Any) -> Any:
        return np.log(2) + stats.t.logpdf(x, nu)

    def _pdf(self, x: Any, nu: Any) -> Any:
        return 2 * stats.t.pdf(x, nu)

    def _cdf(self, x: Any, nu: Any) -> Any:
        return 1 - 2 * stats.t.sf(x, nu)

    def _sf(self, x: Any, nu: Any) -> Any:
        return 2 * stats.t.sf(x, nu)

    def _ppf(self, q: Any, nu: Any) -> Any:
        return stats.t.ppf(0.5 + np.asarray(q) / 2, nu)

    def _isf(self, q: Any, nu: Any) -> Any:
        return stats.t.isf(np.asarray(q) / 2, nu)

    def _rvs(self, nu: Any, size: Any = None, random_state: Any = None) -> Any:
        return np.abs(random_state.standard_t(nu, size=size))


folded_t = _FoldedT(a=0.0, name="folded_t", shapes="nu")
