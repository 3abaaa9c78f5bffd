"""Comparison of arms: tables by hand and with pandas, pairing, baselines, margins and missing values."""

import math
import random
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_1samp

from neftune_cli.analysis.advice import advice
from neftune_cli.analysis.comparison import compare_arms
from neftune_cli.analysis.headline import headline
from neftune_cli.analysis.options import ComparisonOptions
from neftune_cli.analysis.results import Comparison, Departure, DifferenceBySeed, Estimate
from neftune_cli.errors import ExitCode, NothingToCompareError, UsageError
from neftune_cli.evidence.measurements import AnalysisPlan, Evidence, Measurements, Setting, TrialOrigin
from neftune_cli.metrics import METRICS, Margin, Metric
from neftune_cli.records import EVAL_METRICS, LOSS_METRICS, TrialRecord, scores_of
from tests.measured_trials import arm, item_values, joined

Records = list[TrialRecord]

BASE = Measurements("base", "base", None, None, {"eval_loss": 3.0}, {}, {})
"""The base model, without which a comparison has a note."""


def test_held_out_loss_matches_a_table_by_hand(hand_made_records: Records) -> None:
    comparison = _compare(hand_made_records)

    estimate, difference = _paired(comparison, "alpha=5", "eval_loss")
    assert comparison.baseline == "alpha=0"
    assert estimate.by_seed == {0: 1.498, 1: 1.505, 2: 1.518}
    assert estimate.mean == pytest.approx(1.507)
    assert estimate.sd == pytest.approx(math.sqrt((0.009**2 + 0.002**2 + 0.011**2) / 2))
    # The differences are -0.002, -0.005 and -0.002. Their standard deviation is much smaller than that of the losses.
    assert difference.mean == pytest.approx(-0.003)
    assert difference.sd == pytest.approx(math.sqrt((1 + 4 + 1) / 2) / 1000)
    assert difference.by_seed == pytest.approx({0: -0.002, 1: -0.005, 2: -0.002})


def test_estimates_and_differences_match_pandas(hand_made_records: Records) -> None:
    records = _with_random_losses(hand_made_records, random.Random(3))[:-1]
    frame = pd.DataFrame([{"arm": r.arm, "seed": r.seed, **r.loss.model_dump()} for r in records if r.seed is not None])

    comparison = _compare(records)

    for key in LOSS_METRICS:
        table = frame.pivot(index="seed", columns="arm", values=key)
        paired = (table["alpha=5"] - table["alpha=0"]).dropna()
        estimate, difference = _paired(comparison, "alpha=5", key)
        assert (estimate.mean, estimate.sd) == pytest.approx((table["alpha=5"].mean(), table["alpha=5"].std()))
        assert (difference.mean, difference.sd) == pytest.approx((paired.mean(), paired.std()))
        assert difference.seeds == len(paired) == 2


def test_base_and_arms_keep_their_order(hand_made_records: Records) -> None:
    comparison = _compare(hand_made_records)

    assert comparison.base_scores is not None
    assert comparison.base_scores["eval_loss"] == 4.2
    assert comparison.base_scores["train_loss"] is None
    assert [arm.name for arm in comparison.arms] == ["alpha=0", "alpha=5"]
    assert [arm.noise_ratio for arm in comparison.arms] == pytest.approx([0, 0.29 / 3])


def test_one_seed_has_no_standard_deviation(hand_made_records: Records) -> None:
    estimate, difference = _paired(_compare([hand_made_records[1], hand_made_records[4]]), "alpha=5")

    assert estimate.sd is None
    assert difference.sd is None
    assert difference.mean == pytest.approx(-0.002)


def test_arms_without_a_shared_seed_have_no_difference(hand_made_records: Records) -> None:
    comparison = _compare([hand_made_records[1], hand_made_records[6]])

    estimate = comparison.treated[0].estimates["eval_loss"]
    assert estimate is not None
    assert estimate.difference is None


def test_a_metric_without_values_has_no_estimate(hand_made_records: Records) -> None:
    comparison = _compare(hand_made_records)

    assert "bleu" not in comparison.metrics
    assert all("bleu" not in arm.estimates for arm in comparison.arms)


