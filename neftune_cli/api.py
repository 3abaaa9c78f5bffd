"""Sweeps and comparisons for programs and notebooks: the same as the commands, with values and results of Python."""

import html
import inspect
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from enum import StrEnum
from numbers import Real
from os import PathLike
from pathlib import Path
from types import NoneType, TracebackType, UnionType
from typing import TYPE_CHECKING, Any, Self, get_args, get_origin, get_type_hints

from neftune_cli.commands.output import say_nothing
from neftune_cli.commands.request import checked_request, prepared_sweep
from neftune_cli.commands.routing import Destination, options_of, values_for
from neftune_cli.commands.run_plan import run_plan, track_comparison
from neftune_cli.commands.sweep import sweep as sweep_command
from neftune_cli.config.values import parse_path
from neftune_cli.errors import NeftuneError, Problem, UsageError, alternatives, did_you_mean
from neftune_cli.store import RESULTS

if TYPE_CHECKING:
    import pandas as pd

    from neftune_cli.analysis.comparison import ComparedEvidence
    from neftune_cli.metrics import Margin
    from neftune_cli.reporting.plots import Plot
    from neftune_cli.sweeps.executors import Finished
    from neftune_cli.sweeps.progress import Observer
    from neftune_cli.training.trial import Trial

_NOT_FOR_PROGRAMS = frozenset({"dry_run", "hourly_rate", "quiet", "as_json"})
"""Options of `neftune sweep` that only the command has: the plan without training, and the form of its output."""


@dataclass(frozen=True)
class SweepResult:
    """A sweep that has run, with its results in a folder."""

    folder: Path
    trials_run: int
    """Number of trials that this call has run to their end, the base model and failed ones included."""
    failed: Mapping[str, str]
    """Reasons of failed trials by label, for example "alpha=5, seed 0"."""
    is_complete: bool
    """Whether no trial is left that could run. The same call runs the rest, after the cause in `halted` is removed."""
    halted: str = ""
    """Reason why no further trial could run, for example a full disk; empty if there is none."""

    def compare(self, **options: Any) -> "ComparisonResult":
        """Return the comparison of the arms; the options are those of `compare`."""
        return compare(self, **options)

    def _repr_html_(self) -> str:
        try:
            return self.compare()._repr_html_()
        except NeftuneError:  # every training run may have failed, which this text says
            return html.escape(repr(self))


@dataclass(frozen=True, eq=False)  # == would fail: the arrays inside have no truth value
class ComparisonResult:
    """Comparisons of finished trials: one for each set of comparable trials.

    `verdicts` and `plots` are those of the first one. `ComparisonResult(result.compared[1:])` has those of the second.
    Both are empty without a comparison.
    """

    compared: "Sequence[ComparedEvidence]"

    def to_frame(self) -> "pd.DataFrame":
        """Return one row for each sweep, arm and metric, with the columns of `neftune compare --format csv`."""
        import io

        import pandas as pd

        from neftune_cli.reporting.exports import to_csv

        return pd.read_csv(
            io.StringIO(to_csv([one.comparison for one in self.compared])),
            dtype=dict.fromkeys(("sweep", "arm", "metric", "seeds"), str),
            keep_default_na=False,  # an arm may have the name None
            na_values=[""],
            float_precision="round_trip",
        )

    @property
    def verdicts(self) -> dict[str, str | None]:
        """Return the verdict of each arm of the first comparison on its primary metric; None if there is none."""
        if not self.compared:
            return {}
        first = self.compared[0].comparison
        found = {arm.name: first.assessment(arm.name, first.primary) for arm in first.treated}
        return {arm: one.verdict if one else None for arm, one in found.items()}

    @property
    def plots(self) -> "dict[str, SvgImage]":
        """Return the plots of the first comparison by name, which a notebook shows."""
        from neftune_cli.reporting.plots import standalone
        from neftune_cli.reporting.reports import draw_plots

        plots: Mapping[str, Plot] = draw_plots(self.compared[0]) if self.compared else {}
        return {name: SvgImage(standalone(plot.svg)) for name, plot in plots.items()}

    def to_html(self) -> str:
        """Return the page of `neftune compare --format html`."""
        from neftune_cli.reporting.reports import render_page

        return render_page(self.compared)

    def __str__(self) -> str:
        from neftune_cli.reporting.output_formats import OutputFormat, document

        return document(self.compared, OutputFormat.TABLE)

    def __repr__(self) -> str:
        """Return one line with the headline of the first comparison. `print` shows the whole first screen."""
        from neftune_cli.analysis.headline import headline
        from neftune_cli.errors import one_line

        if not self.compared:
            return "<ComparisonResult without a comparison>"
        first, *others = self.compared
        more = f" (and {len(others)} more)" if others else ""
        return f"<ComparisonResult {one_line(f'{first.evidence.name}: {headline(first.comparison).text}')}{more}>"

    def _repr_html_(self) -> str:
        return f'<iframe srcdoc="{html.escape(self.to_html())}" width="100%" height="700" frameborder="0"></iframe>'


