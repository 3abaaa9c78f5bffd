"""Claims on unfinished sweeps: pooled arms, excluded arms, and reasons for missing results."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
import pytest

from neftune_cli.analysis.alignment import TrialsByArm
from neftune_cli.evidence.measurements import Measurements
from tests.measured_trials import ITEMS, arm, examine, item_values, joined

DRAWS = np.random.default_rng(5).normal(2, 0.5, size=(4, 9, ITEMS))
"""Values by alpha (in steps of 5), seed and item."""
NAMES = ("alpha=0", "alpha=5", "alpha=10", "alpha=15")


def unfinished(*seeds: Iterable[int], key: str = "eval_loss") -> dict[str, Mapping[int, Measurements]]:
    """Return arms of alpha 0, 5, 10 and 15 with only these seeds."""
    whole = joined(*(arm(name, 5.0 * place, {key: DRAWS[place]}) for place, name in enumerate(NAMES)))
    return {name: {seed: whole[name][seed] for seed in of_arm} for name, of_arm in zip(NAMES, seeds, strict=False)}


def difference(*alphas: int, seeds: Iterable[int]) -> float:
    """Return the mean of the noisy arms minus the arm without noise, over these seeds."""
    chosen = list(seeds)
    return float(np.mean([DRAWS[alpha // 5][chosen] for alpha in alphas]) - DRAWS[0][chosen].mean())


@pytest.mark.parametrize(
    ("seeds", "alphas", "shared", "excluded"),
    [
        ((range(5), range(5), range(4), [0]), (5, 10), range(4), "alpha=15"),
        ((range(5), range(5), [0], [4]), (5,), range(5), "alpha=10 and alpha=15"),
        # each shares three seeds with alpha=0, but all share only one: the arm with the fewest seeds is excluded
        ((range(5), range(5), [0, 1, 2, 3], [2, 3, 4]), (5, 10), range(4), "alpha=15"),
        # disjoint seeds
        ((range(6), range(3), range(3, 6)), (5,), range(3), "alpha=10"),
        # no arm has three seeds: the arms that share the most are used
        ((range(2), range(2), range(2), [0]), (5, 10), range(2), "alpha=15"),
        ((range(2), [0], [1]), (5,), [0], "alpha=10"),
    ],
)
def test_arms_that_share_enough_seeds_are_pooled(
    seeds: tuple[Iterable[int], ...], alphas: tuple[int, ...], shared: Iterable[int], excluded: str
) -> None:
    result = examine(unfinished(*seeds))["held-out-loss-does-not-rise"]

    assert result.paired is not None
    assert result.paired.seeds == len(list(shared))
    assert result.paired.difference == pytest.approx(difference(*alphas, seeds=shared))
    assert result.here.endswith(f"Excluded, because too few of their common seeds have this metric: {excluded}.")


def test_finished_arms_are_all_included() -> None:
    results = examine(unfinished(range(5), range(5), range(5)))

    assert not any("Excluded" in one.here for one in results.values())


def test_line_is_fitted_to_arms_that_share_enough_seeds() -> None:
    arms = unfinished(range(5), range(4), [0, 1, 2], [4], key="train_loss_clean")
    bell = arm("alpha=40,noise=gaussian", 40.0, {"train_loss_clean": DRAWS[3]})

    here = examine(joined(arms, bell))["training-loss-rises"].here

    assert "through alpha=0, alpha=5 and alpha=10, from alpha 0 to 10" in here
    assert here.endswith("Excluded, because too few of their common seeds have this metric: alpha=15.")


def test_line_is_fitted_to_the_family_with_enough_seeds() -> None:
    late = {"alpha=40,noise=gaussian": {8: arm("", 40.0, {"train_loss_clean": DRAWS[3]}, ("noise=gaussian",))[""][8]}}
    more = {"alpha=20,noise=gaussian": {8: arm("", 20.0, {"train_loss_clean": DRAWS[2]}, ("noise=gaussian",))[""][8]}}
    arms = unfinished(range(5), range(5), key="train_loss_clean")

    result = examine(joined(arms, late, more))["training-loss-rises"]

    assert "through alpha=0 and alpha=5, from alpha 0 to 5" in result.here


def test_pairs_of_alphas_with_too_few_shared_seeds_are_excluded() -> None:
    result = examine(unfinished(range(5), range(5), range(4), [4]))["alphas-are-alike"]

    assert "Held-out loss, 1 pair of alphas: " in result.here
    assert result.here.endswith(
        "Excluded, because too few of their common seeds have this metric: "
        "alpha=5 with alpha=15 and alpha=10 with alpha=15."
    )


@pytest.mark.parametrize(
    ("arms", "start"),
    [
        (
            unfinished([0, 1], [2, 3], [4]),
            "alpha=0 and alpha=5 and alpha=10 have held-out loss for no common seed. Run the missing seeds.",
        ),
        (
            joined(unfinished(range(5)), arm("alpha=5", 5.0, {"rouge_l": DRAWS[1]})),
            "No trial of alpha=5 has held-out loss. This claim needs the held-out loss, which `neftune sweep",
        ),
        (
            joined(arm("alpha=0", 0.0, {"rouge_l": DRAWS[0]}), {"alpha=5": unfinished(range(5), range(5))["alpha=5"]}),
            "No trial of alpha=0 has held-out loss. This claim needs the held-out loss, which `neftune sweep",
        ),
    ],
)
def test_reason_for_a_missing_result(arms: TrialsByArm, start: str) -> None:
    result = examine(arms)["held-out-loss-does-not-rise"]

    assert result.status == "not measured"
    assert result.here.startswith(start)


def test_arms_without_a_shared_example_are_named() -> None:
    arms = unfinished(range(5), range(5))
    elsewhere = {"eval_loss": item_values(DRAWS[1][0], [f"other {number}" for number in range(ITEMS)])}
    arms["alpha=5"] = {seed: replace(trial, items=elsewhere) for seed, trial in arms["alpha=5"].items()}

    result = examine(arms)["held-out-loss-does-not-rise"]

    assert result.status == "not measured"
    assert "have held-out loss for no common example" in result.here


def test_alphas_without_a_shared_seed_are_not_measured() -> None:
    result = examine(unfinished(range(6), [0, 1], [2, 3]))["alphas-are-alike"]

    assert result.status == "not measured"
    assert "differ only in alpha have held-out loss for a common seed and example" in result.here


def test_diverged_arm_is_not_excluded() -> None:
    broken = DRAWS[1].copy()
    broken[2] = math.inf
    arms = joined(unfinished(range(9)), arm("alpha=5", 5.0, {"eval_loss": broken}))

    result = examine(arms)["held-out-loss-does-not-rise"]

    assert result.status == "not measured"
    assert result.here == "Held-out loss is not finite in a trial of alpha=5. Use a lower learning rate or less noise."
