"""Arms of a sweep from lists, from grids, and from options."""

from typing import Any

import pytest
from pydantic.fields import FieldInfo

from neftune_cli.config import spec as spec_module
from neftune_cli.config.arm_names import arm_name, arms_named
from neftune_cli.config.arms import arms_of
from neftune_cli.config.field_problems import choices_of, example_of
from neftune_cli.config.resolve import resolve_sweep
from neftune_cli.config.spec import ArmSpec, NoiseDetails
from neftune_cli.errors import Problems, UsageError


def names(written: dict[str, Any], **options: Any) -> list[str]:
    problems = Problems()
    arms = arms_of(written, options, problems)
    problems.raise_any()
    return [arm["name"] for arm in arms]


def test_the_default_arms_are_the_alphas_of_the_paper() -> None:
    assert names({}) == ["alpha=0", "alpha=5", "alpha=10", "alpha=15"]


def test_distributions_are_combined_with_each_alpha_above_0() -> None:
    expected = ["alpha=0", "alpha=5", "alpha=5,noise=gaussian", "alpha=10", "alpha=10,noise=gaussian"]
    assert names({}, alphas=[10.0, 0.0, 5.0], noises=["uniform", "gaussian"]) == expected


def test_distributions_are_combined_with_the_alphas_of_the_experiment() -> None:
    listed = {"arms": [{"alpha": 0}, {"alpha": 3}]}
    assert names(listed, noises=["bernoulli"]) == ["alpha=0", "alpha=3,noise=bernoulli"]
    assert names({"grid": {"alpha": [0, 7]}}, noises=["uniform"]) == ["alpha=0", "alpha=7"]


def test_the_default_distribution_of_the_sweep_is_not_in_the_name() -> None:
    assert names({}, alphas=[5.0], noises=["uniform", "gaussian"], noise="gaussian") == [
        "alpha=5,noise=uniform",
        "alpha=5",
    ]


def test_signal_to_noise_ratios_define_arms_with_or_without_alphas() -> None:
    assert names({}, snr=[10.0, 20.0]) == ["snr=20", "snr=10"]
    assert names({}, snr=[10.0], alphas=[0.0]) == ["alpha=0", "snr=10"]


def test_a_grid_has_an_arm_for_each_combination_of_values() -> None:
    grid = {"alpha": [0, 5], "noise_schedule": ["constant", "cosine"], "noise_target": "prompt"}
    assert names({"grid": grid}) == [
        "alpha=0",
        "alpha=5,noise_target=prompt",
        "alpha=5,noise_schedule=cosine,noise_target=prompt",
    ]


def test_other_distributions_keep_the_ratios_of_the_experiment() -> None:
    assert names({"grid": {"snr": [20], "noise": ["uniform", "gaussian"]}}, noises=["bernoulli"]) == [
        "snr=20,noise=bernoulli"
    ]
    listed = {"arms": [{"alpha": 0}, {"snr": 20}]}
    assert names(listed, noises=["uniform", "gaussian"]) == ["alpha=0", "snr=20", "snr=20,noise=gaussian"]


def test_a_grid_can_have_alphas_and_ratios() -> None:
    assert names({"grid": {"alpha": [0], "snr": [20, 10]}}) == ["alpha=0", "snr=20", "snr=10"]


def test_a_grid_without_noise_sizes_has_the_alphas_of_the_paper() -> None:
    assert names({"grid": {"noise_schedule": "linear"}})[:2] == ["alpha=0", "alpha=5,noise_schedule=linear"]


def test_options_replace_the_values_of_a_grid() -> None:
    grid = {"grid": {"alpha": [0, 5], "noise_schedule": ["constant", "cosine"]}}
    assert names(grid, alphas=[7.0]) == ["alpha=7", "alpha=7,noise_schedule=cosine"]
    assert names(grid, noises=["gaussian"]) == [
        "alpha=0",
        "alpha=5,noise=gaussian",
        "alpha=5,noise=gaussian,noise_schedule=cosine",
    ]


def test_a_grid_adds_the_arms_that_are_missing_in_the_list() -> None:
    assert names({"arms": [{"alpha": 0}, {"alpha": 5}], "grid": {"alpha": [0, 5, 9]}}) == [
        "alpha=0",
        "alpha=5",
        "alpha=9",
    ]


def test_null_is_not_an_override() -> None:
    resolved = [{"name": "alpha=5", "alpha": 5.0, "snr": None, "noise": None, "train": {}}]
    assert names({"arms": resolved}) == ["alpha=5"]
    assert names({"arms": [{"alpha": 5.0, "snr": None}]}) == ["alpha=5"]


