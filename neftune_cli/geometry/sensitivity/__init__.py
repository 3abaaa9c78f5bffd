"""The effect of noise on embeddings and predictions without training: `neftune sensitivity`."""
