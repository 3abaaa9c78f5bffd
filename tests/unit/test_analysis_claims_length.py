"""Gains among answers of equal length, against a table matched by hand."""

import numpy as np
import pytest

from neftune_cli.analysis.alignment import TrialsByArm
from neftune_cli.analysis.paper_claims.matched_length import match
from neftune_cli.analysis.results import Status
from neftune_cli.evidence.measurements import Floats
from tests.unit.claim_trials import arm, examine

ITEMS = 12


def test_lengths_match_up_to_a_tenth_of_the_longer_one() -> None:
    length = np.array(
        [
            [[100.0, 100.0, 100.0, 100.0, 0.0, 0.0]],  # without noise
            [[90.0, 89.0, 111.0, 112.0, 0.0, 1.0]],
            [[100.0, 50.0, 200.0, 105.0, 7.0, 0.0]],
        ]
    )
    quality = np.array(
        [
            [[0.5, 0.5, 0.5, 0.5, 0.5, 0.5]],
            [[0.6, 0.9, 0.8, 0.9, 0.4, 0.9]],
            [[0.8, 0.9, 0.9, 0.7, 0.9, 0.3]],
        ]
    )

    matched = match(quality, length)

    # 111 of 100 is 9.9% of 111; 112 is 10.7%
    assert matched.matches.tolist() == [[2, 0, 1, 1, 1, 1]]
    assert matched.gain == pytest.approx(np.array([[0.2, 0.0, 0.3, 0.2, -0.1, -0.2]]))


def answers(gains: Floats, longer: Floats, key: str = "rouge_l") -> TrialsByArm:
    """Return answers of 100 characters without noise, and others that are so much better and longer, (seeds, items)."""
    base = np.full_like(gains, 0.5)
    return {
        **arm("alpha=0", 0.0, {key: base, "response_chars": np.full_like(longer, 100.0)}),
        **arm("alpha=5", 5.0, {key: base + gains, "response_chars": 100.0 + longer}),
    }


def half_longer() -> Floats:
    """Return lengths of which those of the first half of the items match."""
    return np.tile(np.repeat([5.0, 200.0], ITEMS // 2), (5, 1))


EFFECTS = np.random.default_rng(2).normal(0, 0.01, size=(5, ITEMS))


@pytest.mark.parametrize(
    ("matched", "unmatched", "spread", "status"),
    [
        (0.2, 0.0, 1.0, "supported"),
        (0.0, 0.4, 0.1, "refuted"),
        (-0.2, 0.4, 1.0, "refuted"),
        (0.0, 0.4, 20.0, "inconclusive"),
    ],
)
@pytest.mark.parametrize("key", ["rouge_l", "exact_match"])
def test_only_gains_among_equally_long_answers_count(
    key: str, matched: float, unmatched: float, spread: float, status: Status
) -> None:
    gains = np.where(half_longer() < 10, matched, unmatched) + spread * EFFECTS

    result = examine(answers(gains, half_longer(), key))["gains-beyond-length"]

    assert result.status == status
    assert result.comparison is not None
    assert result.comparison.difference == pytest.approx(gains[:, : ITEMS // 2].mean())
    assert result.comparison.items == ITEMS // 2


def test_matches_weigh_alike_wherever_they_are_in_a_seed() -> None:
    longer = half_longer()
    longer[0, :5] = 300.0  # the first seed has one match, the others six
    gains = 0.2 + EFFECTS

    found = examine(answers(gains, longer))["gains-beyond-length"].comparison

    by_seed = [gains[0, 5], *gains[1:, : ITEMS // 2].mean(axis=1)]
    assert found is not None
    assert found.difference == pytest.approx(np.mean(by_seed))


def test_the_gain_over_all_answers_stands_beside() -> None:
    gains = np.where(half_longer() < 10, 0.2, 0.4) + EFFECTS

    here = examine(answers(gains, half_longer()))["gains-beyond-length"].here

    assert f"alpha=5 minus alpha=0: {gains[:, : ITEMS // 2].mean():+.3f} [" in here
    assert f"30 of 60 answers matched, and over all of them it is {gains.mean():+.3f} [" in here


def test_seeds_without_a_match_are_left_out() -> None:
    longer = half_longer()
    longer[3] = 300.0

    result = examine(answers(0.2 + EFFECTS, longer))["gains-beyond-length"]

    assert result.comparison is not None
    assert result.comparison.seeds == 4


def test_without_equally_long_answers_nothing_is_measured() -> None:
    result = examine(answers(EFFECTS, np.full_like(EFFECTS, 300.0)))["gains-beyond-length"]

    assert result.status == "not measured"
    assert result.here == "No answer is about as long as that of alpha=0 to the same prompt."


def test_mean_lengths_without_answers_are_not_matched() -> None:
    means = {"rouge_l": np.full(5, 0.5), "response_chars": np.full(5, 100.0)}
    arms = {**arm("alpha=0", 0.0, means), **arm("alpha=5", 5.0, means)}

    result = examine(arms)["gains-beyond-length"]

    assert result.status == "not measured"
    assert "length of each of several answers" in result.here
