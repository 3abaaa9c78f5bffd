"""Answers of the checklist about the design: runs, seeds, choices, arms, hyperparameters, model, data and draws."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neftune_cli.analysis.results import Comparison
from neftune_cli.config.choices import LORA_SETTINGS, SFT_DEFAULTS
from neftune_cli.evidence.measurements import AnalysisPlan
from neftune_cli.formatting import counted, listed
from neftune_cli.metrics import HELD_OUT_LOSS
from neftune_cli.reporting.cells import all_seeds_text, arm_with_role
from neftune_cli.reporting.checklist.files import RunFiles
from neftune_cli.reporting.footnotes import noise_sentence
from neftune_cli.reporting.inference_sentences import margins_by_metric


@dataclass(frozen=True)
class Answer:
    """One question with its answer."""

    question: str
    covers: str
    """Related items of the ACL's and NeurIPS' checklists."""
    statements: tuple[str, ...]
    missing: tuple[str, ...] = ()
    """Unknown facts, each as a phrase for the authors to replace."""


_MOST_NOTES = 20


def first_notes(notes: Sequence[str]) -> Iterator[str]:
    """Yield the first notes, and a sentence with the number of the others."""
    yield from notes[:_MOST_NOTES]
    if (more := len(notes) - _MOST_NOTES) > 0:
        yield f"There {'is' if more == 1 else 'are'} {counted(more, 'more note')}."


def runs(comparison: Comparison) -> Answer:
    """Return the answer about the number of runs."""
    trials = sum(len(arm.seeds) for arm in comparison.arms)
    base = " The model before fine-tuning was evaluated once." if comparison.base_scores is not None else ""
    seeds = [len(arm.seeds) for arm in comparison.arms]
    each = f"{min(seeds)} to {max(seeds)}" if min(seeds) < max(seeds) else f"{seeds[0]}"
    return Answer(
        "How many runs are behind each number?",
        "ACL C3; NeurIPS: statistical significance",
        (
            f"{counted(trials, 'fine-tuning run')}: {counted(len(comparison.arms), 'arm')} with {each} "
            f"seed{'' if each == '1' else 's'} each.{base}",
            "Tables give the mean and the standard deviation over the seeds of an arm (denominator: number of seeds "
            "minus 1). The standard deviation describes single runs, not the uncertainty of the mean.",
        ),
    )


def seeds(comparison: Comparison, files: RunFiles) -> Answer:
    """Return the answer about the seeds."""
    question, covers = "Which seeds were used, and what does a seed change?", "NeurIPS: statistical significance"
    statement = f"Seeds: {all_seeds_text(comparison)}."
    if not files.specs:
        return Answer(question, covers, (statement,), ("what a seed changes in these runs",))
    adapters = ", the initial weights of the LoRA adapters" if _uses_adapters(files) else ""
    return Answer(
        question,
        covers,
        (
            statement,
            f"A seed changes the order of the training examples, dropout{adapters} and the random draws of the noise. "
            "It changes neither the initial weights of the model nor the division into training and held-out examples.",
        ),
    )


def _uses_adapters(files: RunFiles) -> bool:
    recipes = [declared.get("train") for declared in (*files.specs, *files.arms)]
    return any(isinstance(recipe, Mapping) and recipe.get("lora_rank") for recipe in recipes)


def predeclared(comparison: Comparison, files: RunFiles) -> Answer:
    """Return the answer about the choices that were declared before the first trial."""
    plan = comparison.plan
    missing = () if plan else ("whether these choices were made before the results were seen",)
    written = (
        "The arms, the seeds and the recipe are in sweep.yaml, which was written before the first run. Its text does "
        "not show whether the file was changed later.",
    )
    return Answer(
        "Which choices of the analysis were made before the first run?",
        "ACL C3; NeurIPS: statistical significance",
        (*_declared(comparison, plan), *_margin_sentences(comparison), *(written if files.specs else ())),
        missing,
    )


def _declared(comparison: Comparison, plan: AnalysisPlan | None) -> Iterator[str]:
    name = comparison.metric.name_within
    yield from (departure.sentence for departure in comparison.departures)
    if plan is None:
        yield "No metric, margin, primary arm or looks were declared before the first trial."
        yield f"Primary metric, on which the conclusion is based: {name}."
        return
    yield f"Primary metric: {name} ({_metric_source(comparison, plan)})."
    yield f"Equivalence margin: {_margin_source(comparison, plan)}."
    if plan.primary_arm:
        yield f"Primary arm: {plan.primary_arm}. The other arms are exploratory."
    else:
        yield "Primary arm: none declared. All arms are tested together."
    if plan.controls:
        yield f"Controls that check the sweep, which are not part of the conclusion: {listed(plan.controls)}."
    yield from _looks(plan)


def _metric_source(comparison: Comparison, plan: AnalysisPlan) -> str:
    """Return whether the primary metric was declared, is the default one, or was chosen at the comparison."""
    if comparison.primary == plan.metric:
        return "declared"
    is_default = plan.metric is None and (
        comparison.primary == HELD_OUT_LOSS or HELD_OUT_LOSS not in comparison.metrics
    )
    return "the default, not declared" if is_default else "chosen when the results were compared, not declared"


def _margin_source(comparison: Comparison, plan: AnalysisPlan) -> str:
    """Return whether the margin was declared, is the default one, or was chosen at the comparison."""
    if comparison.chosen_margin not in (None, plan.margin):
        return "chosen when the results were compared, not declared"
    return f"declared, {plan.margin.rule()}" if plan.margin else "the default, not declared"


def _looks(plan: AnalysisPlan) -> Iterator[str]:
    if not plan.has_planned_looks:
        yield "Number of seeds: fixed. The tests assume that the trials are tested once."
        return
    seeds = listed([str(look) for look in plan.looks])
    yield (
        f"Looks at the data: planned after {seeds} seeds; {plan.looks_taken} of {len(plan.looks)} were taken. "
        "An arm gets no more seeds after the look that decides it."
    )


def _margin_sentences(comparison: Comparison) -> Iterator[str]:
    if margin := margins_by_metric(comparison, (comparison.primary,)):
        yield f"Equivalence margin in the unit of the metric: {margin}."


def arms(comparison: Comparison, files: RunFiles) -> Answer:
    """Return the answer about the values of alpha."""
    names = [arm_with_role(comparison, arm.name) for arm in comparison.arms]
    statements = [
        f"Arms: {', '.join(names)}. Differences are arm minus {comparison.baseline}.",
        *_unreported(comparison, files),
        *filter(None, [noise_sentence(comparison)]),
    ]
    return Answer(
        "How were the values of alpha chosen, and are all of them reported?",
        "ACL C2; NeurIPS: experimental setting",
        tuple(statements),
        ("the reason for these values of alpha, and values of alpha that were tried outside these runs",),
    )


def _unreported(comparison: Comparison, files: RunFiles) -> Iterator[str]:
    """Yield whether all declared arms have results; nothing if no file declares them."""
    declared = [str(arm.get("name")) for arm in files.arms]
    finished = {arm.name for arm in comparison.arms}
    if not declared:
        return
    missing = [arm for arm in dict.fromkeys(declared) if arm not in finished]
    if missing:
        yield f"These declared arms have no result in this comparison: {', '.join(missing)}."
    else:
        yield "Every arm that the sweep declares is reported."


def hyperparameters(comparison: Comparison, files: RunFiles) -> Answer:
    """Return the answer about the recipe."""
    known = comparison.setting.recipe
    recipe = ", ".join(_fields(with_one_length(known)))
    return Answer(
        "Which hyperparameters were used, and how were they chosen?",
        "ACL C2; NeurIPS: experimental setting",
        (
            *((f"Recipe of all arms, apart from their declared overrides: {recipe}.",) if recipe else ()),
            *(_fixed_settings(known, files) if files.specs else ()),
        ),
        (
            *(() if recipe else ("the hyperparameters",)),
            "the search that led to these values: the ranges, the number of settings tried, and the data that selected "
            "among them",
        ),
    )


def with_one_length(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe without the epochs that its number of steps replaces."""
    return {name: one for name, one in recipe.items() if name != "epochs" or not recipe.get("max_steps")}


