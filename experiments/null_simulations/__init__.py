"""Error rates and power of the paired comparison on simulated sweeps; docs/statistics.md has the results."""
