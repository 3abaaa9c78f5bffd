"""Gain of noise over early stopping, a comparison that the paper does not make."""

import math
from collections.abc import Iterable, Mapping, Sequence

from neftune_cli.analysis.paper_claims.claim_data import SWEEP, ClaimData, NotMeasuredError, unknown_recipe_sentence
from neftune_cli.analysis.paper_claims.claim_tests import (
    ClaimOutcome,
    change_text,
    sample_text,
    untestable_sentences,
)
from neftune_cli.analysis.results import Assessment, EarlyStopping, Status
from neftune_cli.analysis.verdicts import BEFORE_FIRST_LOOK
from neftune_cli.evidence.measurements import Measurements
from neftune_cli.formatting import listed
from neftune_cli.metrics import HELD_OUT_LOSS, Metric

_SWEEP_OF_EPOCHS = f"`{SWEEP} --epochs 3`"


def gains_over_early_stopping(data: ClaimData) -> ClaimOutcome:
    """Test whether a noisy arm at its best epoch is better than the arm without noise at its best epoch.

    Supported if any arm is better, with p-values Hommel-adjusted over the arms. Refuted if all arms with noise are
    compared, and are equivalent or worse.

    Raises:
        NotMeasuredError: no arm was compared at its best epoch, or the early-stopped baseline is not the reference.
    """
    if data.stopping is None:
        raise NotMeasuredError(_missing_data(data))
    if data.baseline != data.reference:
        fix = f"`neftune compare --baseline {data.alpha(data.reference):g}`"
        raise NotMeasuredError(f"This claim needs {data.reference} as the baseline: {fix}.")
    assessed = _noisy_arms(data, data.stopping)
    epochs = listed([str(epoch) for epoch in data.stopping.epochs])
    description = f"Held-out loss at the best of epochs {epochs} of each arm, minus {data.reference} at its best epoch"
    here = f"{description}: {_differences(assessed, data.metric(HELD_OUT_LOSS))}"
    missing = [arm for arm in data.noisy if arm not in assessed]
    excluded = f" Excluded, because they are not compared at their best epochs: {listed(missing)}." if missing else ""
    return ClaimOutcome(_status(assessed, missing), here + excluded + unknown_recipe_sentence(data.unknown))


def _missing_data(data: ClaimData) -> str:
    """Return the data that `early_stopping` needs and does not have."""
    own = {seed: trial for seed, trial in data.arms[data.baseline].items() if trial.held_out_by_epoch}
    if not own:
        return f"This claim needs held-out losses of {data.baseline} by epoch and example: {_SWEEP_OF_EPOCHS}."
    if len(_shared_epochs(own.values())) < 2:
        losses = f"held-out losses of at least two epochs in every trial of {data.baseline}"
        return f"This claim needs {losses}: {_SWEEP_OF_EPOCHS}."
    others = [trials for arm, trials in data.arms.items() if arm != data.baseline]
    if not any(_shared_epochs(trials[seed] for seed in own if seed in trials) for trials in others):
        losses = f"held-out losses of another arm by epoch, with seeds of {data.baseline}"
        return f"This claim needs {losses}: {_SWEEP_OF_EPOCHS}."
    return "This claim needs at least two held-out examples on which all trials were measured."


def _shared_epochs(trials: Iterable[Measurements]) -> set[int]:
    """Return the epochs that are common to all trials that have losses by epoch."""
    known = [set(trial.held_out_by_epoch) for trial in trials if trial.held_out_by_epoch]
    return set.intersection(*known) if known else set()


def _noisy_arms(data: ClaimData, stopping: EarlyStopping) -> dict[str, Assessment]:
    """Return the assessments of the noisy arms at their best epochs.

    Raises:
        NotMeasuredError: there are none.
    """
    noisy = {arm.name: arm.best for arm in stopping.arms if arm.name in data.noisy}
    if not noisy:
        raise NotMeasuredError(
            f"This claim needs held-out losses of an arm with noise by epoch, with seeds of {data.reference}."
        )
    assessed = {name: best for name, best in noisy.items() if best}
    if not assessed:
        arms = listed([data.reference, *noisy])
        if all(math.isfinite(arm.best_loss) for arm in stopping.arms):
            raise NotMeasuredError(f"Held-out losses of {arms} are not compared: {BEFORE_FIRST_LOOK}.")
        raise NotMeasuredError(
            f"Held-out losses of {arms} cannot be compared: a trial has no finite loss at any epoch."
        )
    return assessed


def _status(assessed: Mapping[str, Assessment], missing: Sequence[str]) -> Status:
    verdicts = {assessment.verdict for assessment in assessed.values()}
    if "better" in verdicts:
        return "supported"
    return "refuted" if verdicts <= {"equivalent", "worse"} and not missing else "inconclusive"


def _differences(assessed: Mapping[str, Assessment], metric: Metric) -> str:
    arms = "; ".join(f"{arm} {_difference(assessment, metric)}" for arm, assessment in assessed.items())
    samples = dict.fromkeys(sample_text(assessment.paired, metric) for assessment in assessed.values())
    sentences = [f"{arms} (unadjusted {listed(list(samples))})."]
    if any(assessment.verdict for assessment in assessed.values()):
        margin = metric.amount(next(iter(assessed.values())).margin)
        sentences.append(f"Verdicts at the margin of {margin}, with p-values adjusted by Hommel's method.")
    untestable = untestable_sentences({name: assessment.paired for name, assessment in assessed.items()})
    return " ".join([*sentences, *([untestable] if untestable else [])])


def _difference(assessment: Assessment, metric: Metric) -> str:
    change = change_text(assessment.paired, metric)
    return f"{change}, {assessment.verdict}" if assessment.verdict else change
