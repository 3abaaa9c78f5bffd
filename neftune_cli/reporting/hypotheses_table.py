"""The paper's claims beside what was found here, a paragraph a claim: columns would be too narrow to read."""

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from neftune_cli.analysis.claims import EACH_AT_ITS_OWN_LEVEL
from neftune_cli.analysis.results import HypothesisResult, Status

HYPOTHESES_TITLE = "Claims of the NEFTune paper (arXiv 2310.05914)"

STATUS_STYLES: dict[Status, str] = {
    "supported": "bold green",
    "refuted": "bold red",
    "inconclusive": "bold yellow",
    "not measured": "bold dim",
}
NO_CLAIMS = "These trials allow no look at any of them."


def print_hypotheses(console: Console, results: Sequence[HypothesisResult]) -> None:
    """Print each claim with its status first, then what the paper reports, what was found here, and the caveat."""
    console.print()
    console.print(Text(HYPOTHESES_TITLE, style="bold"))
    console.print()
    console.print(_claims(results) if results else Text(NO_CLAIMS))
    if results:
        console.print()
        console.print(Text(EACH_AT_ITS_OWN_LEVEL, style="dim"))


def facts(result: HypothesisResult) -> Iterator[tuple[str, str]]:
    """Yield what stands under a claim, label and sentences; empty ones are left out."""
    for label, sentence in (("Paper", result.paper), ("Here", result.here), ("Caveat", result.caveat)):
        if sentence:
            yield label, sentence


def _claims(results: Sequence[HypothesisResult]) -> Table:
    claims = Table.grid(padding=(0, 2), collapse_padding=True, pad_edge=False)
    claims.add_column(no_wrap=True)
    claims.add_column()
    for number, result in enumerate(results):
        if number:
            claims.add_row()
        claims.add_row(Text(result.status, style=STATUS_STYLES[result.status]), Text(result.claim, style="bold"))
        for label, sentence in facts(result):
            claims.add_row("", Text.assemble((f"{label}: ", "dim"), sentence))
    return claims
