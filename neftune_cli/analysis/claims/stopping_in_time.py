"""Whether noise is worth more than stopping in time, which the paper's comparisons leave open."""

from neftune_cli.analysis.claims.case import SWEEP, Case, NotMeasuredError
from neftune_cli.analysis.claims.deciding import Finding
from neftune_cli.analysis.claims.wording import amount, change_words, few_seeds, listed, sample_words
from neftune_cli.analysis.results import Judgement, Status
from neftune_cli.evidence.metrics import Metric

_METRIC = "eval_loss"


def gains_over_stopping(case: Case) -> Finding:
    """Return whether a noisy arm at its best epoch is better than the arm without noise at its own.

    Supported if any is, after Holm's correction over the arms; refuted if all are equivalent or worse.

    Raises:
        NotMeasuredError: there is one epoch only, or the arm that was stopped has noise.
    """
    if case.stopping is None:
        raise NotMeasuredError(f"Needs held-out losses of two epochs or more: {SWEEP[:-1]} --epochs 3`.")
    if case.baseline != case.reference:
        fix = f"`neftune compare --baseline {case.alpha(case.reference):g}`"
        raise NotMeasuredError(f"Needs {case.reference} as the baseline: {fix}.")
    judged = {arm.name: arm.best for arm in case.stopping.arms if arm.best and arm.name in case.noisy}
    if not judged:
        raise NotMeasuredError(f"Needs seeds that {case.reference} and a noisy arm share.")
    epochs = listed([str(epoch) for epoch in case.stopping.epochs])
    head = f"Held-out loss, each arm after the best of epochs {epochs}, minus that of {case.reference} after its own"
    return Finding(_status(judged), f"{head}: {_differences(judged, case.metric(_METRIC))}")


def _status(judged: dict[str, Judgement]) -> Status:
    words = {judgement.word for judgement in judged.values()}
    if None in words:
        return "inconclusive"
    if "better" in words:
        return "supported"
    return "refuted" if words <= {"equivalent", "worse"} else "inconclusive"


def _differences(judged: dict[str, Judgement], metric: Metric) -> str:
    arms = "; ".join(f"{arm} {_difference(judgement, metric)}" for arm, judgement in judged.items())
    samples = dict.fromkeys(sample_words(judgement.comparison, metric) for judgement in judged.values())
    said = f"{arms} (uncorrected {listed(list(samples))})"
    if any(judgement.word is None for judgement in judged.values()):
        return f"{said}. {few_seeds(min(judgement.comparison.seeds for judgement in judged.values()))}"
    margin = amount(next(iter(judged.values())).margin, metric)
    return f"{said}. Verdicts at the margin of {margin}, after Holm's correction{_detectable(judged, metric)}."


def _difference(judgement: Judgement, metric: Metric) -> str:
    change = change_words(judgement.comparison, metric)
    return f"{change}, {judgement.word}" if judgement.word else change


def _detectable(judged: dict[str, Judgement], metric: Metric) -> str:
    sizes = [judgement.detectable for judgement in judged.values() if judgement.word == "inconclusive"]
    return f"; a true difference of {amount(max(sizes), metric)} would be found four times out of five" if sizes else ""
