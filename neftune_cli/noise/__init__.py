"""The method: NEFTune noise on input embeddings, scaled by the true length of each example."""

from neftune_cli.noise.attachment import AttachedNoise, attach_noise
from neftune_cli.noise.embedding import NEFTuneEmbedding
from neftune_cli.noise.lengths import token_noise_scale

__all__ = ["AttachedNoise", "NEFTuneEmbedding", "attach_noise", "token_noise_scale"]
