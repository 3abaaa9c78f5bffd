"""Defaults, a file and flags become one spec; what is wrong in them is said all at once."""

from pathlib import Path

import pytest

from neftune_cli.config.resolve import dump_spec, load_spec, resolve_sweep
from neftune_cli.config.spec import SweepSpec
from neftune_cli.errors import UsageError
from neftune_cli.sweeps.plan import differences, merged


def experiment(folder: Path, text: str) -> Path:
    file = folder / "experiment.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def test_nothing_given_means_the_documented_defaults() -> None:
    spec = resolve_sweep(None, {})
    assert (spec.model, spec.dataset, spec.seeds) == ("tiny", "bios", (0, 1, 2))
    assert [arm.name for arm in spec.arms] == ["alpha=0", "alpha=5", "alpha=10", "alpha=15"]


def test_flags_override_the_file_and_the_file_the_defaults(tmp_path: Path) -> None:
    file = experiment(tmp_path, "train: {epochs: 7, learning_rate: 1.0e-4}\nseeds: [4]\narms: [{alpha: 1}]\n")
    spec = resolve_sweep(file, {"train": {"epochs": 2.0}, "alphas": [3.0]})
    assert (spec.train.epochs, spec.train.learning_rate, spec.train.batch_size) == (2.0, 1e-4, 16)
    assert (spec.seeds, [arm.alpha for arm in spec.arms]) == ((4,), [3.0])


def test_arms_are_named_overrides(tmp_path: Path) -> None:
    file = experiment(
        tmp_path,
        """
arms:
  - {alpha: 0}
  - {alpha: 5, noise: gaussian}
  - {name: weight decay, alpha: 0, train: {weight_decay: 0.1, epochs: 1}}
""",
    )
    spec = resolve_sweep(file, {})
    recipes = [spec.recipe_of(arm) for arm in spec.arms]
    assert [arm.name for arm in spec.arms] == ["alpha=0", "alpha=5,noise=gaussian", "weight decay"]
    assert [spec.noise_of(arm).noise for arm in spec.arms] == ["uniform", "gaussian", "uniform"]
    assert recipes[2].sft == {"weight_decay": 0.1}
    assert recipes[2].epochs == 1.0
    assert recipes[0].sft == {}


def test_other_models_and_lora_have_their_own_learning_rate() -> None:
    rates = [
        resolve_sweep(None, {"model": "x/y", "train": train}).train.learning_rate for train in ({}, {"lora_rank": 8})
    ]
    assert rates == [2e-5, 2e-4]


def test_every_problem_of_a_file_is_named(tmp_path: Path) -> None:
    file = experiment(tmp_path, "modle: tiny\nseeds: [1, 1]\ntrain: {epochs: -1}\n")
    with pytest.raises(UsageError) as caught:
        resolve_sweep(file, {})
    text = str(caught.value)
    assert "there is no field 'modle'. Did you mean 'model'?" in text
    assert "train.epochs: input should be greater than 0, not -1" in text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "line 1 is not valid YAML"),
        ("just words", "has no fields"),
        ("arms: 5", "arms is not a list of overrides"),
        ("arms: [{alpha: -1}]", "greater than or equal to 0"),
        ("arms: [{alpha: 5}, {alpha: 5}]", "repeated arm name: alpha=5"),
        ("arms: [{train: {epochs: none}}]", "valid number"),
        ("train: 3", "train: 3 is not a mapping of fields"),
    ],
)
def test_a_wrong_file_is_explained(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        resolve_sweep(experiment(tmp_path, text), {})


def test_a_missing_file_is_explained(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        resolve_sweep(tmp_path / "none.yaml", {})


def test_a_dumped_spec_is_the_spec_again() -> None:
    spec = resolve_sweep(None, {"train": {"lora_rank": 4, "weight_decay": 0.1}, "alphas": [0.0, 2.5]})
    assert load_spec(dump_spec(spec, schema_version=4)) == spec


def sweep(alphas: list[float], **flags: object) -> SweepSpec:
    return resolve_sweep(None, {"alphas": alphas, **flags})


def test_a_sweep_grows_by_arms_and_seeds() -> None:
    whole = merged(sweep([0.0, 10.0], seeds=[0, 3]), sweep([0.0, 5.0], seeds=[1]))
    assert [arm.alpha for arm in whole.arms] == [0.0, 5.0, 10.0]
    assert whole.seeds == (0, 1, 3)


def test_differences_are_said_field_by_field() -> None:
    there, here = sweep([0.0], train={"epochs": 3.0}), sweep([5.0], train={"epochs": 5.0, "weight_decay": 0.1})
    assert list(differences(there, here)) == [
        "train.epochs is 3.0 there and 5.0 here",
        "train.weight_decay is not set there and 0.1 here",
    ]
    assert not list(differences(sweep([0.0]), sweep([7.0])))
