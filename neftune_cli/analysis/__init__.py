"""Paired inference over seeds and items: pure functions of arrays and of measured trials."""

from neftune_cli.analysis.paired import PairedComparison, paired_comparison

__all__ = ["PairedComparison", "paired_comparison"]