def test_infinite_value_gives_no_mean(hand_made_records: Records) -> None:
    diverged = hand_made_records[4].loss.model_copy(update={"eval_perplexity": math.inf})
    hand_made_records[4] = hand_made_records[4].model_copy(update={"loss": diverged})

    estimate, difference = _paired(_compare(hand_made_records), "alpha=5", "eval_perplexity")

    assert math.isnan(estimate.mean)
    assert math.isnan(difference.mean)
    assert (estimate.sd, difference.sd) == (None, None)


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_the_perplexity_of_an_infinite_loss_is_not_finite(hand_made_records: Records) -> None:
    """The largest perplexity of a record, exp(700), has no finite square."""
    diverged = hand_made_records[4].loss.model_copy(update={"eval_loss": math.inf, "eval_perplexity": math.exp(700)})
    hand_made_records[4] = hand_made_records[4].model_copy(update={"loss": diverged})

    comparison = _compare(hand_made_records, ComparisonOptions(metric="eval_perplexity"))

    assert math.isnan(_paired(comparison, "alpha=5", "eval_perplexity")[0].mean)
    assert "Alpha 5 has no verdict, because a value is not finite." in advice(comparison)


def test_the_perplexities_of_two_diverged_trials_have_no_difference(hand_made_records: Records) -> None:
    """Both are cut at exp(700), so that their difference would be 0."""
    for place in range(1, len(hand_made_records)):
        one = hand_made_records[place]
        loss = one.loss.model_copy(update={"eval_loss": 1e4, "eval_perplexity": math.exp(700)})
        hand_made_records[place] = one.model_copy(update={"loss": loss})

    comparison = _compare(hand_made_records, ComparisonOptions(metric="eval_perplexity"))
    difference = _paired(comparison, "alpha=5", "eval_perplexity")[1]

    assert all(map(math.isnan, (difference.mean, *difference.by_seed.values())))
    assert "Alpha 5 has no verdict, because a value is not finite." in advice(comparison)


@pytest.mark.parametrize("wanted", ["5", "5.0", "alpha=5"])
def test_baseline_can_be_given_by_alpha_or_name(hand_made_records: Records, wanted: str) -> None:
    comparison = _compare(hand_made_records, ComparisonOptions(baseline=wanted))

    assert comparison.baseline == "alpha=5"
    assert _paired(comparison, "alpha=0")[1].mean == pytest.approx(0.003)


def test_alpha_as_baseline_prefers_the_arm_without_other_changes(hand_made_records: Records) -> None:
    decayed = [_renamed(record, "weight decay") for record in hand_made_records[1:4]]

    assert _compare([*decayed, *hand_made_records], ComparisonOptions(baseline="0")).baseline == "alpha=0"


@pytest.mark.parametrize("wanted", ["7", "base"])
def test_unknown_baseline_is_an_error_with_all_arms(hand_made_records: Records, wanted: str) -> None:
    with pytest.raises(UsageError) as caught:
        _compare(hand_made_records, ComparisonOptions(baseline=wanted))

    assert str(caught.value) == (
        f"--baseline {wanted}: sweep 'bios' has no trained arm with this name or alpha. "
        "Use one of 'alpha=0', 'alpha=5'."
    )


def test_ambiguous_baseline_is_an_error_with_its_matches(hand_made_records: Records) -> None:
    named = [_renamed(hand_made_records[4], "short"), _renamed(hand_made_records[5], "long")]

    with pytest.raises(UsageError) as caught:
        _compare([*hand_made_records[:4], *named], ComparisonOptions(baseline="5"))

    message = "--baseline 5: sweep 'bios' has 2 arms with this name or alpha. Use one of 'short', 'long'."
    assert str(caught.value) == message


def test_two_trials_with_the_same_arm_and_seed_are_an_error(hand_made_records: Records) -> None:
    other_recipe = hand_made_records[1].model_copy(update={"trial": "other"})

    with pytest.raises(UsageError, match=r"two trials of arm 'alpha=0', seed 0: id of alpha=0 0 and other\."):
        _compare([*hand_made_records, other_recipe])