@dataclass(frozen=True)
class SvgImage:
    """An image that a notebook shows."""

    svg: str

    def __repr__(self) -> str:
        return f"<SvgImage of {len(self.svg)} characters>"

    def _repr_svg_(self) -> str:
        return self.svg


def sweep(
    experiment: str | PathLike[str] | None = None,
    *,
    output: str | PathLike[str] | None = None,
    progress: bool = True,
    pause_at: int | None = None,
    **options: Any,
) -> SweepResult:
    """Fine-tune one model with several alphas and seeds, as `neftune sweep` does.

    The same call resumes an interrupted sweep, and runs only the missing trials.

    >>> result = sweep(model="tiny", alphas=[0, 5], seeds=3)  # doctest: +SKIP
    >>> result.compare().verdicts  # doctest: +SKIP
    {'alpha=5': 'inconclusive'}

    Args:
        experiment: experiment in YAML, or None.
        output: results folder; by default `results/<name>`.
        progress: whether to show a progress bar.
        pause_at: number of seeds of the planned look after which to stop.
        options: options of `neftune sweep` with underscores, for example `learning_rate=1e-3`. None is the default.
            Lists can be Python lists; `settings` and `slurm` are mappings, or lists of texts such as "key=value".

    Raises:
        UsageError: every problem of the options, the model, the data and the folder; or another thread runs a sweep
            with `workers=0`.
        KeyboardInterrupt: the sweep was interrupted; finished steps are kept.
    """
    arguments = _arguments(options)
    fields, run = (values_for(one, sweep_command, arguments) for one in (Destination.SPEC, Destination.RUN))
    file, folder = (None if path is None else parse_path(path) for path in (experiment, output))
    request = checked_request(fields, run, file=file, output=folder, pause_at=pause_at)
    with prepared_sweep(request, quiet=True) as prepared:
        from neftune_cli.sweeps.progress import NullObserver

        observe = ProgressBar if progress else lambda: nullcontext(NullObserver())
        outcome = run_plan(prepared, observe, say_nothing)
        track_comparison(prepared, outcome, say_nothing)
    if outcome.interrupted:
        raise KeyboardInterrupt
    is_complete = not (outcome.left or outcome.was_cut_short)
    return SweepResult(prepared.folder.path, outcome.run_now, outcome.failed, is_complete, outcome.halted)


def compare(
    *results: SweepResult | str | PathLike[str],
    baseline: str | float | None = None,
    metric: str | None = None,
    margins: "Mapping[str, float | str | Margin] | None" = None,
    confidence: float = 0.95,
) -> ComparisonResult:
    """Compare the arms of sweeps, or of runs of other tools, as `neftune compare` does.

    Args:
        results: results of `sweep`, or folders. Default: `results`.
        baseline: arm to compare with, by alpha or name; default: the first arm.
        metric: key of the primary metric, or `module:function`, a function that scores each response;
            default: held-out loss.
        margins: metric key to equivalence margin, in its unit or as text such as "10%".
        confidence: confidence level of the intervals; tests use the level 1 - confidence.

    Raises:
        UsageError: a folder, the baseline, the metric or a margin does not exist, or the confidence is not valid.
        NothingToCompareError: no trained trial has finished.
    """
    from neftune_cli.analysis.comparison import compare_all
    from neftune_cli.analysis.options import ComparisonOptions, check_confidence, parse_margins
    from neftune_cli.evidence.gathering import gather, measured_metrics
    from neftune_cli.metrics import Margin

    _check_arguments(results, baseline, metric, margins, confidence)
    check_confidence(confidence)
    paths = [one.folder if isinstance(one, SweepResult) else parse_path(one) for one in results] or [RESULTS]
    evidence = gather(paths, metric=metric, say=lambda note: warnings.warn(note, stacklevel=4))
    texts = {key: size.written() if isinstance(size, Margin) else size for key, size in (margins or {}).items()}
    parsed = parse_margins([f"{key}={text}" for key, text in texts.items()], measured_metrics(evidence))
    name = f"{baseline:.15g}" if isinstance(baseline, int | float) else baseline
    compared, empty = compare_all(evidence, ComparisonOptions(name, metric, confidence, parsed))
    for message in empty:
        warnings.warn(message, stacklevel=2)
    return ComparisonResult(compared)


def _check_arguments(results: Sequence[Any], baseline: Any, metric: Any, margins: Any, confidence: Any) -> None:
    """Raise a `UsageError` with a problem for each argument of `compare` of a wrong type."""
    checks = (
        (
            all(isinstance(one, SweepResult | str | PathLike) for one in results),
            "results",
            "folders",
            "'results/one', 'results/two'",
        ),
        (
            baseline is None or isinstance(baseline, str | Real),
            "baseline",
            "an alpha or the name of an arm",
            "baseline=5",
        ),
        (metric is None or isinstance(metric, str), "metric", "text", "metric='rouge_l'"),
        (margins is None or isinstance(margins, Mapping), "margins", "a mapping", "margins={'rouge_l': 0.01}"),
        (isinstance(confidence, Real), "confidence", "a number", "confidence=0.95"),
    )
    problems = [
        Problem(f"{name} must be {expected}.", f"Use for example compare({example}).")
        for is_right, name, expected, example in checks
        if not is_right
    ]
    if problems:
        raise UsageError(*problems)


