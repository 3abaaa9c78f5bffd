"""Calibrations compared with complete measurements, on a clock that counts the tokens the model reads."""

import math
from dataclasses import dataclass, replace
from typing import Any, cast

import pytest
from torch import nn

from neftune_cli.config.resolve import resolve_sweep
from neftune_cli.config.spec import ResolvedEvaluation, TrialSpec
from neftune_cli.data.examples import TokenizedExample
from neftune_cli.data.loading import load_data
from neftune_cli.evaluation import generation
from neftune_cli.models.loading import LoadedModel, load_model
from neftune_cli.models.sources import find_model
from neftune_cli.sweeps.inspection import resolved_evaluation
from neftune_cli.training import calibration
from neftune_cli.training import timing as step_timing
from neftune_cli.training.calibration import calibrate
from neftune_cli.training.cost import (
    CALIBRATION_SECONDS,
    EXTRAPOLATED,
    FULLY_MEASURED,
    PARTLY_MEASURED,
    Calibration,
    recipe_key,
)
from neftune_cli.training.prepared_data import PreparedData, prepare_data
from neftune_cli.training.trial_metrics import measure_losses, measure_losses_and_responses
from tests.small_model import SMALL_MODEL

pytestmark = pytest.mark.usefixtures("small_model")

TRAIN_EXAMPLES, NEW_TOKENS = 40, 40
QUICK, SLOW = 1e-6, 1.0
"""Seconds per token: QUICK leaves time for the most steps and rows, SLOW for the fewest."""
BACKWARD = 2
"""Duration of a backward pass, in forward passes."""


class TokenClock:
    """A clock on which each token takes `seconds` in a forward pass, and BACKWARD times as much in a backward pass."""

    def __init__(self, model: nn.Module, seconds: float) -> None:
        self.tokens, self._seconds = 0, seconds
        model.register_forward_hook(self._count, with_kwargs=True)

    def __call__(self) -> float:
        return self.tokens * self._seconds

    def _count(self, model: nn.Module, positional: tuple[Any, ...], named: dict[str, Any], _: Any) -> None:
        tokens = (named["input_ids"] if "input_ids" in named else positional[0]).numel()
        self.tokens += tokens * (1 + BACKWARD * model.training)


def setting(**train: Any) -> tuple[LoadedModel, PreparedData, TrialSpec]:
    spec = resolve_sweep(
        None,
        {
            "model": SMALL_MODEL,
            "train_examples": TRAIN_EXAMPLES,
            "eval_examples": 24,
            "alphas": (5.0,),
            "seeds": (0,),
            "train": {"batch_size": 4, "precision": "float32", **train},
            "evaluation": {"max_new_tokens": NEW_TOKENS},
        },
    )
    data = load_data(spec)
    source = find_model(spec.model)
    loaded = load_model(source)
    trial = spec.trial(spec.arms[0], 0, resolved_evaluation(spec, data.generation))
    return loaded, prepare_data(source, loaded, data, trial, device="cpu"), trial


@dataclass(frozen=True)
class Calibrated:
    """A calibration and its inputs."""

    found: Calibration
    clock: TokenClock
    loaded: LoadedModel
    prepared: PreparedData
    trial: TrialSpec


def calibrated(
    loaded: LoadedModel, prepared: PreparedData, trial: TrialSpec, *, seconds: float, limit: float = math.inf
) -> Calibrated:
    clock = TokenClock(cast(nn.Module, loaded.model), seconds)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration, "device_clock", lambda _: clock)
        patch.setattr(step_timing, "MAX_STEPS", 6)
        return Calibrated(calibrate(loaded, prepared, trial, limit), clock, loaded, prepared, trial)


@pytest.fixture(scope="module")
def quick() -> Calibrated:
    return calibrated(*setting(), seconds=QUICK)


@pytest.fixture(scope="module")
def slow() -> Calibrated:
    """Return a calibration with the fewest steps and rows."""
    return calibrated(*setting(), seconds=SLOW)