@pytest.mark.parametrize("plan", [None, AnalysisPlan(looks=(3, 5), seeds=(0, 1, 2, 3, 4), looks_taken=1)])
def test_single_arm_has_nothing_to_compare(hand_made_records: Records, plan: AnalysisPlan | None) -> None:
    comparison = _compare(hand_made_records[:4], plan=plan)

    assert comparison.treated == ()
    assert (comparison.best, comparison.error_sources, comparison.noise_tests) == (None, None, {})


def test_base_model_alone_cannot_be_compared(hand_made_records: Records) -> None:
    with pytest.raises(NothingToCompareError, match=r"'bios' has the base model only\. Add runs") as caught:
        _compare(hand_made_records[:1])

    assert caught.value.exit_code is ExitCode.NOTHING_TO_COMPARE


def test_runs_without_a_score_in_common_cannot_be_compared() -> None:
    """Runs that were evaluated on different documents have a score of a corpus, but none that can be compared."""
    trials = tuple(Measurements(one, one, 0.0, 0, {"bleu": None}, {}, {}) for one in ("alpha=0", "alpha=5"))
    evidence = Evidence("runs", Setting("m", "d", {}, {}), trials, METRICS, notes=("Not compared: bleu.",))

    with pytest.raises(NothingToCompareError) as caught:
        compare_arms(evidence)

    assert str(caught.value) == "The runs of 'runs' have no score that can be compared. Not compared: bleu."


def test_all_metrics_of_a_record_are_declared() -> None:
    assert tuple(METRICS) == (*LOSS_METRICS, *EVAL_METRICS, "probe_rouge_l", "probe_bleu")


def test_numbers_have_the_decimals_of_their_metric() -> None:
    metric = METRICS["eval_perplexity"]

    assert metric.number(4.5) == "4.500"
    assert metric.signed(-0.0137) == "\N{MINUS SIGN}0.014"
    assert metric.signed(0.0137) == "+0.014"
    assert metric.number(123456789.0) == "1.23e+08"


@pytest.mark.parametrize(
    ("scale", "shown"), [(1.0, "0.200"), (0.1, "0.020"), (0.01, "0.00200"), (1e-9, "0.000000000200"), (0.0, "0.000")]
)
def test_small_values_of_metrics_of_users_and_other_tools_are_shown(scale: float, shown: str) -> None:
    metric = Metric("mymod:share", "Share", "", "higher", 3, Margin(0.02, relative=True))
    arms = joined(arm("alpha=0", 0.0, {metric.key: [0.1 * scale, 0.2 * scale]}))
    trials = tuple(trial for of_arm in arms.values() for trial in of_arm.values())

    comparison = compare_arms(Evidence("s", Setting("m", "d", {}, {}), trials, {metric.key: metric}))

    assert comparison.metric.number(0.2 * scale) == shown
    assert METRICS["eval_loss"].number(0.00002) == "0.0000"


def test_amounts_have_a_unit_and_no_sign() -> None:
    assert METRICS["eval_loss"].amount(-0.0123) == "0.0123 nats"
    assert METRICS["eval_loss"].amount(0.00001) == "less than 0.0001 nats"
    assert METRICS["eval_loss"].margin_size(0.00000334) == "3.3e-06 nats"
    assert METRICS["eval_loss"].margin_size(0.0123) == "0.0123 nats"
    assert METRICS["eval_loss"].assumed(-0.00000667) == "\N{MINUS SIGN}6.7e-06"
    assert [METRICS["eval_loss"].assumed(value) for value in (0.0, 0.0123)] == ["+0.0000", "+0.0123"]
    assert METRICS["response_chars"].amount(5.0) == "5.0 characters"
    assert METRICS["rouge_l"].amount(-0.5) == "0.500"


