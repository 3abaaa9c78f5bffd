"""Specs of sweeps and trials, their resolution from files and options, and the identity of a trial."""
