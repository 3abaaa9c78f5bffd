"""What trials say of the claims of the NEFTune paper (arXiv 2310.05914), a result for each claim."""

from neftune_cli.analysis.paper_claims.claims import UNADJUSTED_CLAIMS_NOTE, examine_claims

__all__ = ["UNADJUSTED_CLAIMS_NOTE", "examine_claims"]