def _fixed_settings(recipe: Mapping[str, Any], files: RunFiles) -> Iterator[str]:
    """Yield the fixed settings of LoRA, and the defaults of TRL that the recipe of a sweep does not change."""
    recipes = [recipe, *(one["train"] for one in (*files.specs, *files.arms) if isinstance(one.get("train"), Mapping))]
    if any(one.get("lora_rank") for one in recipes):
        yield f"{LORA_SETTINGS}."
    changed = {*_names(recipe)}
    unchanged = {name: value for name, value in SFT_DEFAULTS.items() if name not in changed}
    if unchanged:
        yield f"Defaults of TRL that apply where no arm changes them: {', '.join(_fields(unchanged))}."


def _names(recipe: Mapping[str, Any]) -> Iterator[str]:
    for name, value in recipe.items():
        yield name
        if isinstance(value, Mapping):
            yield from _names(value)


def _fields(recipe: Mapping[str, Any]) -> Iterator[str]:
    """Yield name and value of each field that is set; the fields of a part, such as `sft`, are yielded too."""
    for field, value in recipe.items():
        if isinstance(value, Mapping):
            yield from _fields(value)
        elif value is not None:
            yield f"{field} {f'{value:g}' if isinstance(value, float) else value}"


def model_and_data(comparison: Comparison, files: RunFiles) -> Answer:
    """Return the answer about model and data."""
    setting = comparison.setting
    parameters = list(_parameters(files))
    known = files.known(lambda one: one.fingerprints)
    by_part = {"model": [one.model for one in known], "data": [one.data for one in known]}
    fingerprints = [f"Fingerprint of the {part}: {', '.join(dict.fromkeys(of))}." for part, of in by_part.items() if of]
    return Answer(
        "Which model and data were used, and how large are they?",
        "ACL B6 and C1; NeurIPS: experimental setting, licenses",
        (
            f"Model: {setting.model or 'unknown'}. Data: {setting.data or 'unknown'}.",
            *parameters,
            *fingerprints,
            *_held_out(comparison),
            *_notes_of(files),
        ),
        (
            *(() if parameters else ("the number of parameters, all and trained",)),
            *(() if len(fingerprints) == 2 else ("the exact versions of the model and of the data",)),
            "the licenses, the sources and the languages of the data",
        ),
    )


