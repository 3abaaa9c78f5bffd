"""What the page about one comparison is made from, and the answers of its arms put beside each other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from neftune_cli.analysis.results import Comparison
from neftune_cli.records import Generation
from neftune_cli.reporting.plots.canvas import Plot


@dataclass(frozen=True)
class PromptAnswers:
    """One prompt and what was answered to it."""

    split: str
    """`held-out` or `probe` (training examples)."""
    example: str
    """Content hash of the example."""
    kind: str
    prompt: str
    """As rendered for the model, special tokens included."""
    reference: str
    answers: Mapping[str, Generation]
    """Arm to its answer, the base first if it answered."""


@dataclass(frozen=True)
class PageContent:
    """Everything that the page says about one comparison. Texts are plain: whatever is in them is shown, never run."""

    comparison: Comparison
    advice: str
    """What came out, for somebody in a hurry."""
    footnotes: Sequence[str]
    plots: Mapping[str, Plot]
    """By name, in the order they are shown."""
    answers: Sequence[PromptAnswers]
    answers_seed: int | None
    """Seed of the trained arms whose answers these are; None where there are no answers."""
    spec: str
    """Text of `sweep.yaml`; empty where there is none."""
    manifest: str
    """Text of `manifest.json`; empty where there is none."""
    command: str
    """What to type to get the comparison again, a command a line."""


def side_by_side(generations: Mapping[str, Sequence[Generation]]) -> list[PromptAnswers]:
    """Return the prompts that all of these arms answered, held-out ones first, else in the order of the first arm.

    `generations` has the answers of one trial an arm: arm to answers, the base first.
    """
    by_arm = {arm: {(one.split, one.example): one for one in answers} for arm, answers in generations.items()}
    if not by_arm:
        return []
    shared = [key for key in next(iter(by_arm.values())) if all(key in answers for answers in by_arm.values())]
    shared.sort(key=lambda key: key[0] != "held-out")
    return [_prompt({arm: answers[key] for arm, answers in by_arm.items()}) for key in shared]


def _prompt(answers: Mapping[str, Generation]) -> PromptAnswers:
    first = next(iter(answers.values()))
    return PromptAnswers(first.split, first.example, first.kind, first.prompt, first.reference, answers)