def test_p_values_are_adjusted_over_the_arms(hand_made_records: Records) -> None:
    third = [_renamed(record, "alpha=10") for record in hand_made_records[4:]]

    alone, together = _compare(hand_made_records), _compare([*hand_made_records, *third])

    one, two = (comparison.assessment("alpha=5", "train_loss_clean") for comparison in (alone, together))
    assert one is not None
    assert two is not None
    # the differences 0.050, 0.050 and 0.056: t = 0.052 / (0.0034641 / sqrt(3)) = 26.0
    assert one.paired.p_value == pytest.approx(ttest_1samp([0.05, 0.05, 0.056], 0).pvalue)
    assert one.p_adjusted == one.paired.p_value
    # two equal p-values: Hommel's method leaves them, Holm's would double them
    assert two.p_adjusted == pytest.approx(one.p_adjusted)
    assert one.verdict == two.verdict == "higher"


def test_margins_can_be_absolute_or_relative(hand_made_records: Records) -> None:
    margins = {"eval_loss": Margin(0.5), "response_chars": Margin(0.1, relative=True)}

    comparison = _compare(hand_made_records, ComparisonOptions(margins=margins))

    loss, length = (comparison.assessment("alpha=5", key) for key in margins)
    assert loss is not None
    assert length is not None
    assert (loss.margin, loss.verdict) == (0.5, "equivalent")
    assert length.margin == pytest.approx(10.4)


def test_without_a_measured_gain_a_margin_of_the_gain_is_the_own_margin_of_the_metric(
    hand_made_records: Records,
) -> None:
    margin = Margin.parse("10% of gain")
    assert margin is not None

    margins = _compare(hand_made_records[1:], ComparisonOptions(margins={"eval_loss": margin})).margins

    assert margins["eval_loss"].size == 0.01
    assert margins["eval_loss"].rule() == "0.01, because fine-tuning has no measured gain"


def test_an_infinite_loss_of_the_base_model_gives_no_infinite_margin(hand_made_records: Records) -> None:
    base = hand_made_records[0]
    diverged = base.model_copy(update={"loss": base.loss.model_copy(update={"eval_loss": math.inf})})

    comparison = _compare([diverged, *hand_made_records[1:]])

    assert comparison.margins["eval_loss"].size == 0.01
    assert comparison.margins["eval_loss"].rule() == "0.01, because fine-tuning has no measured gain"


def test_interval_has_the_confidence_of_the_options(hand_made_records: Records) -> None:
    narrow, wide = (
        _compare(hand_made_records, ComparisonOptions(confidence=level)).assessment("alpha=5", "eval_loss")
        for level in (0.9, 0.99)
    )
    assert narrow is not None
    assert wide is not None
    low, high = ttest_1samp([-0.002, -0.005, -0.002], 0).confidence_interval(0.99)
    assert (wide.paired.ci_low, wide.paired.ci_high) == pytest.approx((low, high))
    assert wide.paired.ci_high > narrow.paired.ci_high


def test_two_seeds_have_no_verdict(hand_made_records: Records) -> None:
    assessment = _compare([*hand_made_records[1:3], *hand_made_records[4:6]]).assessment("alpha=5", "eval_loss")

    assert assessment is not None
    assert (assessment.verdict, assessment.paired.about) == (None, "checkpoints")


def test_primary_metric_must_be_measured(hand_made_records: Records) -> None:
    assert _compare(hand_made_records).primary == "eval_loss"
    assert _compare(hand_made_records, ComparisonOptions(metric="rouge_l")).primary == "rouge_l"
    with pytest.raises(UsageError, match="--metric 'bleu': no metric with this key was measured in sweep 'bios'"):
        _compare(hand_made_records, ComparisonOptions(metric="bleu"))


def test_unpaired_diverged_seed_of_the_baseline_does_not_change_the_margin(hand_made_records: Records) -> None:
    diverged = hand_made_records[1].loss.model_copy(update={"eval_perplexity": 1e304})
    lonely = hand_made_records[1].model_copy(update={"seed": 7, "trial": "lonely", "loss": diverged})

    assessment = _compare([*hand_made_records, lonely]).assessment("alpha=5", "eval_perplexity")

    assert assessment is not None
    assert assessment.margin == pytest.approx(0.01 * 4.527)


