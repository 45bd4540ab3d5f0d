"""Pictures of fits: every function takes results, draws with matplotlib and returns Axes; none computes statistics."""

from hiermod.plots.draw_design import design_matrices
from hiermod.plots.draw_map import shrinkage_map
from hiermod.plots.draw_pooling_lines import pooling_lines
from hiermod.plots.draw_profile import profile
from hiermod.plots.draw_shrinkage import shrinkage

__all__ = ["design_matrices", "pooling_lines", "profile", "shrinkage", "shrinkage_map"]
