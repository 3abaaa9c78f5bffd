"""Checks before a verdict: learning, room, divergence, and the bundled model, on hand-made scores."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from neftune_cli.analysis.alignment import TrialsByArm
from neftune_cli.analysis.learning import Learning, check_learning
from neftune_cli.evidence.measurements import Setting
from neftune_cli.metrics import METRICS, Margin
from tests.measured_trials import arm, item_values, joined

KEYS = ("eval_loss", "exact_match", "rouge_l")
Scores = Mapping[str, float | None]
BASE: Scores = {"eval_loss": 3.0, "exact_match": 0.0, "rouge_l": 0.10}


def arms(noisy: Sequence[float] = (), **baseline: float | Sequence[float]) -> TrialsByArm:
    """Return a baseline of three seeds with these scores, and an arm with these held-out losses."""
    values = {key: np.broadcast_to(np.array(one, dtype=float), 3) for key, one in baseline.items()}
    return joined(arm("alpha=0", 0.0, values), *([arm("alpha=5", 5.0, {"eval_loss": noisy})] if len(noisy) else []))


def check(
    trials: TrialsByArm,
    base: Scores | None = BASE,
    *,
    primary: str = "eval_loss",
    setting: Setting | None = None,
    margins: Mapping[str, Margin] | None = None,
) -> Learning:
    measured = {key: METRICS[key] for key in KEYS if any(key in one.scores for one in trials["alpha=0"].values())}
    margins = {key: metric.margin for key, metric in measured.items()} | dict(margins or {})
    return check_learning(trials, "alpha=0", base, measured, margins, primary=primary, setting=setting)


def test_lower_loss_is_learning() -> None:
    assert check(arms(eval_loss=1.0)) == Learning(has_learned=True)


def test_unknown_base_model_is_no_answer() -> None:
    assert check(arms(eval_loss=1.0), None) == Learning(has_learned=None)


def test_sweep_that_learned_nothing_says_what_to_change() -> None:
    found = check(arms(eval_loss=3.1, exact_match=0.0, rouge_l=0.09))

    assert not found.has_learned
    assert found.problems == (
        "Fine-tuning with alpha=0 does not improve held-out loss, exact match or ROUGE-L over the base model. "
        "Train longer, or use another learning rate.",
    )


@pytest.mark.parametrize(("rouge", "learned"), [(0.11, False), (0.12, False), (0.13, True)])
def test_responses_show_learning_only_beyond_their_margin(rouge: float, learned: bool) -> None:
    """The margin of ROUGE-L is 0.02."""
    assert check(arms(eval_loss=3.1, exact_match=0.0, rouge_l=rouge)).has_learned is learned


def test_a_margin_of_the_user_is_the_margin_of_learning() -> None:
    trials = arms(eval_loss=3.1, exact_match=0.0, rouge_l=0.14)
    assert check(trials).has_learned
    assert not check(trials, margins={"rouge_l": Margin(0.05)}).has_learned


def test_loss_that_was_lower_after_an_earlier_epoch_asks_for_fewer_epochs() -> None:
    losses = {1: 2.5, 2: 2.0, 3: 3.5}
    by_epoch = {epoch: item_values([loss - 1, loss + 1]) for epoch, loss in losses.items()}
    (name, trials) = next(iter(arms(eval_loss=3.5).items()))

    found = check({name: {seed: replace(one, held_out_by_epoch=by_epoch) for seed, one in trials.items()}})

    assert found.problems[0].endswith("After epoch 2 the held-out loss was lower than before training: use --epochs 2.")


def test_seed_that_learned_nothing_is_named() -> None:
    found = check(arms([1.0, 3.2, 1.0], eval_loss=[1.0, 1.0, 3.0]))

    assert found.has_learned
    assert found.problems == (
        "The held-out loss of alpha=0 (seed 2) and alpha=5 (seed 1) is not lower than that of the base model. "
        "Inspect the learning curves; a smaller learning rate can help.",
    )


def test_a_higher_loss_is_a_problem_although_the_responses_improve() -> None:
    found = check(arms(eval_loss=3.2, exact_match=0.3, rouge_l=0.4))

    assert found.has_learned
    assert found.problems == (
        "The held-out loss of alpha=0 is not lower than that of the base model, although the responses are better. "
        "Use fewer epochs or a smaller learning rate, or choose another metric with --metric in a new sweep.",
    )


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_diverged_trials_are_named_first(value: float) -> None:
    found = check(arms([1.0, value, value], eval_loss=1.0))

    assert found.has_learned
    assert found.problems == (
        "The training of alpha=5 (seeds 1, 2) diverged. Use a smaller learning rate, or less noise.",
    )


def test_diverged_baseline_gives_no_answer() -> None:
    found = check(arms(eval_loss=[1.0, math.inf, 1.0]))

    assert found.has_learned is None
    assert found.problems[0] == "The training of alpha=0 (seed 1) diverged. Use a smaller learning rate."


def test_metric_without_room_for_an_improvement() -> None:
    found = check(arms(eval_loss=1.0, exact_match=[1.0, 1.0, 0.97], rouge_l=0.9))

    assert found.problems == (
        "Exact match of alpha=0 is 0.990, so it can hardly improve. Use harder held-out examples.",
    )


def test_metric_that_is_all_wrong_matters_if_it_is_the_primary_one() -> None:
    trials = arms(eval_loss=1.0, exact_match=[0.0, 0.01, 0.0], rouge_l=0.4)

    assert check(trials).problems == ()
    assert check(trials, primary="exact_match").problems == (
        "Exact match is at most 0.003 in every arm, so it can hardly show a difference. Train longer, or choose "
        "another metric with --metric.",
    )
    (all_wrong,) = check(arms(eval_loss=1.0, exact_match=0.0, rouge_l=0.4), primary="exact_match").problems
    assert all_wrong.startswith("Exact match is 0 in every arm, so")


@pytest.mark.parametrize(
    ("model", "data", "is_named"),
    [("tiny", "bios", False), ("tiny", "mine.jsonl", True), ("SmolLM2-135M", "mine.jsonl", False), ("", "", False)],
)
def test_bundled_model_on_other_data_is_for_a_trial_run(model: str, data: str, is_named: bool) -> None:
    problems = check(arms(eval_loss=1.0), setting=Setting(model, data, {}, {})).problems

    assert problems == (
        (
            "The bundled model tiny was pretrained only on facts about fictional people. On mine.jsonl it is "
            "suitable only for trying out the tool: its results say nothing about other models. Use --model with the "
            "model that you want to fine-tune.",
        )
        if is_named
        else ()
    )