def measure_all(loaded: LoadedModel, prepared: PreparedData, evaluation: ResolvedEvaluation) -> None:
    measure_losses_and_responses(loaded.model, loaded.tokenizer, prepared, evaluation, epoch=1, not_finite_message="")


def test_steps_tokens_and_padding_of_an_epoch(quick: Calibrated) -> None:
    lengths = [len(one.input_ids) for one in quick.prepared.train]
    assert quick.found.steps_per_epoch == TRAIN_EXAMPLES // 4
    assert quick.found.tokens_per_epoch == sum(lengths)
    padded = quick.found.step * quick.found.steps_per_epoch / QUICK / (1 + BACKWARD)
    assert sum(lengths) < padded < len(lengths) * max(lengths)


def test_loss_time_of_few_examples_extrapolates_to_all(quick: Calibrated, slow: Calibrated) -> None:
    before = quick.clock()
    measure_losses(quick.loaded.model, quick.prepared, epoch=1)
    assert quick.found.measurement == pytest.approx(quick.clock() - before)
    assert slow.found.measurement / SLOW == pytest.approx(quick.found.measurement / QUICK)


def test_generation_time_of_few_tokens_extrapolates_to_all(
    quick: Calibrated, slow: Calibrated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generation, "_end_tokens", lambda *_: frozenset())  # every response reaches the limit
    before = quick.clock()
    measure_all(quick.loaded, quick.prepared, quick.trial.evaluation)
    assert quick.found.measurement + quick.found.longest_responses == pytest.approx(quick.clock() - before)
    assert slow.found.longest_responses / SLOW == pytest.approx(quick.found.longest_responses / QUICK)
    assert 0 < quick.found.responses < quick.found.longest_responses


def test_generation_time_of_transformers_includes_finished_and_padded_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, prepared, trial = setting()
    evaluation = trial.evaluation.model_copy(update={"decoding": "transformers"})
    there = calibrated(loaded, prepared, trial.model_copy(update={"evaluation": evaluation}), seconds=QUICK)
    monkeypatch.setattr(generation, "_end_tokens", lambda *_: frozenset())
    before = there.clock()
    measure_all(loaded, prepared, evaluation)
    assert there.found.measurement + there.found.longest_responses == pytest.approx(there.clock() - before)


def test_a_model_whose_steps_take_long_is_estimated_from_a_short_pass(slow: Calibrated) -> None:
    there = calibrated(*setting(), seconds=SLOW, limit=CALIBRATION_SECONDS)
    assert there.clock() <= CALIBRATION_SECONDS
    assert there.found.seconds == there.clock()
    assert (there.found.uncertainty, there.found.peak_memory) == (EXTRAPOLATED, None)
    assert there.found.step == pytest.approx(slow.found.step)
    assert there.found.measurement == pytest.approx(slow.found.measurement)
    assert there.found.longest_responses > slow.found.longest_responses


def test_training_ends_within_a_step_if_time_runs_out(slow: Calibrated) -> None:
    setup = setting(micro_batch_tokens=1)  # each example is a micro-batch
    step = (1 + BACKWARD) * sum(sorted(len(one.input_ids) for one in setup[1].train)[-4:])
    limit = 1.5 * (1.5 * step)  # training may take two thirds: one and a half steps
    there = calibrated(*setup, seconds=SLOW, limit=limit)
    assert step < there.clock() <= limit
    assert there.found.uncertainty >= PARTLY_MEASURED
    assert there.found.peak_memory is None
    lengths = [len(one.input_ids) for one in setup[1].train]
    assert there.found.step * there.found.steps_per_epoch == pytest.approx((1 + BACKWARD) * sum(lengths))
    assert slow.found.uncertainty == FULLY_MEASURED


def test_fewest_steps_give_the_same_step_time(quick: Calibrated, slow: Calibrated) -> None:
    assert slow.found.step / SLOW == pytest.approx(quick.found.step / QUICK)


