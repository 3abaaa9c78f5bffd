"""Ids of trials, which depend on the model, the data, the spec and the environment, and not on run settings."""

import hashlib
from typing import Any

import pytest

from neftune_cli.config.canonical_json import canonical_json
from neftune_cli.config.identity import (
    base_identity,
    trial_id,
    trial_identity,
)
from neftune_cli.config.resolve import resolve_sweep
from neftune_cli.config.spec import Affects, HarnessTasks, InputSpec, NoiseSpec, ResolvedEvaluation, TrainSpec
from neftune_cli.training.cost import COSTLY_FIELDS

CONTENT: dict[str, Any] = {"model_fingerprint": "m", "data_fingerprint": "d", "environment": {"device": "cpu"}}
EVALUATION = ResolvedEvaluation(max_length=256, max_new_tokens=96, repetition_penalty=1.0)
OTHER_EVALUATION = ResolvedEvaluation(max_length=512, max_new_tokens=128, repetition_penalty=1.2)


def identity(
    alphas: list[float] | None = None,
    seed: int = 0,
    data: str = "d",
    evaluation: ResolvedEvaluation = EVALUATION,
    **options: Any,
) -> str:
    spec = resolve_sweep(None, {"alphas": alphas or [5.0], **options})
    trial = spec.trial(spec.arms[0], seed, evaluation)
    return trial_id(trial_identity(trial, **{**CONTENT, "data_fingerprint": data}))


def test_ids_of_this_version_of_the_method_are_unchanged() -> None:
    noise: dict[str, Any] = {"noise": "gaussian", "noise_schedule": "cosine", "noise_target": "prompt"}
    lora = {"lora_rank": 8, "weight_decay": 0.1, "epochs": 1.5}
    assert [
        identity([0.0]),
        identity([5.0], seed=1),
        identity([10.0], seed=2, noise_scale="hf", **noise),
        identity([15.0], evaluation=OTHER_EVALUATION, model="org/model", train=lora),
    ] == ["05e191e119c1", "058dade3869b", "6916b6ed00a3", "bb0b974a60ec"]
    spec = resolve_sweep(None, {"alphas": [5.0]})
    assert trial_id(base_identity(spec.trial(spec.arms[0], 0, EVALUATION), **CONTENT)) == "0a3f6ec8c9ad"


def test_a_new_field_changes_the_id_only_when_it_is_set() -> None:
    class LaterNoiseSpec(NoiseSpec):
        warmup: float = 0.0

    class LaterTrainSpec(TrainSpec):
        ema_decay: float | None = None

    class LaterEvaluation(ResolvedEvaluation):
        beams: int = 1

    def later_id(warmup: float = 0.0, ema_decay: float | None = None, beams: int = 1) -> str:
        later = {
            "noise": LaterNoiseSpec(**original.noise.model_dump(), warmup=warmup),
            "train": LaterTrainSpec(**original.train.model_dump(), ema_decay=ema_decay),
            "evaluation": LaterEvaluation(**original.evaluation.model_dump(), beams=beams),
        }
        return trial_id(trial_identity(original.model_copy(update=later), **CONTENT))

    spec = resolve_sweep(None, {"alphas": [5.0]})
    original = spec.trial(spec.arms[0], 1, EVALUATION)
    unchanged = "058dade3869b"  # as in the test above
    assert later_id() == unchanged
    assert len({unchanged, later_id(warmup=0.1), later_id(ema_decay=0.9), later_id(beams=4)}) == 4


def test_everything_that_can_change_the_numbers_changes_the_id() -> None:
    changed = [
        identity([6.0]),
        identity(seed=1),
        identity(data="other"),
        identity(noise="gaussian"),
        identity(noise_scale="hf"),
        identity(train={"epochs": 4.0}),
        identity(train={"weight_decay": 0.1}),
        identity(train={"precision": "bfloat16"}),
        identity(train={"micro_batch_tokens": 0}),
        identity(evaluation=OTHER_EVALUATION),
    ]
    assert len({identity(), *changed}) == len(changed) + 1


def test_the_examples_of_the_loss_curves_change_the_id_of_a_training_but_not_of_the_base_model() -> None:
    spec = resolve_sweep(None, {"alphas": [5.0]})
    few = EVALUATION.model_copy(update={"curve_examples": 20})
    assert identity(evaluation=few) != identity()
    ids = {trial_id(base_identity(spec.trial(spec.arms[0], 0, one), **CONTENT)) for one in (EVALUATION, few)}
    assert ids == {"0a3f6ec8c9ad"}  # as in the first test


