"""Paired inference over seeds and items, computed from arrays and from measured trials.

Only `comparison.compare_sweep` reads a sweep, and `sequential.null_minima` keeps its simulation in the user's cache.
"""

from neftune_cli.analysis.paired import PairedComparison, paired_comparison

__all__ = ["PairedComparison", "paired_comparison"]
