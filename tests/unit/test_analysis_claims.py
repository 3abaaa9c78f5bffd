"""Claims about one metric: their status follows from differences, intervals and margins computed by hand."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from neftune_cli.analysis.alignment import TrialsByArm
from neftune_cli.analysis.options import ComparisonOptions
from neftune_cli.analysis.paper_claims import UNADJUSTED_CLAIMS_NOTE
from neftune_cli.analysis.results import Status
from neftune_cli.metrics import Margin
from tests.measured_trials import MARGINS, OPTIONS, SEED_EFFECTS, arm, examine, joined, with_items

MEANS = {
    "train_loss_clean": 1.0,
    "eval_loss": 2.0,
    "probe_rouge_l": 0.5,
    "probe_bleu": 50.0,
    "response_chars": 100.0,
    "repetition_2gram": 10.0,
    "log_diversity": 8.0,
    "train_loss": 1.5,
}
WITHOUT_ITEMS = ("probe_bleu", "repetition_2gram", "log_diversity", "train_loss")

# Change and spread in margins. The half-width of the 95% interval is 1.963 spreads; for the 90% interval of the
# equivalence test it is 1.507.
LARGE, NONE, SIGNIFICANT_BUT_SMALL, OPPOSITE, IMPRECISE, NEAR_THE_MARGIN = (
    (5, 0.1),
    (0, 0.1),
    (0.5, 0.1),
    (-5, 0.1),
    (0, 5),
    (1.2, 0.3),
)
BETWEEN_LEVELS = (0.0, 0.6)
"""The 95% interval exceeds the margin, the 90% interval does not."""


def noise(key: str, change: float, spread: float) -> TrialsByArm:
    """Return three arms, with 2/3 of the change for alpha 10 and 4/3 for alpha 20."""
    by_seed = MARGINS[key] * (change + spread * SEED_EFFECTS)
    reference = np.full(5, MEANS[key])
    by_alpha = {0: reference, 10: reference + by_seed * 2 / 3, 20: reference + by_seed * 4 / 3}
    values = {alpha: one if key in WITHOUT_ITEMS else with_items(one) for alpha, one in by_alpha.items()}
    return joined(*(arm(f"alpha={alpha}", alpha, {key: one}) for alpha, one in values.items()))


def line(key: str, change: float, spread: float) -> TrialsByArm:
    """Return four arms on a line that rises by the change between alpha 0 and alpha 15."""
    by_seed = MARGINS[key] * (change + spread * SEED_EFFECTS)
    by_alpha = {alpha: with_items(MEANS[key] + by_seed * alpha / 15) for alpha in (0, 5, 10, 15)}
    return joined(*(arm(f"alpha={alpha}", alpha, {key: one}) for alpha, one in by_alpha.items()))


UPWARD = [
    (LARGE, "supported"),
    (NEAR_THE_MARGIN, "supported"),
    (NONE, "refuted"),
    (SIGNIFICANT_BUT_SMALL, "refuted"),
    (BETWEEN_LEVELS, "refuted"),
    (OPPOSITE, "refuted"),
    (IMPRECISE, "inconclusive"),
]
UNCHANGED = [
    (NONE, "supported"),
    (SIGNIFICANT_BUT_SMALL, "supported"),
    (BETWEEN_LEVELS, "supported"),
    (LARGE, "refuted"),
    (OPPOSITE, "refuted"),
    (NEAR_THE_MARGIN, "refuted"),
    (IMPRECISE, "inconclusive"),
]
NOT_INFERIOR = [
    (NONE, "supported"),
    (SIGNIFICANT_BUT_SMALL, "supported"),
    (OPPOSITE, "supported"),
    (LARGE, "refuted"),
    (NEAR_THE_MARGIN, "inconclusive"),
    (BETWEEN_LEVELS, "supported"),
    (IMPRECISE, "inconclusive"),
]


@pytest.mark.parametrize(("effect", "status"), UPWARD)
def test_claim_that_clean_training_loss_rises_with_alpha(effect: tuple[float, float], status: Status) -> None:
    result = examine(line("train_loss_clean", *effect))["training-loss-rises"]

    assert result.status == status


@pytest.mark.parametrize(("effect", "status"), UPWARD)
@pytest.mark.parametrize(
    ("claim", "key", "sign"),
    [
        ("training-rouge-falls", "probe_rouge_l", -1),
        ("training-bleu-falls", "probe_bleu", -1),
        ("answers-get-longer", "response_chars", 1),
        ("noisy-training-loss-rises", "train_loss", 1),
    ],
)
def test_claim_of_a_direction(claim: str, key: str, sign: int, effect: tuple[float, float], status: Status) -> None:
    change, spread = effect

    assert examine(noise(key, sign * change, spread))[claim].status == status


@pytest.mark.parametrize(
    ("claim", "scores", "words"),
    [
        (
            "training-rouge-falls",
            {"probe_rouge_l": 0.004},
            "Training ROUGE-L is at most 0.004 in every trial, so",
        ),
        ("training-rouge-falls", {"probe_rouge_l": 0.4}, ""),
        (
            "answers-get-longer",
            {"response_chars": 40.0, "truncated": 0.4},
            "Up to 40% of a trial's responses were cut",
        ),
        ("answers-get-longer", {"response_chars": 40.0, "truncated": 0.0}, ""),
    ],
)
def test_caveat_says_that_a_metric_has_no_room_to_change(claim: str, scores: dict[str, float], words: str) -> None:
    values = {key: with_items(np.full(5, score)) for key, score in scores.items()}
    caveat = examine(joined(*(arm(f"alpha={alpha}", alpha, values) for alpha in (0, 10))))[claim].caveat
    assert (" in every trial, " in caveat or "token limit" in caveat) == bool(words)
    assert words in caveat


@pytest.mark.parametrize(("effect", "status"), UNCHANGED)
@pytest.mark.parametrize(
    ("claim", "key"),
    [
        ("repetition-stays", "repetition_2gram"),
        ("diversity-stays", "log_diversity"),
    ],
)
def test_claim_of_no_change(claim: str, key: str, effect: tuple[float, float], status: Status) -> None:
    assert examine(noise(key, *effect))[claim].status == status


@pytest.mark.parametrize(("effect", "status"), NOT_INFERIOR)
def test_claim_that_held_out_loss_does_not_rise(effect: tuple[float, float], status: Status) -> None:
    assert examine(noise("eval_loss", *effect))["held-out-loss-does-not-rise"].status == status


def test_interval_of_pooled_arms_matches_a_t_test() -> None:
    values = np.random.default_rng(0).normal(50, 3, size=(3, 5))
    arms = [arm(f"alpha={alpha}", alpha, {"probe_bleu": one}) for alpha, one in zip((0, 5, 15), values, strict=True)]

    found = examine(joined(*arms))["training-bleu-falls"].paired

    expected = stats.ttest_1samp((values[1] + values[2]) / 2 - values[0], 0.0)
    interval = expected.confidence_interval(0.95)
    assert found is not None
    assert (found.ci_low, found.ci_high) == pytest.approx((interval.low, interval.high))
    assert found.p_value == pytest.approx(expected.pvalue)


def test_rise_matches_a_fitted_line() -> None:
    alphas = np.array([0.0, 5.0, 10.0, 40.0])
    values = np.random.default_rng(1).normal(size=(4, 5, 12))
    arms = [
        arm(f"alpha={alpha:g}", alpha, {"train_loss_clean": one}) for alpha, one in zip(alphas, values, strict=True)
    ]

    result = examine(joined(*arms))["training-loss-rises"]

    slopes = np.polyfit(alphas, values.reshape(4, -1), 1)[0].reshape(5, 12)
    assert result.paired is not None
    assert result.paired.difference == pytest.approx(40 * slopes.mean())
    assert f"{10 * slopes.mean():+.4f} per 10 of alpha".replace("-", "\N{MINUS SIGN}") in result.here


def test_result_has_effect_interval_sample_and_margin() -> None:
    here = examine(noise("response_chars", *LARGE))["answers-get-longer"].here

    # 5 margins of 5 characters; 1.963 * 0.1 * 5 = 0.98
    assert here == (
        "Response length, mean of alpha=10 and alpha=20 minus alpha=0: +25.0 characters [+24.0, +26.0] (alpha=0: "
        "100.0; 95% interval, 5 seeds, 20 held-out examples). Significantly higher, by more than the margin "
        "of 5.0 characters."
    )


def test_result_reports_equivalence() -> None:
    here = examine(noise("probe_bleu", -0.5, 0.1))["training-bleu-falls"].here

    assert here.endswith("Significantly lower, but by less than the margin of 2.00 (two one-sided tests).")


def test_result_reports_a_change_that_may_be_within_the_margin() -> None:
    here = examine(noise("response_chars", *NEAR_THE_MARGIN))["answers-get-longer"].here

    assert here.endswith("Significantly higher; not shown to exceed the margin of 5.0 characters.")


def test_inconclusive_result_has_its_interval_and_promises_no_power() -> None:
    here = examine(noise("probe_bleu", *IMPRECISE))["training-bleu-falls"].here

    half = stats.t.ppf(0.975, 4) * 2 * 5 * math.sqrt(0.5)  # standard error with 4 degrees of freedom
    assert f"+0.00 [\N{MINUS SIGN}{half:.2f}, +{half:.2f}]" in here
    assert here.endswith("Inconclusive: neither zero nor a change beyond the margin of 2.00 is excluded.")
    assert "detectable" not in here


@pytest.mark.parametrize("seeds", [1, 2])
def test_fewer_than_three_seeds_are_inconclusive(seeds: int) -> None:
    keys = [key for key in MEANS if key != "train_loss_clean"]
    for arms in (*(noise(key, *LARGE) for key in keys), line("train_loss_clean", *LARGE)):
        few = {name: {seed: of_arm[seed] for seed in range(seeds)} for name, of_arm in arms.items()}
        measured = [one for one in examine(few).values() if one.status != "not measured"]

        assert measured
        assert {one.status for one in measured} == {"inconclusive"}
        assert all(
            "with fewer than three seeds the numbers describe these trained models" in one.here for one in measured
        )


def test_margin_and_confidence_of_the_options_apply() -> None:
    arms = noise("probe_bleu", *NEAR_THE_MARGIN)
    generous = ComparisonOptions(margins={"probe_bleu": Margin(10.0)})
    strict = replace(OPTIONS, confidence=0.9999)

    assert examine(arms, options=generous)["training-bleu-falls"].status == "refuted"
    assert examine(arms, options=generous)["training-bleu-falls"].here.count("margin of 10.00") == 1
    assert examine(arms, options=strict)["training-bleu-falls"].status == "inconclusive"


def test_every_claim_has_the_result_of_the_paper_and_a_caveat() -> None:
    results = list(examine(noise("eval_loss", *NONE)).values())

    assert len(results) == 11
    assert "11 claims" in UNADJUSTED_CLAIMS_NOTE
    assert [one.key for one in results[:2]] == ["training-loss-rises", "held-out-loss-does-not-rise"]
    assert all(one.claim.endswith(".") and one.paper.endswith(".") and one.caveat.endswith(".") for one in results)


def test_note_on_adjustment_has_no_level() -> None:
    assert not re.search(r"\d ?%|one in \w+ty", UNADJUSTED_CLAIMS_NOTE)


@pytest.mark.parametrize("spread", np.linspace(0.3, 0.9, 13))
def test_equivalence_implies_noninferiority(spread: float) -> None:
    held_out = examine(noise("eval_loss", 0, spread))["held-out-loss-does-not-rise"]

    # t-test with 4 degrees of freedom; both claims use a one-sided level of 5%
    shown = stats.t.sf(1 / (spread * math.sqrt(0.5)), 4) <= 0.05
    assert held_out.status == ("supported" if shown else "inconclusive")
    assert examine(noise("repetition_2gram", 0, spread))["repetition-stays"].status == held_out.status


@pytest.mark.parametrize(
    ("claim", "key"),
    [
        ("held-out-loss-does-not-rise", "eval_loss"),
        ("repetition-stays", "repetition_2gram"),
        ("answers-get-longer", "response_chars"),
        ("training-rouge-falls", "probe_rouge_l"),
    ],
)
@pytest.mark.parametrize("change", [-5.0, 0.0, 0.1])
def test_constant_differences_are_inconclusive(claim: str, key: str, change: float) -> None:
    result = examine(noise(key, change, 0.0))[claim]

    assert result.status == "inconclusive"
    assert result.here.endswith("Inconclusive: the differences do not vary, so their standard error is unknown.")
    assert "no interval" in result.here
    assert "nan" not in result.here


def test_alphas_with_identical_values_are_inconclusive() -> None:
    flat = {"eval_loss": np.full((5, 3), 2.0)}

    result = examine(joined(*(arm(f"alpha={alpha}", alpha, flat) for alpha in (0, 5, 10))))["alphas-are-alike"]

    assert result.status == "inconclusive"
    assert result.here.endswith("Inconclusive: the differences do not vary, so their standard error is unknown.")
    assert "nan" not in result.here