def test_best_arm_is_selected_among_arms_with_enough_seeds(hand_made_records: Records) -> None:
    second = [_renamed(record, "alpha=10") for record in hand_made_records[4:]]
    third = [_renamed(record, "alpha=15") for record in hand_made_records[4:5]]

    best = _compare([*hand_made_records, *second, *third]).best

    assert best is not None
    assert set(best.chosen) == {"alpha=5", "alpha=10"}
    assert _compare([*hand_made_records, *third]).best is None


def test_best_arm_needs_three_seeds_that_all_arms_share() -> None:
    losses = np.array([1.0, 1.1, 0.9, 1.0, 1.2])
    by_seed = {
        "alpha=0": (0.0, dict(enumerate(losses))),
        "alpha=5": (5.0, {0: 0.9, 1: 0.95, 2: 0.8}),
        "alpha=10": (10.0, {2: 0.7, 3: 0.9, 4: 0.85}),
    }
    trials = tuple(
        Measurements(
            f"{name} {seed}", name, alpha, seed, {"eval_loss": loss}, {"eval_loss": item_values([loss] * 4)}, {}
        )
        for name, (alpha, of_arm) in by_seed.items()
        for seed, loss in of_arm.items()
    )

    comparison = compare_arms(Evidence("s", Setting("m", "d", {}, {}), trials, METRICS))

    assert comparison.best is None


def test_trials_without_items_have_no_number_of_items_in_notes() -> None:
    values = [{"eval_loss": item_values([1.0, 2.0, 3.0 + seed])} for seed in range(3)]
    trials = tuple(
        Measurements(f"{arm} {seed}", arm, 0.0, seed, {"eval_loss": 2.0}, {} if arm == "two" else values[seed], {})
        for arm in ("one", "two")
        for seed in range(3)
    )

    assert compare_arms(Evidence("s", Setting("m", "d", {}, {}), (BASE, *trials), METRICS)).notes == ()


def test_different_items_of_trials_are_noted() -> None:
    def trial(arm: str, seed: int, items: tuple[str, ...]) -> Measurements:
        values = item_values(np.arange(len(items)) + seed, items)
        return Measurements(f"{arm} {seed}", arm, 0.0, seed, {"eval_loss": 1.0}, {"eval_loss": values}, {})

    trials = [trial(arm, seed, ("a", "b", "c")) for arm in ("one", "two") for seed in range(3)]
    short = trial("two", 2, ("a", "b"))

    compared = compare_arms(Evidence("s", Setting("m", "d", {}, {}), (BASE, *trials[:-1], short), METRICS))

    assert compared.notes == (
        "Held-out loss: trials have 2 to 3 items. Each difference uses the items that both arms have.",
    )
    assessment = compared.assessment("two", "eval_loss")
    assert assessment is not None
    assert assessment.paired.items == 2


@pytest.mark.parametrize("is_sweep", [False, True])
def test_runs_with_equal_values_are_noted_unless_a_sweep_trained_them(is_sweep: bool) -> None:
    def trial(arm: str, seed: int, values: Sequence[float]) -> Measurements:
        measured = {"eval_loss": item_values(values), "exact_match": item_values([0.0, 0.0, 0.0])}
        return Measurements(f"{arm} {seed}", arm, 0.0, seed, {"eval_loss": 2.0}, measured, {})

    distinct = tuple(trial("one", seed, [1.0, 2.0, 3.0 + seed]) for seed in range(3))
    equal = tuple(trial("two", seed, [1.0, 2.0, 3.0]) for seed in range(3))
    origin = TrialOrigin(is_sweep=is_sweep)

    trials = (BASE, *distinct, *equal)
    compared = compare_arms(Evidence("s", Setting("m", "d", {}, {}), trials, METRICS, origin=origin))

    same = "Runs of two with different seeds have the same value on every item. If they are copies of one run, the "
    expected = [] if is_sweep else [Departure("copied runs", f"{same}verdicts do not hold for other seeds.")]
    assert list(compared.departures) == expected


