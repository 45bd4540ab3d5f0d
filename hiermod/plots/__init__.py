"""Pictures of fits: every function takes results, draws with matplotlib and returns Axes; none computes statistics."""

from hiermod.core.checked import checked
from hiermod.plots.draw_agreement import agreement
from hiermod.plots.draw_assumptions import assumptions
from hiermod.plots.draw_calibration import calibration, loo_pit_ecdf, rootogram
from hiermod.plots.draw_caterpillar import caterpillar, caterpillars
from hiermod.plots.draw_chains import energy, ranks, trace
from hiermod.plots.draw_compare import compare_scores, score_differences
from hiermod.plots.draw_correlation import effect_correlation
from hiermod.plots.draw_design import design_matrices
from hiermod.plots.draw_effects import effects
from hiermod.plots.draw_forest import forest
from hiermod.plots.draw_influence import influence
from hiermod.plots.draw_lines import simpson, spaghetti
from hiermod.plots.draw_map import shrinkage_map
from hiermod.plots.draw_pooling_lines import pooling_lines
from hiermod.plots.draw_power import power_curve
from hiermod.plots.draw_predictive import (
    predictive_density,
    predictive_groups,
    predictive_intervals,
    predictive_statistics,
)
from hiermod.plots.draw_prior import prior_against_reml, prior_densities, prior_predictive
from hiermod.plots.draw_profile import profile
from hiermod.plots.draw_qq import qq
from hiermod.plots.draw_recovery import rank_histogram, recovery_bias, recovery_coverage
from hiermod.plots.draw_residuals import residuals_by_group, residuals_fitted, scale_location, simulated_residuals
from hiermod.plots.draw_sensitivity import power_scaling
from hiermod.plots.draw_shrinkage import shrinkage
from hiermod.plots.draw_spread import pooling_animation, pooling_path, pooling_steps
from hiermod.plots.draw_variance import variance_partition
from hiermod.plots.style import theme

__all__ = [
    "agreement",
    "assumptions",
    "calibration",
    "caterpillar",
    "caterpillars",
    "compare_scores",
    "design_matrices",
    "effect_correlation",
    "effects",
    "energy",
    "forest",
    "influence",
    "loo_pit_ecdf",
    "pooling_animation",
    "pooling_lines",
    "pooling_path",
    "pooling_steps",
    "power_curve",
    "power_scaling",
    "predictive_density",
    "predictive_groups",
    "predictive_intervals",
    "predictive_statistics",
    "prior_against_reml",
    "prior_densities",
    "prior_predictive",
    "profile",
    "qq",
    "rank_histogram",
    "ranks",
    "recovery_bias",
    "recovery_coverage",
    "residuals_by_group",
    "residuals_fitted",
    "rootogram",
    "scale_location",
    "score_differences",
    "shrinkage",
    "shrinkage_map",
    "simpson",
    "simulated_residuals",
    "spaghetti",
    "theme",
    "trace",
    "variance_partition",
]

globals().update({name: checked(globals()[name]) for name in __all__})  # arguments are checked where people call