def _parameters(files: RunFiles) -> Iterator[str]:
    """Yield a sentence with the numbers of parameters; several numbers if the arms differ in them."""
    pairs = sorted(
        {(one.parameters, one.trained_parameters) for one in files.trials if one.parameters and one.trained_parameters}
    )
    if pairs:
        every, trained = (listed([f"{one:,}" for one in dict.fromkeys(of)]) for of in zip(*pairs, strict=True))
        yield f"Parameters: {every}, adapters included. Trained: {trained}."


def _held_out(comparison: Comparison) -> Iterator[str]:
    first = next(iter(comparison.assessments(comparison.primary).values()), None)
    if first is None or first.paired.items == 1:
        return
    items, clusters = first.paired.items, first.paired.clusters
    groups = "" if clusters == items else f" in {clusters:,} clusters of dependent {comparison.metric.item}s"
    yield f"The primary metric is measured on {counted(items, comparison.metric.item)}{groups}."


def _notes_of(files: RunFiles) -> Iterator[str]:
    """Yield the sentences on the data that the sweep wrote into the manifest."""
    for notes in files.known(lambda one: one.notes):
        yield from first_notes(notes)


def shared_draws(files: RunFiles) -> Answer:
    """Return the answer about the randomness that arms share."""
    question, covers = "Which randomness do the arms share?", "NeurIPS: statistical significance, reproducibility"
    if not files.specs:
        return Answer(question, covers, (), ("the randomness that runs with the same seed share",))
    statements = [
        "Arms with the same seed share the order of the training examples, dropout and the random draws of the noise. "
        "Alpha multiplies these draws. The results of these arms are therefore paired, and those of arms with noise "
        "can correlate."
    ]
    if own := files.arms_with("repeat"):
        statements.append(f"These arms have random streams of their own: {', '.join(own)}.")
    by_noise = files.arms_by_distribution
    if len(by_noise) > 1:
        arms_of = (f"{', '.join(arms)} ({distribution})" for distribution, arms in by_noise.items())
        statements.append(f"Only arms with the same distribution of the noise share its draws: {'; '.join(arms_of)}.")
    return Answer(question, covers, tuple(statements))