@pytest.mark.parametrize(
    ("weights", "clusters", "note", "is_unknown"),
    [
        ([1.0] * 40, 40, None, False),
        ([6.0, 8, 8, 8, 10, 18, 18, 24], 8, None, False),  # the usual differences in length
        ([6.0, 30], 2, "the 2 held-out examples count as only 1.4 of equal weight", True),
        (
            [60.0, 40, 30, 20, 10, 10, 5, 5, 5, 5, 5, 5],
            12,
            "the 12 held-out examples count as only 5.8 of equal weight",
            False,
        ),
        ([1.0] * 60, 3, None, False),
        (
            [*[20.0] * 20, *[1.0] * 80],
            25,
            "the 25 clusters of held-out examples count as only 7.1 of equal weight",
            False,
        ),
        ([1e6, *[1.0] * 39], 40, "the 40 held-out examples count as only 1.0 of equal weight", True),
    ],
)
def test_few_items_in_effect_are_noted(weights: list[float], clusters: int, note: str | None, is_unknown: bool) -> None:
    draws, size = np.random.default_rng(0), len(weights) // clusters
    labels = [f"cluster {number // size}" for number in range(len(weights))]

    def trial(arm: str, seed: int) -> Measurements:
        names = labels if size == 1 else [f"item {number}" for number in range(len(weights))]
        values = item_values(draws.normal(size=len(weights)), names, labels, weights)
        return Measurements(f"{arm} {seed}", arm, 0.0, seed, {"eval_loss": 1.0}, {"eval_loss": values}, {})

    trials = tuple(trial(arm, seed) for arm in ("one", "two") for seed in range(3))
    compared = compare_arms(Evidence("s", Setting("m", "d", {}, {}), (BASE, *trials), METRICS))

    reason = "because a few of them weigh much more than the others."
    end = "With fewer than 1.5 there is no interval and no verdict." if is_unknown else "This makes the intervals wide."
    assert compared.notes == ((f"Held-out loss: {note}, {reason} {end}",) if note else ())
    assessment = compared.assessment("two", "eval_loss")
    assert assessment is not None
    assert math.isnan(assessment.paired.p_value) == is_unknown


def test_declared_metric_and_margin_apply(hand_made_records: Records) -> None:
    plan = AnalysisPlan(metric="rouge_l", margin=Margin(0.5))

    comparison = _compare(hand_made_records, plan=plan)

    one, loss = (comparison.assessment("alpha=5", key) for key in ("rouge_l", "eval_loss"))
    assert comparison.primary == "rouge_l"
    assert one is not None
    assert loss is not None
    assert one.margin == 0.5
    assert loss.margin == pytest.approx(0.01 * (4.2 - 1.51))


def test_declared_margin_belongs_to_the_declared_metric(hand_made_records: Records) -> None:
    plan = AnalysisPlan(margin=Margin(0.5))

    comparison = _compare(hand_made_records, ComparisonOptions(metric="rouge_l"), plan=plan)

    rouge, loss = (comparison.assessment("alpha=5", key) for key in ("rouge_l", "eval_loss"))
    assert rouge is not None
    assert loss is not None
    assert (rouge.margin, loss.margin) == (0.02, 0.5)
    assert comparison.notes[0] == ("The planned primary metric is held-out loss. Results of ROUGE-L are exploratory.")


LOOKS = AnalysisPlan(looks=(3, 5), seeds=(0, 1, 2, 3, 4), looks_taken=1)


@pytest.mark.parametrize(
    ("plan", "margin", "is_noted"),
    [
        (AnalysisPlan(margin=Margin(0.5)), Margin(0.7), True),
        (AnalysisPlan(margin=Margin(0.5)), Margin(0.5), False),
        (AnalysisPlan(), Margin(0.7), False),
        (LOOKS, Margin(0.7), True),
    ],
    ids=["declared", "the declared one", "none declared", "looks"],
)
def test_another_margin_than_the_declared_one_is_noted(
    hand_made_records: Records, plan: AnalysisPlan, margin: Margin, is_noted: bool
) -> None:
    comparison = _compare(hand_made_records, ComparisonOptions(margins={"eval_loss": margin}), plan=plan)

    assert comparison.chosen_margin == margin
    note = "The equivalence margin of the sweep is "
    assert any(one.sentence.startswith(note) for one in comparison.departures) == is_noted