def test_gradient_accumulation_counts_as_one_step(quick: Calibrated) -> None:
    together = calibrated(*setting(gradient_accumulation_steps=3), seconds=SLOW).found
    assert (quick.found.steps_per_epoch, together.steps_per_epoch) == (10, 4)
    assert together.step * 4 / SLOW == pytest.approx(quick.found.step * 10 / QUICK)


def test_packing_has_no_padding_and_lora_is_supported() -> None:
    found = calibrated(*setting(lora_rank=2, packing=True), seconds=SLOW).found
    assert found.steps_per_epoch < TRAIN_EXAMPLES // 4
    assert found.step * found.steps_per_epoch == pytest.approx(SLOW * (1 + BACKWARD) * found.tokens_per_epoch)


def test_plain_texts_have_no_generation_time() -> None:
    loaded, prepared, trial = setting()

    def texts(examples: tuple[TokenizedExample, ...]) -> tuple[TokenizedExample, ...]:
        return tuple(replace(one, example=replace(one.example, prompt=()), prompt_length=0) for one in examples)

    plain = replace(
        prepared, train=texts(prepared.train), held_out=texts(prepared.held_out), probe=texts(prepared.probe)
    )
    found = calibrated(loaded, plain, trial, seconds=SLOW).found
    assert (found.responses, found.longest_responses) == (0.0, 0.0)


def test_recipe_key_changes_with_the_cost_of_a_step() -> None:
    train = resolve_sweep(None, {}).train
    same = {"learning_rate": 0.5, "epochs": 7.0, "sft": {"weight_decay": 0.1, "lr_scheduler_type": "cosine"}}
    assert recipe_key(train.model_copy(update=same)) == recipe_key(train)
    for change in (
        {"batch_size": 3},
        {"max_length": 9},
        {"lora_rank": 2},
        {"precision": "bfloat16"},
        {"micro_batch_tokens": 0},
        {"sft": {"optim": "adafactor"}},
    ):
        assert recipe_key(train.model_copy(update=change)) != recipe_key(train)


def test_trial_cost_computed_by_hand() -> None:
    train = resolve_sweep(None, {"train": {"epochs": 2.5}}).train
    found = Calibration(
        recipe=recipe_key(train),
        setup=1.0,
        step=0.5,
        measurement=4.0,
        responses=10.0,
        longest_responses=30.0,
        steps_per_epoch=8,
        tokens_per_epoch=1000,
        peak_memory=1,
    )
    whole = found.estimate(train, is_base=False)
    assert whole.tokens == 2500
    assert whole.seconds == 1.0 + 20 * 0.5 + 3 * 4.0 + 10.0  # the incomplete third epoch is measured as well
    short = found.estimate(train.model_copy(update={"max_steps": 8}), is_base=False)
    assert (short.tokens, short.seconds) == (1000, 1.0 + 8 * 0.5 + 4.0 + 10.0)
    base = found.estimate(train, is_base=True)
    assert (base.tokens, base.seconds) == (0, 4.0 + 30.0)


def test_a_step_of_another_recipe_costs_the_same_per_example() -> None:
    train = resolve_sweep(None, {"train": {"batch_size": 4, "epochs": 2.0}}).train
    found = Calibration(
        recipe_key(train), 1.0, 0.5, 4.0, 10.0, 30.0, steps_per_epoch=10, tokens_per_epoch=1000, peak_memory=1
    )
    larger = train.model_copy(update={"batch_size": 6, "sft": {"gradient_accumulation_steps": 2}})
    other = found.adapted_to(larger)
    assert (other.recipe, other.uncertainty, other.peak_memory) == (recipe_key(larger), PARTLY_MEASURED, None)
    cost = other.estimate(larger, is_base=False)
    assert cost.tokens == 2000
    assert cost.seconds == 1.0 + 8 * 1.5 + 2 * 4.0 + 10.0  # 40 examples, 12 per step: 4 steps in each of 2 epochs
