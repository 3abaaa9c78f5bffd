"""Whether noise is worth more than stopping in time, which the paper's comparisons leave open."""

from collections.abc import Iterable, Mapping

from neftune_cli.analysis.paper_claims.claim_data import SWEEP, Case, NotMeasuredError
from neftune_cli.analysis.paper_claims.claim_tests import Finding
from neftune_cli.analysis.paper_claims.wording import (
    change_words,
    most_detectable_words,
    sample_words,
    undecidable_words,
    unknown_words,
)
from neftune_cli.analysis.results import Assessment, EarlyStopping, Status
from neftune_cli.evidence.measurements import Measurements
from neftune_cli.formatting import listed
from neftune_cli.metrics import HELD_OUT_LOSS, Metric

_EPOCHS = f"{SWEEP[:-1]} --epochs 3`"


def gains_over_stopping(case: Case) -> Finding:
    """Return whether a noisy arm at its best epoch is better than the arm without noise at its own.

    Supported if any is, after Holm's correction over the arms; refuted if all are equivalent or worse.

    Raises:
        NotMeasuredError: nothing was compared at its best epoch, or the arm that was stopped has noise.
    """
    if case.stopping is None:
        raise NotMeasuredError(_why_none(case))
    if case.baseline != case.reference:
        fix = f"`neftune compare --baseline {case.alpha(case.reference):g}`"
        raise NotMeasuredError(f"Needs {case.reference} as the baseline: {fix}.")
    judged = _judged(case, case.stopping)
    epochs = listed([str(epoch) for epoch in case.stopping.epochs])
    head = f"Held-out loss, each arm after the best of epochs {epochs}, minus that of {case.reference} after its own"
    said = f"{head}: {_differences(judged, case.metric(HELD_OUT_LOSS))}"
    return Finding(_status(judged), said + unknown_words(case.unknown))


def _why_none(case: Case) -> str:
    """Return what `early_stopping` lacked."""
    own = {seed: trial for seed, trial in case.arms[case.baseline].items() if trial.held_out_by_epoch}
    if not own:
        return f"Needs held-out losses of {case.baseline}, epoch by epoch and example by example: {_EPOCHS}."
    if len(_shared_epochs(own.values())) < 2:
        return f"Needs held-out losses of two epochs or more in every trial of {case.baseline}: {_EPOCHS}."
    others = [trials for arm, trials in case.arms.items() if arm != case.baseline]
    if not any(_shared_epochs(trials[seed] for seed in own if seed in trials) for trials in others):
        return f"Needs held-out losses, epoch by epoch, of another arm in seeds of {case.baseline}: {_EPOCHS}."
    return "Needs two held-out examples or more that all trials were measured on."


def _shared_epochs(trials: Iterable[Measurements]) -> set[int]:
    """Return the epochs for which all trials that have losses by epoch have them."""
    known = [set(trial.held_out_by_epoch) for trial in trials if trial.held_out_by_epoch]
    return set.intersection(*known) if known else set()


def _judged(case: Case, stopping: EarlyStopping) -> dict[str, Assessment]:
    """Return the verdicts on the noisy arms at their best epochs.

    Raises:
        NotMeasuredError: there are none.
    """
    noisy = {arm.name: arm.best for arm in stopping.arms if arm.name in case.noisy}
    if not noisy:
        raise NotMeasuredError(f"Needs held-out losses, epoch by epoch, of a noisy arm in seeds of {case.reference}.")
    judged = {name: best for name, best in noisy.items() if best}
    if not judged:
        arms = listed([case.reference, *noisy])
        raise NotMeasuredError(f"Held-out losses of {arms} can't be compared: in a trial no epoch has a finite one.")
    return judged


def _status(judged: Mapping[str, Assessment]) -> Status:
    words = {assessment.verdict for assessment in judged.values()}
    if "better" in words:
        return "supported"
    return "refuted" if words <= {"equivalent", "worse"} else "inconclusive"


def _differences(judged: Mapping[str, Assessment], metric: Metric) -> str:
    arms = "; ".join(f"{arm} {_difference(assessment, metric)}" for arm, assessment in judged.items())
    samples = dict.fromkeys(sample_words(assessment.comparison, metric) for assessment in judged.values())
    margin = metric.amount(next(iter(judged.values())).margin)
    found = most_detectable_words(judged.values(), metric)
    verdicts = f"Verdicts at the margin of {margin}, after Holm's correction{'; ' if found else ''}{found}."
    why = undecidable_words({name: assessment.comparison for name, assessment in judged.items()})
    decided = any(assessment.verdict for assessment in judged.values())
    said = [f"{arms} (uncorrected {listed(list(samples))}).", *([verdicts] if decided else []), *([why] if why else [])]
    return " ".join(said)


def _difference(assessment: Assessment, metric: Metric) -> str:
    change = change_words(assessment.comparison, metric)
    return f"{change}, {assessment.verdict}" if assessment.verdict else change