def test_the_number_of_probe_examples_changes_the_id_of_a_training_and_of_the_base_model() -> None:
    spec = resolve_sweep(None, {"alphas": [5.0]})
    few = EVALUATION.model_copy(update={"probe_examples": 20})
    assert identity(evaluation=few) != identity()
    assert trial_id(base_identity(spec.trial(spec.arms[0], 0, few), **CONTENT)) != "0a3f6ec8c9ad"


def test_tasks_of_a_harness_change_the_id_by_what_they_ask_and_not_by_their_paths() -> None:
    tasks = HarnessTasks(entries=("a.yaml",), names=("sums",), limit=None, version="1", content="aa")
    changes: list[dict[str, Any]] = [{}, {"content": "bb"}, {"limit": 5}, {"names": ("words",)}, {"version": "2"}]
    evaluations = [EVALUATION.model_copy(update={"lm_eval": tasks.model_copy(update=change)}) for change in changes]
    assert len({identity(), *(identity(evaluation=one) for one in evaluations)}) == 6
    elsewhere = tasks.model_copy(update={"entries": ("other/b.yaml",)})
    same = EVALUATION.model_copy(update={"lm_eval": elsewhere})
    assert identity(evaluation=same) == identity(evaluation=evaluations[0])


def test_a_precision_that_is_set_replaces_that_of_the_hardware() -> None:
    def with_hardware(precision: str, train: dict[str, Any]) -> str:
        spec = resolve_sweep(None, {"alphas": [5.0], "train": train})
        environment = {"device": "cpu", "precision": precision}
        return trial_id(
            trial_identity(spec.trial(spec.arms[0], 0, EVALUATION), **{**CONTENT, "environment": environment})
        )

    assert with_hardware("float32", {}) == with_hardware("bfloat16", {})  # the recipe of tiny sets float32
    auto = {"precision": "auto"}
    assert with_hardware("float32", auto) != with_hardware("bfloat16", auto)
    assert with_hardware("bfloat16", auto) == with_hardware("float32", {"precision": "bfloat16"})


def test_names_and_other_arms_do_not_change_the_id() -> None:
    assert identity([5.0, 10.0]) == identity()
    assert identity(model="tiny", dataset="elsewhere/bios.jsonl") == identity()
    assert identity(train={"epochs": 3}) == identity(train={"epochs": 3.0})


def test_with_alpha_0_other_noise_fields_do_not_change_the_id() -> None:
    assert identity([0.0], noise="gaussian", noise_scale="hf") == identity([0.0])


def test_canonical_json_of_a_small_value() -> None:
    written = '{"a":{"\\u00e9":0.0001},"b":[1,2.5,true,null]}'
    assert canonical_json({"b": [1.0, 2.5, True, None], "a": {"é": 1e-4}}) == written


def test_an_id_is_the_beginning_of_the_sha256_digest() -> None:
    # printf '%s' '{"a":1}' | sha256sum
    assert trial_id({"a": 1.0}) == "015abd7f5cc5"
    assert hashlib.sha256(b'{"a":1}').hexdigest().startswith("015abd7f5cc5")


@pytest.mark.parametrize("value", [{"a": {1, 2}}, {"a": object()}, {1: "a"}])
def test_a_value_without_a_unique_representation_raises(value: Any) -> None:
    with pytest.raises(TypeError, match="no stable identity"):
        canonical_json(value)


def test_a_number_that_is_not_finite_raises() -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical_json({"a": float("nan")})


def test_every_field_of_the_inputs_has_one_place_in_the_cache_and_one_in_the_identity() -> None:
    with_effect = {effect: InputSpec().inputs_with(effect).keys() for effect in Affects}
    in_cache = [*with_effect[Affects.WEIGHTS], *with_effect[Affects.TOKENS], *with_effect[Affects.ROWS]]
    assert sorted(in_cache) == sorted(InputSpec.model_fields)
    in_fingerprints = {"model", *with_effect[Affects.ROWS]} - {"skip_bad_rows", "loss"}
    assert sorted([*in_fingerprints, *with_effect[Affects.IDENTITY]]) == sorted(InputSpec.model_fields)


def test_every_field_of_a_recipe_has_a_cost_or_none() -> None:
    without_cost = ["epochs", "max_steps", "learning_rate"]  # and `sft`, whose fields are read one by one
    assert sorted([*COSTLY_FIELDS, *without_cost, "sft"]) == sorted(TrainSpec.model_fields)
