"""Sweeps: the plan of a spec, the executors that run its trials, and the progress display."""
