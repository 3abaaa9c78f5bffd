"""Quality gains among responses of equal length, with responses matched by hand."""

import numpy as np
import pytest

from neftune_cli.analysis.alignment import TrialsByArm
from neftune_cli.analysis.paper_claims.matched_length import match_responses
from neftune_cli.analysis.results import Status
from neftune_cli.evidence.measurements import Floats
from tests.measured_trials import arm, examine

ITEMS = 12


def test_responses_match_if_lengths_differ_by_at_most_a_tenth() -> None:
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

    matched = match_responses(quality, length)

    # 111 exceeds 100 by 9.9% of 111; 112 exceeds it by 10.7%
    assert matched.matches.tolist() == [[2, 0, 1, 1, 1, 1]]
    assert matched.gain == pytest.approx(np.array([[0.2, 0.0, 0.3, 0.2, -0.1, -0.2]]))


def responses(gains: Floats, longer: Floats, key: str = "rouge_l") -> TrialsByArm:
    """Return responses of 100 characters without noise, and noisy ones with these gains and lengths, (seeds, items)."""
    base = np.full_like(gains, 0.5)
    return {
        **arm("alpha=0", 0.0, {key: base, "response_chars": np.full_like(longer, 100.0)}),
        **arm("alpha=5", 5.0, {key: base + gains, "response_chars": 100.0 + longer}),
    }


def half_longer() -> Floats:
    """Return additional lengths with which the first half of the items match."""
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
def test_claim_uses_only_responses_of_equal_length(
    key: str, matched: float, unmatched: float, spread: float, status: Status
) -> None:
    gains = np.where(half_longer() < 10, matched, unmatched) + spread * EFFECTS

    result = examine(responses(gains, half_longer(), key))["gains-beyond-length"]

    assert result.status == status
    assert result.paired is not None
    assert result.paired.difference == pytest.approx(gains[:, : ITEMS // 2].mean())
    assert result.paired.items == ITEMS // 2


def test_seeds_have_equal_weight_with_different_numbers_of_matches() -> None:
    longer = half_longer()
    longer[0, :5] = 300.0  # the first seed has one match, the others six
    gains = 0.2 + EFFECTS

    found = examine(responses(gains, longer))["gains-beyond-length"].paired

    by_seed = [gains[0, 5], *gains[1:, : ITEMS // 2].mean(axis=1)]
    assert found is not None
    assert found.difference == pytest.approx(np.mean(by_seed))


def test_result_has_the_gain_over_all_responses() -> None:
    gains = np.where(half_longer() < 10, 0.2, 0.4) + EFFECTS

    here = examine(responses(gains, half_longer()))["gains-beyond-length"].here

    assert f"alpha=5 minus alpha=0: {gains[:, : ITEMS // 2].mean():+.3f} [" in here
    assert (
        f"30 of 60 responses with noise meet this condition; over all responses the difference is {gains.mean():+.3f} ["
        in here
    )


def test_seeds_without_a_match_are_excluded() -> None:
    longer = half_longer()
    longer[3] = 300.0

    result = examine(responses(0.2 + EFFECTS, longer))["gains-beyond-length"]

    assert result.paired is not None
    assert result.paired.seeds == 4


def test_claim_needs_responses_of_equal_length() -> None:
    result = examine(responses(EFFECTS, np.full_like(EFFECTS, 300.0)))["gains-beyond-length"]

    assert result.status == "not measured"
    assert result.here == "No response is about as long as the response of alpha=0 to the same prompt."


def test_claim_needs_lengths_of_individual_responses() -> None:
    means = {"rouge_l": np.full(5, 0.5), "response_chars": np.full(5, 100.0)}
    arms = {**arm("alpha=0", 0.0, means), **arm("alpha=5", 5.0, means)}

    result = examine(arms)["gains-beyond-length"]

    assert result.status == "not measured"
    assert "length of individual responses" in result.here