def test_the_name_of_an_arm_lists_its_overrides() -> None:
    arm = {"alpha": 5.0, "noise_scale": "hf", "train": {"weight_decay": 0.1, "epochs": 2}}
    assert arm_name(arm) == "alpha=5,noise_scale=hf,epochs=2,weight_decay=0.1"


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({"arms": 5}, "arms must be a list of mappings; 5 was given"),
        ({"arms": {}}, "arms must be a list of mappings."),
        ({"arms": False}, "arms must be a list of mappings; false was given"),
        ({"arms": [{"alpha": 5, "train": []}]}, "train must be a mapping of fields."),
        ({"arms": [{"alpha": "five"}]}, "arm 1: alpha must be a number; 'five' was given"),
        ({"grid": {"alpha": []}}, "grid: alpha has no values"),
        ({"grid": {"alpha": [5, "x", -1, float("nan"), True]}}, r"(?s); 'x' was.*; -1 was.*; nan was.*; true was"),
        ({"grid": {"alpha": [5, 5]}}, "grid: alpha 5 appears twice"),
        (
            {"grid": {"noise": ["pink"], "noise_target": "x"}},
            r"(?s)noise must be .* 'pink' was.*noise_target must be all, prompt or completion; 'x' was",
        ),
        ({"grid": [1, 2]}, "grid must be a mapping from fields"),
        ({"grid": []}, "grid must be a mapping from fields"),
        ({"grid": 0}, "grid must be a mapping from fields"),
        ({"grid": {"alpha": [0], "epochs": [1, 2]}}, "a grid cannot vary 'epochs'"),
    ],
)
def test_invalid_arms_are_reported(written: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        names(written)


def test_null_counts_as_missing() -> None:
    assert names({"arms": None, "grid": None}) == names({})


def test_distributions_without_a_noise_size_are_refused() -> None:
    problems = Problems()
    arms_of({}, {"alphas": [0.0], "noises": ["uniform", "gaussian"]}, problems)
    assert [one.what for one in problems.found] == ["--noises has no effect, because no arm has noise."]


@pytest.mark.parametrize("option", ["alphas", "noises", "snr"])
def test_options_do_not_remove_the_recipe_of_an_arm(option: str) -> None:
    written = {"arms": [{"alpha": 0}, {"name": "decay", "alpha": 0, "train": {"weight_decay": 0.1}}]}
    with pytest.raises(UsageError, match=f"arm 'decay' has train settings, which --{option} removes"):
        names(written, **{option: ["gaussian"] if option == "noises" else [5.0]})


def test_overrides_that_python_treats_as_false_are_overrides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spec_module, "NoiseSpec", dict)
    sweep = resolve_sweep(None, {"noise": "gaussian"})
    values: list[Any] = ["", 0.0, False]
    for value in values:
        arm = ArmSpec.model_construct(alpha=5.0, noise=value)
        assert sweep.noise_of(arm)["noise"] == value  # type: ignore[index]
        assert not arm.varies_only_alpha
        assert arm_name({"alpha": 5.0, "noise": value}) == f"alpha=5,noise={value}"


def test_a_noise_field_need_not_be_a_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NoiseDetails.model_fields, "noise_target", FieldInfo(annotation=float, default=0.5))
    assert choices_of("noise_target") == ()
    assert example_of(("noise_target",)) is not None
    assert names({"grid": {"alpha": [5], "noise_target": [0.25]}}) == ["alpha=5,noise_target=0.25"]


@pytest.mark.parametrize(
    ("wanted", "named"),
    [
        ("5", ["alpha=5"]),
        ("5.0", ["alpha=5"]),
        ("alpha=5", ["alpha=5"]),
        ("7", ["snr=10", "same"]),
        ("same", ["same"]),
        ("9", []),
        ("none", []),
    ],
)
def test_an_arm_is_named_by_its_name_or_its_alpha(wanted: str, named: list[str]) -> None:
    assert arms_named(wanted, {"alpha=5": 5.0, "snr=10": 7.0, "same": 7.0, "none of them": None}) == named


def test_a_ratio_without_its_alpha_is_no_trial_without_noise() -> None:
    sweep = resolve_sweep(None, {"snr": [10.0]})
    (arm,) = sweep.arms

    with pytest.raises(ValueError, match="alpha of arm 'snr=10', which has a signal-to-noise ratio, is not known"):
        sweep.noise_of(arm)

    assert sweep.noise_of(arm.model_copy(update={"alpha": 2.0, "snr": None})).alpha == 2.0
