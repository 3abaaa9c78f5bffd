"""Ratings of the responses by judges of a sweep: annotations of AlpacaEval, or a CSV file."""

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from neftune_cli.config.spec import BASE_ARM
from neftune_cli.errors import Problem, UsageError, alternatives, did_you_mean
from neftune_cli.evidence.added_metrics import ItemScores, with_item_metric, with_trial_metric
from neftune_cli.evidence.measurements import Evidence, Floats
from neftune_cli.evidence.trials import TrialResponses, only_sweep, stored_responses
from neftune_cli.file_formats import csv_cells_of_any_size
from neftune_cli.formatting import listed_at_most
from neftune_cli.metrics import HELD_OUT_RESPONSES, Margin, Metric

JUDGE_SCORE = Metric(
    key="judge_score",
    name="Judge score",
    unit="as given",
    goal="higher",
    decimals=3,
    margin=Margin(0.02, relative=True),
    section=HELD_OUT_RESPONSES,
    stored=False,
)
JUDGE_WIN_RATE = Metric(
    key="judge_win_rate",
    name="Judge win rate",
    unit="0 to 1",
    goal="higher",
    decimals=3,
    margin=Margin(0.02),
    section=HELD_OUT_RESPONSES,
    bounds=(0.0, 1.0),
    stored=False,
)
LENGTH_CONTROLLED = Metric(
    key="judge_win_rate_lc",
    name="Judge win rate at equal length",
    unit="0 to 1",
    goal="higher",
    decimals=3,
    margin=Margin(0.02),
    section=HELD_OUT_RESPONSES,
    bounds=(0.0, 1.0),
    per_item=False,
    stored=False,
)
CSV_COLUMNS = ("id", "arm", "seed", "score")
_TIES, _FIRST, _SECOND = (0.0, 1.5), 1.0, 2.0
"""AlpacaEval's preferences: 1 for the reference, 2 for the judged output, and between them for a weighted verdict."""
_MOST_PROBLEMS = 10
_SLOPE_PENALTY = 0.01
"""Weight of the squared slope of a win rate at equal length, so that lengths that separate wins give a finite slope."""
_FIX = "Use AlpacaEval's annotations.json, or a CSV file with the columns id, arm, seed, score."


@dataclass
class _Ratings:
    """Ratings that were read so far, with the problems of the others."""

    path: Path
    scores: ItemScores = field(default_factory=dict)
    lengths: ItemScores = field(default_factory=dict)
    """Length of the judged response minus that of the reference, in characters, where an annotation has both."""
    problems: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    """Lines of each problem, by its description and its fix."""

    def refuse(self, line: int, what: str, fix: str) -> None:
        """Note a problem of a line."""
        self.problems.setdefault((what, fix), []).append(line)

    def add(self, line: int, trial: str, example: str, score: float) -> None:
        """Add a score, or the problem that the response has two."""
        of_trial = self.scores.setdefault(trial, {})
        if example in of_trial:
            self.refuse(line, "this response has a rating on an earlier line", "Keep one rating for each response.")
        else:
            of_trial[example] = score

    def raise_problems(self) -> None:
        """Raise the first problems, each with its first lines, and the number of the others, if there are any."""
        more = len(self.problems) - _MOST_PROBLEMS
        rest = [Problem(f"{self.path} has {more} more problems.", "Correct these first.")] if more > 0 else []
        first = [
            Problem(f"--judge-results {self.path}, {_in_words(lines)}: {what}.", fix)
            for (what, fix), lines in islice(self.problems.items(), _MOST_PROBLEMS)
        ]
        if first:
            raise UsageError(*first, *rest)


def _in_words(lines: Sequence[int]) -> str:
    return f"line{'s' if len(lines) > 1 else ''} {listed_at_most([str(line) for line in lines], 5)}"