class ProgressBar:
    """Observer with one progress bar for all trials, for terminals and notebooks."""

    def __enter__(self) -> Self:
        from tqdm.auto import tqdm

        self._bar: Any = tqdm(unit="trial", desc="reading model and data")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def sweep_started(self, trials: "Sequence[Trial]", missing: "Sequence[Trial]", notes: Sequence[str]) -> None:
        """Set the length of the bar."""
        self._bar.reset(total=len(trials))
        self._bar.update(len(trials) - len(missing))
        for note in notes:
            self.note(note)

    def trial_started(self, trial: "Trial") -> None:
        """Name the trial."""
        self._bar.set_description(trial.label)

    def trial_ended(self, end: "Finished") -> None:
        """Advance the bar, and write the reason of a failure above it."""
        if end.failure:
            self.note(f"{end.trial.label}: {end.failure.reason}")
        self._bar.update()

    def note(self, text: str) -> None:
        """Write a line above the bar."""
        self._bar.write(text)

    def stopping(self) -> None:
        """Say that the running trials were asked to stop."""
        self._bar.set_description("stopping")


if TYPE_CHECKING:
    _: type[Observer] = ProgressBar


def _arguments(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return all arguments of the command: its defaults, and the given options as the command receives them.

    Raises:
        UsageError: an option does not exist.
    """
    parameters = inspect.signature(sweep_command).parameters
    known = options_of(sweep_command).keys() - _NOT_FOR_PROGRAMS - {"output", "pause_at"}
    unknown = [name for name in options if name not in known]
    if unknown:
        fixes = {name: _fix_of_unknown(name, sorted(known)) for name in unknown}
        raise UsageError(*(Problem(f"sweep has no option {name!r}.", fix) for name, fix in fixes.items()))
    defaults = {name: parameter.default for name, parameter in parameters.items()}
    given = {name: _as_typed(name, value) for name, value in options.items() if value is not None}
    return {**defaults, **given}


def _fix_of_unknown(name: str, known: list[str]) -> str:
    if name in ("dry_run", "hourly_rate"):
        return "Use the command `neftune sweep --dry-run`. A call of sweep() trains."
    if name in _NOT_FOR_PROGRAMS:
        return "Remove it: it changes only what the command `neftune sweep` prints."
    other = {"set": "settings", "format": "format_"}.get(name)
    return f"Use {other}." if other else did_you_mean(name, known) or "Use the options of `neftune sweep`."


def _as_typed(name: str, value: Any) -> Any:
    """Return a value as the command receives it, by the type of the option: a list, a choice, a path or text.

    Raises:
        UsageError: a choice does not exist.
    """
    declared = _declared_type(name)
    if get_origin(declared) is list:
        return list(_pairs(value)) if isinstance(value, Mapping) else [value] if isinstance(value, str) else list(value)
    if isinstance(declared, type) and issubclass(declared, StrEnum):
        return _choice(name, declared, value)
    if declared is Path:
        return parse_path(value)
    return _as_text(name, value) if declared is str else value


def _declared_type(name: str) -> Any:
    """Return the type of an option of `sweep`, without None."""
    hint = get_type_hints(sweep_command)[name]
    return next((one for one in get_args(hint) if one is not NoneType), hint) if isinstance(hint, UnionType) else hint


def _as_text(name: str, value: Any) -> str:
    if isinstance(value, Mapping):
        return ",".join(_pairs(value))
    if isinstance(value, str) or not isinstance(value, Iterable):
        return _number_text(value)
    text = ",".join(map(_number_text, value))
    return f"{text}," if name == "seeds" else text  # without the comma, one seed would be a number of seeds


def _number_text(value: Any) -> str:
    return f"{value:.15g}" if isinstance(value, float) else str(value)


def _choice(name: str, choices: type[StrEnum], value: Any) -> StrEnum:
    try:
        return choices(value)
    except ValueError:
        what = f"{name} must be {alternatives(list(choices))}; {value!r} was given."
        raise UsageError(Problem(what, "Use one of them.")) from None


def _pairs(values: Mapping[str, Any]) -> Iterator[str]:
    import yaml

    for key, value in values.items():
        try:
            text = value if isinstance(value, str) else yaml.safe_dump(_plain(value), default_flow_style=True).strip()
        except yaml.YAMLError:
            fix = "Use numbers, texts, and lists and mappings of these."
            raise UsageError(Problem(f"{key} has a value that cannot be written in YAML: {value!r}.", fix)) from None
        yield f"{key}={text.removesuffix('...').strip()}"


def _plain(value: Any) -> Any:
    """Return a value with numbers and lists of Python in place of NumPy's."""
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value.tolist() if hasattr(value, "tolist") else value
