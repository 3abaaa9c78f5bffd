"""Whether the paired inference keeps its promises, on simulated sweeps; docs/statistics.md shows what came out."""
