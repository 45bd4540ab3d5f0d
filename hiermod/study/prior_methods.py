"""The prior side of a Model: the priors in a table and a picture, and what they expect before any data are seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hiermod.core.checked import checked

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.figure import Figure

    from hiermod.formula.design import Design
    from hiermod.inference.priors_and_reml.prior import PriorPredictive
    from hiermod.priors.given import PriorSet
    from hiermod.priors.table import Entry


@checked
class PriorMethods:
    """What ``Model`` can say about its priors."""

    spec: Design
    family: Any
    link: Any
    center_predictors: bool
    _priors: PriorSet
    _graph: Any

    def _prior_entries(self) -> tuple[Entry, ...]:
        from hiermod.priors.table import prior_entries

        return prior_entries(
            self.spec, self._priors, self.family, self.link, self.center_predictors, lambda: self._graph
        )

    def priors(self) -> pd.DataFrame:
        """Every prior and the reason for its scale: parameter, distribution, why, key (its name in ``priors=``).

        y is the response, x the column in question, sd with n in the denominator.  attrs["notes"]: more in sentences.

        >>> import hiermod as hm
        >>> m = hm.Model("Yield ~ 1 + (1 | Batch)", hm.load_dataset("dyestuff"), priors={"1|Batch": "HalfNormal(50)"})
        >>> m.priors().set_index("parameter").loc["1|Batch_sigma", ["distribution", "why"]].tolist()
        ['HalfNormal(sigma=50)', 'given']
        """
        from hiermod.priors.table import priors_frame

        return priors_frame(self._prior_entries())

    def plot_priors(self) -> Figure:
        """The density of every prior, one panel per parameter."""
        from hiermod.plots.draw_prior import prior_densities

        return prior_densities(self._prior_entries(), self.spec)

    def prior_predictive(
        self, draws: int = 1000, random_seed: int | np.random.Generator | None = None
    ) -> PriorPredictive:
        """Draws from the prior: parameters, group effects and whole data sets; ``.against(m.reml())`` judges them.

        Gaussian models need neither PyMC nor Bambi, others their graph.  Raises UnsupportedError for a flat prior.

        >>> import hiermod as hm
        >>> m = hm.Model("Reaction ~ Days + (Days | Subject)", hm.load_dataset("sleepstudy"))
        >>> prior = m.prior_predictive(random_seed=1)
        >>> prior.simulate(3, random_seed=2).shape
        (180, 3)
        """
        from hiermod.engines.prior_draws import draw_prior
        from hiermod.inference.priors_and_reml.prior import PriorPredictive

        found = draw_prior(
            self.spec,
            self._prior_entries(),
            self.family,
            self.link,
            self.center_predictors,
            lambda: self._graph,
            draws=draws,
            random_seed=random_seed,
        )
        centred = bool(self.center_predictors and self.spec.has_intercept)
        return PriorPredictive(self.spec, found, self.family, self.link, centred)
