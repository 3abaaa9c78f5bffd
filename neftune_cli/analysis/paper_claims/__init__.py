"""What trials say of the claims of the NEFTune paper (arXiv 2310.05914), a result for each claim."""

from neftune_cli.analysis.paper_claims.paper import EACH_AT_ITS_OWN_LEVEL, examine_claims

__all__ = ["EACH_AT_ITS_OWN_LEVEL", "examine_claims"]
