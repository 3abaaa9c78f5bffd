"""One question of the checklist with its answer."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Answer:
    """One question with its answer."""

    question: str
    covers: str
    """Related items of the ACL's and NeurIPS' checklists."""
    statements: tuple[str, ...]
    missing: tuple[str, ...] = ()
    """Unknown facts, each as a phrase for the authors to replace."""
