"""Noise-off measurements of a model: losses, responses and their scores, and tasks of lm-evaluation-harness."""
