"""`--metric module:function` of a sweep: checked before the first trial, and scored after the last one of each look."""

from collections.abc import Iterator
from dataclasses import replace

from neftune_cli.config.spec import SweepSpec
from neftune_cli.errors import Problem, UsageError
from neftune_cli.metrics import names_function
from neftune_cli.store import SweepFolder

_RESUME = "No trial is lost: then run the same command again."


def declared_metric_problems(spec: SweepSpec) -> Iterator[Problem]:
    """Yield the problem of a declared function that cannot be imported or called."""
    if names_function(spec.analysis.metric):
        from neftune_cli.evidence.user_metrics import user_metric_problems

        yield from user_metric_problems(str(spec.analysis.metric))


def score_declared_metric(spec: SweepSpec, folder: SweepFolder) -> None:
    """Score the responses of all finished trials with the declared function, if there is one, and store the scores.

    Raises:
        UsageError: the function cannot be called, or does not return a number.

    """
    if not names_function(spec.analysis.metric):
        return
    from neftune_cli.evidence.user_metrics import metric_scores

    try:
        scores = metric_scores(folder, str(spec.analysis.metric))
    except UsageError as error:
        raise UsageError(*(replace(one, fix=f"{one.fix} {_RESUME}") for one in error.problems)) from error
    folder.write_metric_scores(scores)
