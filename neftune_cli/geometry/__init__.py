"""Measurements and plots of embeddings under noise, for `neftune sensitivity` and `neftune visualize`."""
