"""The residuals' precision: e ~ N(0, sigma^2 W^-1) with W known up to sigma (Bates et al. 2015, section 2).

The one place that knows what ``weights=`` and ``se=`` mean.  Whatever is fitted by least squares reads rows through
``whiten``: W = R'R, and R y = R X beta + R Z b + R e has independent residuals of one sd.  A structure with parameters
of its own (AR(1) along the rows of a group) is a further class with these methods; what is asked row by row
(``of_each_row``, ``half_logdet``) then has no answer, since its rows are not independent."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from hiermod.errors import ArgumentError, DataError

Kind = Literal["iid", "weights", "se"]


@dataclass(frozen=True, eq=False)
class ResidualPrecision:
    """Of n independent rows: var(e_i) = sigma^2 (iid), sigma^2 / w_i (prior weights) or se_i^2 (known; sigma is 1)."""

    n: int
    weights: np.ndarray | None = None  # (n,) prior weights, as lme4's
    se: np.ndarray | None = None  # (n,) known residual sds

    def __post_init__(self) -> None:
        if self.weights is not None and self.se is not None:
            raise ArgumentError(
                "give weights or se, not both: se fixes the residual sd of each row, weights scale an unknown one"
            )
        given = self.weights if self.se is None else self.se
        if given is None:
            return
        array = np.asarray(given, dtype=float)
        if array.shape != (self.n,):
            raise DataError(f"{self.kind} has shape {array.shape} for {self.n} rows: give one number for each row")
        if not (array > 0).all() or not np.isfinite(array).all():
            raise DataError(
                f"{self.kind} must be positive and finite: a row of weight 0 carries no information and makes the "
                "likelihood infinite. Leave such rows out."
            )
        if array.flags.writeable:
            array = array.copy()
            array.setflags(write=False)
        object.__setattr__(self, self.kind, array)

    # --- what it is -----------------------------------------------------------------------------------------------
    @property
    def kind(self) -> Kind:
        """What was given for each row; also the keyword it was given by."""
        return "se" if self.se is not None else "weights" if self.weights is not None else "iid"

    @property
    def sigma_known(self) -> bool:
        """Whether sigma is no parameter: then it counts as 1."""
        return self.se is not None

    @property
    def is_iid(self) -> bool:
        """Whether every row has the residual sd sigma."""
        return self.kind == "iid"

    # --- the matrix -----------------------------------------------------------------------------------------------
    @cached_property
    def diagonal(self) -> np.ndarray | None:
        """(n,) w of each row, the diagonal of W; None for the identity."""
        return self.weights if self.se is None else 1.0 / np.square(self.se)

    @cached_property
    def root(self) -> np.ndarray | None:
        """(n,) sqrt(w), the diagonal of R with W = R'R; None for the identity."""
        return None if self.diagonal is None else np.sqrt(self.diagonal)

    @cached_property
    def logdet(self) -> float:
        """log|W|: the log density of y has half of it."""
        return 0.0 if self.diagonal is None else float(np.log(self.diagonal).sum())

    def whiten(self, rows: np.ndarray) -> np.ndarray:
        """R rows, for (n,) or (n, k): their residuals are independent with sd sigma."""
        if self.root is None:
            return rows
        return rows * (self.root if rows.ndim == 1 else self.root[:, None])

    def whiten_responses(self, Y: np.ndarray) -> np.ndarray:
        """(S, n) with one response in each row of Y: R applied to each."""
        return Y if self.root is None else Y * self.root

    def unwhiten(self, rows: np.ndarray) -> np.ndarray:
        """R^-1 rows, for (n,) or (n, k)."""
        if self.root is None:
            return rows
        return rows / (self.root if rows.ndim == 1 else self.root[:, None])

    # --- the residuals, given sigma -------------------------------------------------------------------------------
    def sd(self, sigma: Any) -> np.ndarray:
        """Residual sd of each row: (n,) for a number, broadcastable to (..., n) for an array of any shape (...).

        Known sds do not ask what sigma is (None will do)."""
        if self.se is not None:
            return self.se
        by_row = np.asarray(sigma, dtype=float)[..., None]
        if self.weights is not None:
            return by_row / np.sqrt(self.weights)
        return np.full(self.n, by_row[0]) if by_row.ndim == 1 else by_row

    def variance(self, sigma2: Any) -> np.ndarray:
        """Residual variance of each row at residual variance sigma2: as ``sd``."""
        if self.se is not None:
            return np.square(self.se)
        by_row = np.asarray(sigma2, dtype=float)[..., None]
        if self.weights is not None:
            return by_row / self.weights
        return np.full(self.n, by_row[0]) if by_row.ndim == 1 else by_row

    # --- rows -----------------------------------------------------------------------------------------------------
    @cached_property
    def of_each_row(self) -> np.ndarray:
        """(n,) w of each row, ones where nothing was given."""
        return np.ones(self.n) if self.diagonal is None else self.diagonal

    @cached_property
    def half_logdet(self) -> np.ndarray:
        """(n,) each row's share of log|W| / 2."""
        return np.zeros(self.n) if self.root is None else np.log(self.root)

    def take(self, index: np.ndarray) -> ResidualPrecision:
        """Of some rows, by number; one may come twice."""
        index = np.asarray(index)
        some = {"weights": self.weights, "se": self.se}
        kept = {name: None if array is None else array[index] for name, array in some.items()}
        return ResidualPrecision(len(np.arange(self.n)[index]), **kept)

    def of_new_rows(self, m: int, values: np.ndarray | None = None) -> ResidualPrecision:
        """Of m rows outside the data, given their weights or se as (m,) ``values``.

        Without values a new row has weight 1; ArgumentError for known sds, which have no such default."""
        if self.kind == "iid":
            return ResidualPrecision(m)
        if values is None and self.sigma_known:
            raise ArgumentError(
                "a new row's residual sd is not known: the model's se= gives it for the fit's rows only"
            )
        return ResidualPrecision(m, **{self.kind: values})
