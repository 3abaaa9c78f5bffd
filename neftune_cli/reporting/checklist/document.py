"""Checklist for papers: questions about experiments with answers from the comparison, `sweep.yaml` and `manifest.json`.

The questions cover those of the ACL's and NeurIPS' checklists about experiments, in other words. An answer states only
what the files show. What they do not show is listed under `missing`, for the authors to fill in.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from neftune_cli.analysis.comparison import ComparedEvidence
from neftune_cli.analysis.results import Comparison
from neftune_cli.formatting import counted, duration, listed, size
from neftune_cli.reporting.cells import DASH, NOT_FINITE
from neftune_cli.reporting.checklist import design, inference
from neftune_cli.reporting.checklist.design import Answer
from neftune_cli.reporting.checklist.files import RunFiles
from neftune_cli.reporting.sanitizing import markdown_text
from neftune_cli.reporting.sections import title
from neftune_cli.store.manifest import Hardware

TITLE = "Checklist for papers"
INTRODUCTION = (
    "Answers to the questions of conference checklists about experiments, as far as the files of the sweep have them. "
    "Lines that begin with “To fill in” name facts that neftune does not know."
)
SEEDS_TITLE = "Values by seed"
MOST_ARMS_IN_TABLE = 10
"""Arms in one table of a page, at most. The table also has a column for the seed."""


@dataclass(frozen=True)
class SeedTable:
    """Values of the primary metric: one row for each seed, and one column for each arm."""

    caption: str
    arms: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    """Seed and values."""

    @property
    def parts(self) -> list["SeedTable"]:
        """Return tables of at most `MOST_ARMS_IN_TABLE` arms, about equally many in each, which fit a page's width."""
        count = max(1, math.ceil(len(self.arms) / MOST_ARMS_IN_TABLE))
        bounds = [len(self.arms) * part // count for part in range(count + 1)]
        return [
            SeedTable(
                self.caption, self.arms[start:end], tuple((row[0], *row[start + 1 : end + 1]) for row in self.rows)
            )
            for start, end in pairwise(bounds)
        ]


def checklist(comparison: Comparison, files: RunFiles) -> list[Answer]:
    """Return the questions in the order of a paper, with their answers."""
    return [
        design.runs(comparison),
        design.seeds(comparison, files),
        design.predeclared(comparison, files),
        design.arms(comparison, files),
        design.hyperparameters(comparison, files),
        design.model_and_data(comparison, files),
        design.shared_draws(files),
        inference.intervals(comparison),
        inference.multiplicity(comparison),
        inference.exclusions(comparison, files),
        _compute(files),
        _software(files),
        inference.scope(comparison),
    ]


def seed_table(comparison: Comparison) -> SeedTable:
    """Return the values of the primary metric by seed, with the arms as columns."""
    metric = comparison.metrics[comparison.primary]
    by_arm = {arm.name: one.by_seed if (one := arm.estimates.get(metric.key)) else {} for arm in comparison.arms}
    seeds = sorted({seed for values in by_arm.values() for seed in values})
    unit = f" ({metric.unit})" if metric.unit else ""

    def cell(value: float | None) -> str:
        if value is None:
            return DASH
        return metric.number(value) if math.isfinite(value) else NOT_FINITE

    rows = tuple((str(seed), *(cell(values.get(seed)) for values in by_arm.values())) for seed in seeds)
    return SeedTable(f"{metric.name}{unit} of each trial.", tuple(by_arm), rows)


def to_checklist(compared: Sequence[ComparedEvidence]) -> str:
    """Return the checklist of each comparison in Markdown, one after another, ending with a line break."""
    files = [RunFiles.read(one.evidence.spec_texts, one.evidence.manifest_texts) for one in compared]
    return "\n".join(map(checklist_markdown, [one.comparison for one in compared], files))


def checklist_markdown(comparison: Comparison, files: RunFiles) -> str:
    """Return one checklist in Markdown, ending with a line break."""
    lines = [f"# {TITLE}: {markdown_text(title(comparison))}", INTRODUCTION]
    for answer in checklist(comparison, files):
        lines += [f"## {answer.question}", f"*{answer.covers}*", _bullets(answer)]
    table = seed_table(comparison)
    lines += [f"## {SEEDS_TITLE}", markdown_text(table.caption), _seed_lines(table)]
    return "\n\n".join(lines) + "\n"


def _bullets(answer: Answer) -> str:
    known = (f"- {markdown_text(line)}" for line in answer.statements)
    return "\n".join([*known, *(f"- **To fill in:** {markdown_text(line)}" for line in answer.missing)])


def _seed_lines(table: SeedTable) -> str:
    rows = [("seed", *table.arms), *table.rows]
    lines = [f"| {' | '.join(markdown_text(cell).replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    return "\n".join([lines[0], f"|{' --: |' * len(rows[0])}", *lines[1:]])


def _compute(files: RunFiles) -> Answer:
    """Return the answer about hardware and run time."""
    seconds, hardware = files.numbers(lambda one: one.seconds), files.known(lambda one: one.hardware)
    return Answer(
        "Which hardware was used, and how long did the runs take?",
        "ACL C1; NeurIPS: compute resources",
        (*_hardware(files), *_times(files, seconds)),
        (
            *(() if hardware else ("the hardware",)),
            *(() if seconds else ("the run time",)),
            *_unnamed_gpus(hardware),
            "the total compute of the project, with preliminary and failed experiments",
        ),
    )


def _hardware(files: RunFiles) -> Iterator[str]:
    for one in files.known(lambda manifest: manifest.hardware):
        yield f"Hardware: {', '.join(f'{part} {value}' for part, value in one if value is not None)}."
    if workers := list(map(str, files.known(lambda one: one.workers.number))):
        yield f"Trials that ran at the same time: {' or '.join(workers)}."


def _unnamed_gpus(hardware: Sequence[Hardware]) -> Iterator[str]:
    """Yield what is unknown of the accelerators, if there may be any."""
    if not hardware or any(one.device != "cpu" and one.gpus is None for one in hardware):
        yield "the product name and the memory of the accelerators, if any"


def _times(files: RunFiles, seconds: Sequence[float]) -> Iterator[str]:
    if not seconds:
        return
    yield (
        f"Run time of {counted(len(seconds), 'trial')} (one of them evaluates the model before fine-tuning): "
        f"{duration(sum(seconds))} in total, {duration(min(seconds))} to {duration(max(seconds))} each."
    )
    elapsed = [one.seconds for one in files.known(lambda manifest: manifest.truth)]
    if elapsed:
        yield f"Elapsed time, with trials side by side: {duration(sum(elapsed))}."
    if peaks := files.numbers(lambda one: one.peak_memory):
        yield f"Peak memory of a trial: {size(int(max(peaks)))}."


def _software(files: RunFiles) -> Answer:
    """Return the answer about versions and reproduction."""
    versions, git = files.known(lambda one: one.versions), files.known(lambda one: one.git)
    statements = [f"Versions: {', '.join(f'{name} {value}' for name, value in one.items())}." for one in versions]
    if git:
        changed = " with uncommitted changes" if any(one.dirty for one in git) else ""
        commits = list(dict.fromkeys(one.commit for one in git))
        statements.append(f"Git commit of neftune: {listed(commits)}{changed}.")
    return Answer(
        "Which software was used, and can the runs be repeated?",
        "ACL C4; NeurIPS: reproducibility, open access to code",
        (
            *statements,
            *(
                ("sweep.yaml describes all runs. The command “neftune sweep sweep.yaml” repeats them.",)
                if files.specs
                else ()
            ),
        ),
        (
            *(() if versions else ("the software and its versions",)),
            "the address of the code, of sweep.yaml and of the results",
        ),
    )
