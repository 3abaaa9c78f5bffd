"""Declared analysis from options and experiments: planned looks, seeds, primary arm and controls."""

from pathlib import Path

import pytest

from neftune_cli.commands.request import read_spec
from neftune_cli.config.resolve import dump_spec, load_spec, resolve_sweep
from neftune_cli.config.spec import AnalysisSpec
from neftune_cli.errors import Problems, UsageError


def problem_of(**options: object) -> str:
    with pytest.raises(UsageError) as raised:
        resolve_sweep(None, options)
    return str(raised.value)


def test_fixed_number_of_seeds_by_default() -> None:
    spec = resolve_sweep(None, {})
    assert (spec.analysis, spec.seeds) == (AnalysisSpec(), (0, 1, 2))


@pytest.mark.parametrize(
    ("options", "looks"),
    [
        ({}, (5, 8, 12, 20)),
        ({"max_seeds": 12}, (5, 8, 12)),
        ({"max_seeds": 10}, (5, 8, 10)),
        ({"max_seeds": 30}, (5, 8, 12, 20, 30)),
        ({"looks": [3, 5]}, (3, 5)),
        ({"looks": [3, 5], "max_seeds": 5}, (3, 5)),
        ({"looks": [3, 5], "max_seeds": 8}, (3, 5, 8)),
    ],
)
def test_looks_end_with_the_largest_number_of_seeds(options: dict[str, object], looks: tuple[int, ...]) -> None:
    spec = resolve_sweep(None, {"until_decided": True, **options})
    assert spec.analysis.looks == looks
    assert spec.seeds == tuple(range(looks[-1]))
    assert load_spec(dump_spec(spec, schema_version=1)) == spec


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"until_decided": True, "looks": [5, 5, 8]}, "the numbers of seeds must increase; 5,5,8 was given"),
        ({"until_decided": True, "looks": [8, 5]}, "the numbers of seeds must increase; 8,5 was given"),
        ({"until_decided": True, "looks": [2, 5]}, "a look needs at least 3 seeds; 2 was given"),
        ({"until_decided": True, "looks": [5, 30], "max_seeds": 20}, "30 seeds are more than --max-seeds 20"),
        ({"until_decided": True, "max_seeds": 2}, "--max-seeds must be 3 or larger; 2 was given"),
        ({"until_decided": True, "looks": [5, 20231129]}, "a look has at most 10,000 seeds; 20231129 was given"),
        ({"until_decided": True, "max_seeds": 20231129}, "--max-seeds must be 10,000 or less; 20231129 was given"),
        ({"until_decided": True, "seeds": [0, 1, 2]}, "--seeds gives 3 seeds, but the planned looks need 20"),
        ({"looks": [5, 8]}, "--looks has no effect without --until-decided"),
        ({"max_seeds": 8}, "--max-seeds has no effect without --until-decided"),
        ({"analysis": {"primary_arm": "7"}}, "--primary-arm 7: there is no such arm besides the baseline"),
        ({"analysis": {"primary_arm": "0"}}, "--primary-arm 0: there is no such arm besides the baseline"),
    ],
)
def test_problems_of_the_declared_analysis(options: dict[str, object], message: str) -> None:
    assert message in problem_of(**options)


@pytest.mark.parametrize(
    ("options", "fix"),
    [
        ({"seeds": "4"}, "Use --max-seeds 4 instead of --seeds, or --fixed-seeds for a fixed number of seeds."),
        ({"seeds": "2"}, "Use --max-seeds 3 or more instead of --seeds, or --fixed-seeds for a fixed number of seeds."),
        ({"seeds": "4", "max_seeds": 8}, "Use --max-seeds 4 instead of --seeds, or remove --seeds."),
        ({"seeds": "4", "looks": "5,8"}, "Remove --seeds: the last look sets the number of seeds."),
    ],
)
def test_the_fix_for_seeds_that_are_not_those_of_the_looks(options: dict[str, object], fix: str) -> None:
    problems = Problems()
    read_spec(None, {"until_decided": True, **options}, problems)
    assert [one.fix for one in problems.found] == [fix]


@pytest.mark.parametrize("option", [{"max_seeds": 2}, {"looks": "4,3"}, {"looks": "1,2"}, {"looks": "a"}])
def test_seeds_are_not_compared_with_looks_that_have_a_problem(option: dict[str, object]) -> None:
    problems = Problems()
    read_spec(None, {"until_decided": True, "seeds": "2", **option}, problems)
    assert len(problems.found) == 1
    assert "--seeds gives" not in problems.found[0].what


def test_looks_that_cannot_be_read_are_given_looks() -> None:
    problems = Problems()
    read_spec(None, {"looks": "a"}, problems)
    assert [one.what for one in problems.found] == [
        "--looks: 'a' is not a number of seeds.",
        "--looks has no effect without --until-decided.",
    ]


def test_looks_of_an_experiment(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("analysis: {looks: [3, 6], margin: 0.02, primary_arm: 5}\narms: [{alpha: 0}, {alpha: 5}]\n")
    spec = resolve_sweep(file, {})
    assert spec.analysis == AnalysisSpec(looks=(3, 6), margin="0.02", primary_arm="alpha=5")
    assert spec.seeds == tuple(range(6))
    assert resolve_sweep(file, {"until_decided": True}).analysis.looks == (3, 6)


@pytest.mark.parametrize(
    ("looks", "message"),
    [
        ("[6, 3]", "analysis.looks must increase"),
        ("[1, 3]", "must be 3 or larger"),
        ("[a, 3]", "must be a whole number"),
        ("[3, a]", "must be a whole number"),
        ("[3, 20231129]", "must be 10000 or less"),
        ("5", "must be a valid tuple; 5 was given"),
    ],
)
def test_problems_of_looks_in_an_experiment_name_the_line(tmp_path: Path, looks: str, message: str) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(f"seeds: 6\nanalysis:\n  looks: {looks}\n")
    with pytest.raises(UsageError, match=f"x.yaml, line [23]: .*{message}"):
        resolve_sweep(file, {})


def test_fixed_seeds_replace_the_looks_of_an_experiment(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("analysis: {looks: [5, 8]}\n")
    spec = resolve_sweep(file, {"until_decided": False, "seeds": [0, 1, 2, 3]})
    assert (spec.analysis.looks, spec.seeds) == ((), (0, 1, 2, 3))


def test_controls_are_two_further_arms() -> None:
    spec = resolve_sweep(None, {"alphas": [0.0, 5.0], "controls": True})
    assert [(arm.name, arm.control) for arm in spec.arms] == [
        ("alpha=0", False),
        ("alpha=5", False),
        ("A/A control", True),
        ("positive control", True),
    ]