def test_another_level_than_that_of_the_looks_is_noted(hand_made_records: Records) -> None:
    noted, fixed = (
        _compare(hand_made_records, ComparisonOptions(confidence=0.9), plan=plan).departures
        for plan in (LOOKS, AnalysisPlan())
    )

    sentence = "The planned looks use a confidence level of 95%. Verdicts at 90% are exploratory."
    assert noted == (Departure("other level", sentence),)
    assert fixed == ()


def test_other_baseline_than_the_declared_one_is_noted(hand_made_records: Records) -> None:
    comparison = _compare(hand_made_records, ComparisonOptions(baseline="5"), plan=AnalysisPlan(metric="eval_loss"))

    assert comparison.notes[0] == "The declared baseline is alpha=0. The comparison with alpha=5 is exploratory."


def test_declared_metric_that_was_not_measured_is_noted(hand_made_records: Records) -> None:
    margin = Margin(100.0)
    comparison = _compare(hand_made_records, plan=AnalysisPlan(metric="bleu", margin=margin))

    assert comparison.primary == "eval_loss"
    assert comparison.margins["eval_loss"].size < 100  # the declared margin is in the unit of bleu
    assert comparison.notes[0] == "The declared primary metric bleu was not measured."


def _compare(
    records: Records,
    options: ComparisonOptions = ComparisonOptions(),  # noqa: B008
    plan: AnalysisPlan | None = None,
) -> Comparison:
    trials = tuple(
        Measurements(one.trial, one.arm, one.alpha, one.seed, scores_of(one), {}, {}, noise_ratio=_ratio(one))
        for one in records
    )
    return compare_arms(Evidence("bios", Setting("tiny", "bios", {}, {}), trials, METRICS, plan=plan), options)


def _ratio(record: TrialRecord) -> float | None:
    return record.noise.ratio if record.noise else None


def _paired(comparison: Comparison, arm: str, key: str = "eval_loss") -> tuple[Estimate, DifferenceBySeed]:
    estimate = next(summary for summary in comparison.arms if summary.name == arm).estimates[key]
    assert estimate is not None
    assert estimate.difference is not None
    return estimate, estimate.difference


def _with_random_losses(records: Records, generator: random.Random) -> Records:
    def changed(record: TrialRecord) -> TrialRecord:
        losses = {key: generator.uniform(0.5, 5) for key in LOSS_METRICS}
        return record.model_copy(update={"loss": record.loss.model_copy(update=losses)})

    return [changed(record) for record in records]


def _renamed(record: TrialRecord, arm: str) -> TrialRecord:
    return record.model_copy(update={"arm": arm, "trial": f"{arm} {record.seed}"})


@pytest.mark.parametrize(
    ("without", "same", "other"),
    [
        ("alpha=0", "alpha=5", "alpha=5,weight_decay=0.1"),
        ("alpha=0", "alpha=5,noise=gaussian", "alpha=5,noise=gaussian,weight_decay=0.1"),
        ("alpha=0,weight_decay=0", "alpha=5,weight_decay=0", "alpha=5,weight_decay=0.1"),
        ("alpha=0,weight_decay=0", "alpha=5,noise=gaussian,weight_decay=0", "alpha=5"),
    ],
)
def test_an_arm_with_another_recipe_is_no_question_about_noise(without: str, same: str, other: str) -> None:
    def compared(name: str) -> Comparison:
        losses = [1.5, 1.8, 1.6]
        arms = joined(
            arm(without, 0.0, {"eval_loss": [1.0, 1.1, 1.2]}),
            *(arm(name.replace("alpha=5", f"alpha={alpha}"), alpha, {"eval_loss": losses}) for alpha in (5, 10)),
        )
        trials = tuple(trial for of_arm in arms.values() for trial in of_arm.values())
        return compare_arms(Evidence("s", Setting("m", "d", {}, {}), trials, METRICS))

    both, noise = compared(other), compared(same)
    assert (both.about_noise, noise.about_noise) == (False, True)
    assert noise.noise_tests
    assert not both.noise_tests
    assert " noise " not in headline(both).sentence
    assert "Leave the noise off" not in advice(both)
