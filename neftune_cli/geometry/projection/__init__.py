"""Projections of token embeddings before and after the noise: `neftune visualize`."""
