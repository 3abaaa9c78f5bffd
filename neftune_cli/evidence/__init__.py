"""Measurements of trials, from sweeps and from runs of other tools, ready for comparison."""
