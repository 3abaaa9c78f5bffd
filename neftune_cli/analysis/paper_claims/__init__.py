"""Claims of the NEFTune paper (arXiv 2310.05914), each with the result of these trials."""

from neftune_cli.analysis.paper_claims.claims import UNADJUSTED_CLAIMS_NOTE, examine_claims

__all__ = ["UNADJUSTED_CLAIMS_NOTE", "examine_claims"]
