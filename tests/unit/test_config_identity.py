"""A trial's id changes with everything that can change its numbers, and with nothing else."""

import hashlib
from typing import Any

import pytest

from neftune_cli.config.identity import canonical_json, trial_id, trial_identity
from neftune_cli.config.resolve import resolve_sweep
from neftune_cli.config.spec import ResolvedEvaluation

ENVIRONMENT = {"device": "cpu"}


def identity(alphas: list[float] | None = None, seed: int = 0, data: str = "d", **flags: Any) -> str:
    spec = resolve_sweep(None, {"alphas": alphas or [5.0], **flags})
    length = spec.evaluation.max_new_tokens or 96
    evaluation = ResolvedEvaluation(max_length=256, max_new_tokens=length, repetition_penalty=1.0)
    trial = spec.trial(spec.arms[0], seed, evaluation)
    return trial_id(trial_identity(trial, model_fingerprint="m", data_fingerprint=data, environment=ENVIRONMENT))


def test_the_id_is_the_same_every_time() -> None:
    assert identity() == identity()


def test_what_can_change_the_numbers_changes_the_id() -> None:
    changed = [
        identity([6.0]),
        identity(seed=1),
        identity(data="other"),
        identity(noise="gaussian"),
        identity(noise_scale="hf"),
        identity(train={"epochs": 4.0}),
        identity(train={"weight_decay": 0.1}),
        identity(evaluation={"max_new_tokens": 7}),
    ]
    assert len({identity(), *changed}) == len(changed) + 1


def test_names_and_other_arms_do_not_change_it() -> None:
    assert identity([5.0, 10.0]) == identity()
    assert identity(model="tiny", dataset="elsewhere/bios.jsonl") == identity()
    assert identity(train={"epochs": 3}) == identity(train={"epochs": 3.0})


def test_without_noise_its_shape_does_not_matter() -> None:
    assert identity([0.0], noise="gaussian", noise_scale="hf") == identity([0.0])


def test_canonical_json_against_a_text_written_by_hand() -> None:
    value = {"b": [1.0, 2.5, True, None], "a": {"é": 1e-4}}
    assert canonical_json(value) == '{"a":{"\\u00e9":0.0001},"b":[1,2.5,true,null]}'
    assert trial_id(value) == hashlib.sha256(canonical_json(value).encode()).hexdigest()[:12]


@pytest.mark.parametrize("value", [{"a": {1, 2}}, {"a": object()}, {1: "a"}])
def test_what_has_no_stable_identity_raises(value: Any) -> None:
    with pytest.raises(TypeError, match="no stable identity"):
        canonical_json(value)


def test_a_number_that_is_none_raises() -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical_json({"a": float("nan")})
