"""What is said of a claim that can't be examined: what is missing, and what to run instead."""

from neftune_cli.evidence.metrics import HELD_OUT_ANSWERS, METRICS, PROBE_ANSWERS

SWEEP = "`neftune sweep --alphas 0,5,10,15 --seeds 5`"

_HOW_TO_MEASURE = {
    HELD_OUT_ANSWERS: "Needs answers to held-out prompts: run `neftune sweep` on data with prompts and completions.",
    PROBE_ANSWERS: "Needs answers to training prompts: run the sweep again with this version, on data with prompts.",
}

_OF_CHUNKS = ("repetition_2gram", "log_diversity")
_LONG_ANSWERS = "Chunks need answers of ten words or more: raise --max-new-tokens where answers were cut."


class NotMeasuredError(Exception):
    """A claim can't be examined on what there is; the message says what to run instead."""


def how_to_measure(key: str) -> str:
    """Return what a sweep needs to measure a metric."""
    metric = METRICS[key]
    how = _HOW_TO_MEASURE.get(metric.section, f"Needs {metric.name}, which {SWEEP} measures.")
    return f"{how} {_LONG_ANSWERS}" if key in _OF_CHUNKS else how
