"""What a Bayesian fit can say about its own priors once the data are in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hiermod.core.checked import checked

if TYPE_CHECKING:
    import pandas as pd


@checked
class SensitivityMethods:
    """Mixed into BayesianFit."""

    def prior_sensitivity(
        self,
        parameters: Sequence[str] | str | None = None,
        integrated: bool | str = "auto",
        threshold: float = 0.05,
    ) -> pd.DataFrame:
        """How much each estimate depends on the strength of priors and data, by power-scaling; no refit.

        parameters: scale only these priors, by the names of ``m.priors()`` ("Days", "1|Subject_sigma", "Subject_corr");
        by default all of them at once.  The distribution of group effects given their sds belongs to the model and is
        never scaled.  integrated: "auto" takes the likelihood with group effects integrated out where that has a closed
        form (Gaussian models) or by quadrature (bernoulli, binomial, poisson with one factor), since given the effects
        the data say little about what these are drawn from; True insists, False never does.  threshold: sensitivity
        from which it counts.

        Index parameter; prior and likelihood: the distance (cumulative Jensen-Shannon) the posterior moves for a
        doubling of the power, 0.05 being about 0.3 sd; prior_shift: how far the mean goes, in sds, between a prior to
        the power of 0.8 and of 1.25; conflict_p and conflict_p_data: the tail test of the parameter's own prior at
        REML's or ML's estimate, as in ``prior.against``; moved_by: the priors that move it, the strongest first;
        verdict: "data decide", "prior has a say", "prior decides" (it moves the posterior at least as far as the data),
        "prior-data conflict" (by the tail test, Holm's correction for the number of priors, and the prior matters:
        of data from the priors at most 5 in 100 sets are called so); words.  attrs: sentences; by_prior, the
        sensitivity of each such parameter to every prior alone; scaled, the priors; pareto_k of the weights, not to be
        trusted above 0.7; integrated ("exact", "quadrature" or ""); threshold.  Kallioinen et al. (2024), Evans and
        Moshonov (2006).  Raises UnknownNameError, UnsupportedError (all priors flat or unknown);
        ``hm.plots.power_scaling`` draws it.

        >>> import hiermod as hm
        >>> m = hm.Model("Reaction ~ Days + (Days | Subject)", hm.load_dataset("sleepstudy"))
        >>> m.fit(random_seed=1).prior_sensitivity()["verdict"].unique().tolist()
        ['data decide']
        """
        from hiermod.core.annotated import noted
        from hiermod.inference.priors_and_reml.sensitivity import sensitivity_table

        return noted(sensitivity_table(self, parameters, integrated, threshold))  # type: ignore[arg-type]