def with_judgments(evidence: Sequence[Evidence], path: Path) -> list[Evidence]:
    """Return the evidence with the ratings in a file as a further metric of its only sweep.

    Raises:
        UsageError: the file cannot be read, a line is not valid, or it names an unknown example, arm or seed.
    """
    sweep = only_sweep(evidence, "--judge-results")
    responses = stored_responses(sweep)
    ratings = _Ratings(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UsageError(Problem(f"--judge-results {path} cannot be read: {reason}.", _FIX)) from None
    is_json = text.lstrip()[:1] in ("[", "{")
    (_read_annotations if is_json else _read_csv)(text, responses, ratings)
    ratings.raise_problems()
    if not ratings.scores:
        raise UsageError(Problem(f"--judge-results {path} has no rating.", _FIX))
    metric = JUDGE_WIN_RATE if is_json else JUDGE_SCORE
    judged = with_item_metric(sweep, metric, ratings.scores, str(path))
    if is_json:
        judged = with_trial_metric(judged, LENGTH_CONTROLLED, _length_controlled(judged, ratings.lengths))
    judged = replace(judged, origin=replace(judged.origin, reading_options=("--judge-results", str(path))))
    return [judged if one is sweep else one for one in evidence]


def _length_controlled(judged: Evidence, lengths: ItemScores) -> dict[str, float]:
    """Return trial id to win rate at equal length, for the trials whose lengths are all known."""
    rates = {}
    for trial in judged.trials:
        wins, of_trial = trial.items.get(JUDGE_WIN_RATE.key), lengths.get(trial.trial_id, {})
        if wins is None or not set(wins.items) <= of_trial.keys():
            continue
        differences = np.array([of_trial[item] for item in wins.items], dtype=np.float64)
        if (rate := length_controlled_win_rate(wins.values, differences)) is not None:
            rates[trial.trial_id] = rate
    return rates


def length_controlled_win_rate(
    wins: Floats,  # (items,), 0 to 1
    length_differences: Floats,  # (items,), characters
) -> float | None:
    """Return the expected share of wins if both responses had the same length, as in AlpacaEval 2 (arXiv 2404.04475).

    A logistic regression explains the wins by tanh(difference / standard deviation of the differences), and the result
    is its prediction at a difference of 0. AlpacaEval 2 has one more term, the difficulty of each instruction, which it
    estimates from many other models.

    Args:
        wins: 1 for a win over the reference, 0 for a loss, a number between them for a tie or a weighted preference.
        length_differences: length of the response minus that of the reference.

    Returns:
        The win rate, 0 to 1; None if a constant difference in length cannot be told from a difference in quality.
    """
    spread = float(length_differences.std())
    if wins.min() == wins.max() or not length_differences.any():
        return float(wins.mean())
    if not spread:
        return None
    from sklearn.linear_model import LogisticRegression

    feature = np.tanh(length_differences / spread)[:, None]
    outcomes, weights = np.repeat([1, 0], len(wins)), np.concatenate([wins, 1 - wins])
    model = LogisticRegression(C=1 / _SLOPE_PENALTY)
    model.fit(np.concatenate([feature, feature]), outcomes, sample_weight=weights)
    return float(model.predict_proba([[0.0]])[0, 1])


def _read_csv(text: str, responses: Sequence[TrialResponses], ratings: _Ratings) -> None:
    rows = csv.DictReader(io.StringIO(text), strict=True)  # `splitlines` would also split at other characters
    line = 1
    try:
        with csv_cells_of_any_size():
            columns = [name.strip().lower() for name in rows.fieldnames or ()]
            if missing := [name for name in CSV_COLUMNS if name not in columns]:
                what = f"--judge-results {ratings.path}: there is no column {', '.join(missing)}."
                raise UsageError(Problem(what, _FIX))
            rows.fieldnames = columns
            line = rows.line_num + 1
            for row in rows:
                _read_row({name: (row.get(name) or "").strip() for name in CSV_COLUMNS}, line, responses, ratings)
                line = rows.line_num + 1
    except csv.Error as error:
        ratings.refuse(line, f"this is not valid CSV ({error})", "Correct the line.")


def _read_row(row: Mapping[str, str], line: int, responses: Sequence[TrialResponses], ratings: _Ratings) -> None:
    of_arm = [one for one in responses if one.arm == row["arm"]]
    if not of_arm:
        arms = list(dict.fromkeys(one.arm for one in responses))
        fix = did_you_mean(row["arm"], arms) or f"Use {alternatives(arms)}."
        return ratings.refuse(line, f"the arm {row['arm']!r} is unknown", fix)
    of_seed = [one for one in of_arm if row["arm"] == BASE_ARM or one.seed == _number(row["seed"])]  # pandas writes 0.0
    if not of_seed:
        seeds = alternatives(str(one.seed) for one in of_arm)
        return ratings.refuse(line, f"{row['arm']} has no finished trial with seed {row['seed']!r}", f"Use {seeds}.")
    if row["id"] not in {response.example for response in of_seed[0].responses}:
        fix = "Use the values of the field `example` in generations.jsonl."
        return ratings.refuse(line, f"the id {row['id']!r} is not a held-out example of the sweep", fix)
    if not row["score"]:
        return None
    score = _number(row["score"])
    if score is None:
        fix = "Use a number, or leave the score empty."
        return ratings.refuse(line, f"the score {row['score']!r} is not a finite number", fix)
    return ratings.add(line, of_seed[0].trial_id, row["id"], score)


def _read_annotations(text: str, responses: Sequence[TrialResponses], ratings: _Ratings) -> None:
    trials = {one.name: one for one in responses}
    opponents: dict[str, int] = {}
    for line, annotation in _objects(text, ratings):
        generator, instruction = annotation.get("generator_2"), annotation.get("instruction")
        if generator is None:
            ratings.refuse(line, "this is no annotation of AlpacaEval: there is no generator_2", _FIX)
            continue
        opponents.setdefault(str(annotation.get("generator_1")), line)
        trial = trials.get(str(generator))
        if trial is None:
            fix = did_you_mean(str(generator), trials) or f"Use {alternatives(trials)}."
            ratings.refuse(line, f"generator_2 is {generator!r}, which is not a trial of the sweep", fix)
            continue
        examples = [one.example for one in trial.responses if one.prompt == instruction]
        if not examples:
            fix = "Judge the files that `neftune export --to alpaca-eval` writes."
            ratings.refuse(line, "the instruction is not a held-out prompt of the sweep", fix)
            continue
        _add_preference(annotation.get("preference"), line, trial.trial_id, examples, ratings)
        theirs, own = annotation.get("output_1"), annotation.get("output_2")
        if isinstance(theirs, str) and isinstance(own, str):
            difference = float(len(own) - len(theirs))
            ratings.lengths.setdefault(trial.trial_id, {}).update(dict.fromkeys(examples, difference))
    if len(opponents) > 1:
        (first, _), (other, line), *_ = opponents.items()
        fix = "Judge all outputs against the same reference outputs."
        ratings.refuse(line, f"generator_1 is {other!r}, and {first!r} on earlier lines", fix)


def _add_preference(value: Any, line: int, trial: str, examples: Sequence[str], ratings: _Ratings) -> None:
    preference = _number(value)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return
    if preference is None or not (preference in _TIES or _FIRST <= preference <= _SECOND):
        ratings.refuse(line, f"the preference is {value!r}", "Use a number from 1 to 2, 0 for a tie, or null.")
        return
    won = 0.5 if preference in _TIES else preference - _FIRST
    for example in examples:
        ratings.add(line, trial, example, won)


def _objects(text: str, ratings: _Ratings) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield each object of a JSON array with the line at which it begins."""
    decoder = json.JSONDecoder()
    position = _after(text, 0)
    closing = {"[": "]"}.get(text[position])
    position = _after(text, position + 1) if closing else position
    while text[position : position + 1] not in ("", closing):
        line = text.count("\n", 0, position) + 1
        try:
            value, end = decoder.raw_decode(text, position)
        except (json.JSONDecodeError, RecursionError):
            ratings.refuse(line, "the annotation is not valid JSON", "Correct it, or write the file again.")
            return
        if isinstance(value, dict):
            yield line, value
        else:
            ratings.refuse(line, "the annotation is not an object", _FIX)
        position = _after(text, end)
        position = _after(text, position + 1) if text[position : position + 1] == "," else position
    if closing and not text[position : position + 1]:
        ratings.refuse(text.count("\n") + 1, "the closing bracket is missing", "Write the file again.")


def _after(text: str, position: int) -> int:
    """Return the position of the first character at or after a position that is no white space."""
    while text[position : position + 1].isspace():
        position += 1
    return position


def _number(value: Any) -> float | None:
    """Return a finite number, None for anything else."""
    try:
        number = float(value) if not isinstance(value, bool) else math.nan
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
