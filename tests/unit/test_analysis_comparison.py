"""The comparison against a table computed by hand, against pandas, and at the edges of what can be paired."""

import math
import random

import pandas as pd
import pytest

from neftune_cli.analysis.comparison import Comparison, Estimate, PairedDifference, compare_arms
from neftune_cli.analysis.metrics import METRICS
from neftune_cli.errors import ExitCode, NothingToCompareError, UsageError
from neftune_cli.records import EVAL_METRICS, LOSS_METRICS, TrialRecord

Records = list[TrialRecord]


def test_held_out_loss_by_hand(hand_made_records: Records) -> None:
    comparison = compare_arms("bios", hand_made_records)

    estimate, difference = _paired(comparison, "alpha=5", "eval_loss")
    assert comparison.baseline == "alpha=0"
    assert estimate.by_seed == {0: 1.498, 1: 1.505, 2: 1.518}
    assert estimate.mean == pytest.approx(1.507)
    assert estimate.sd == pytest.approx(math.sqrt((0.009**2 + 0.002**2 + 0.011**2) / 2))
    # The differences are -2, -5 and -2 thousandths: their spread is far below that of the losses themselves.
    assert difference.mean == pytest.approx(-0.003)
    assert difference.sd == pytest.approx(math.sqrt((1 + 4 + 1) / 2) / 1000)
    assert (difference.seeds, difference.lower, difference.higher) == (3, 3, 0)


def test_a_tie_is_neither_lower_nor_higher(hand_made_records: Records) -> None:
    _, difference = _paired(compare_arms("bios", hand_made_records), "alpha=5", "exact_match")

    assert (difference.seeds, difference.lower, difference.higher) == (3, 0, 2)


def test_everything_agrees_with_pandas(hand_made_records: Records) -> None:
    records = _with_random_losses(hand_made_records, random.Random(3))[:-1]
    frame = pd.DataFrame([{"arm": r.arm, "seed": r.seed, **r.loss.model_dump()} for r in records if r.seed is not None])

    comparison = compare_arms("bios", records)

    for key in LOSS_METRICS:
        table = frame.pivot(index="seed", columns="arm", values=key)
        paired = (table["alpha=5"] - table["alpha=0"]).dropna()
        estimate, difference = _paired(comparison, "alpha=5", key)
        assert (estimate.mean, estimate.sd) == pytest.approx((table["alpha=5"].mean(), table["alpha=5"].std()))
        assert (difference.mean, difference.sd) == pytest.approx((paired.mean(), paired.std()))
        assert difference.seeds == len(paired) == 2


def test_base_and_arms_keep_their_order(hand_made_records: Records) -> None:
    comparison = compare_arms("bios", hand_made_records)

    assert comparison.base is not None
    assert comparison.base["eval_loss"] == 4.2
    assert comparison.base["train_loss"] is None
    assert [arm.name for arm in comparison.arms] == ["alpha=0", "alpha=5"]
    assert [arm.noise_ratio for arm in comparison.arms] == pytest.approx([0, 0.29 / 3])


def test_one_seed_has_no_spread(hand_made_records: Records) -> None:
    estimate, difference = _paired(compare_arms("bios", [hand_made_records[1], hand_made_records[4]]), "alpha=5")

    assert estimate.sd is None
    assert difference.sd is None
    assert difference.mean == pytest.approx(-0.002)


def test_arms_without_a_shared_seed_have_no_difference(hand_made_records: Records) -> None:
    comparison = compare_arms("bios", [hand_made_records[1], hand_made_records[6]])

    estimate = comparison.treated[0].estimates["eval_loss"]
    assert estimate is not None
    assert estimate.difference is None


def test_a_metric_without_values_has_no_estimate(hand_made_records: Records) -> None:
    comparison = compare_arms("bios", hand_made_records)

    assert all(arm.estimates["bleu"] is None for arm in comparison.arms)


def test_an_infinite_value_has_no_mean(hand_made_records: Records) -> None:
    diverged = hand_made_records[4].loss.model_copy(update={"eval_perplexity": math.inf})
    hand_made_records[4] = hand_made_records[4].model_copy(update={"loss": diverged})

    estimate, difference = _paired(compare_arms("bios", hand_made_records), "alpha=5", "eval_perplexity")

    assert math.isnan(estimate.mean)
    assert math.isnan(difference.mean)
    assert (estimate.sd, difference.sd) == (None, None)


@pytest.mark.parametrize("wanted", ["5", "5.0", "alpha=5"])
def test_the_baseline_is_named_by_alpha_or_name(hand_made_records: Records, wanted: str) -> None:
    comparison = compare_arms("bios", hand_made_records, wanted)

    assert comparison.baseline == "alpha=5"
    assert _paired(comparison, "alpha=0")[1].mean == pytest.approx(0.003)


def test_an_alpha_means_the_arm_that_varies_nothing_else(hand_made_records: Records) -> None:
    decayed = [_renamed(record, "weight decay") for record in hand_made_records[1:4]]

    assert compare_arms("bios", [*decayed, *hand_made_records], "0").baseline == "alpha=0"


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("7", "--baseline 7: sweep 'bios' has no trained arm of that name or alpha. Type one of 'alpha=0', 'alpha=5'."),
        (
            "base",
            "--baseline base: sweep 'bios' has no trained arm of that name or alpha. Type one of 'alpha=0', 'alpha=5'.",
        ),
    ],
)
def test_an_unknown_baseline_lists_the_arms(hand_made_records: Records, wanted: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        compare_arms("bios", hand_made_records, wanted)

    assert str(caught.value) == message


def test_an_ambiguous_baseline_lists_its_matches(hand_made_records: Records) -> None:
    named = [_renamed(hand_made_records[4], "short"), _renamed(hand_made_records[5], "long")]

    with pytest.raises(UsageError) as caught:
        compare_arms("bios", [*hand_made_records[:4], *named], "5")

    message = "--baseline 5: sweep 'bios' has 2 arms of that name or alpha. Type one of 'short', 'long'."
    assert str(caught.value) == message


def test_two_trials_of_one_seed_are_not_mixed(hand_made_records: Records) -> None:
    other_recipe = hand_made_records[1].model_copy(update={"trial": "other"})

    with pytest.raises(UsageError, match=r"two trials of arm 'alpha=0', seed 0: id of alpha=0 0 and other\."):
        compare_arms("bios", [*hand_made_records, other_recipe])


def test_the_base_alone_is_nothing_to_compare(hand_made_records: Records) -> None:
    with pytest.raises(NothingToCompareError, match="No trained trial of sweep 'bios' has finished") as caught:
        compare_arms("bios", hand_made_records[:1])

    assert caught.value.exit_code is ExitCode.NOTHING_TO_COMPARE


def test_every_metric_of_a_record_has_words() -> None:
    assert tuple(METRICS) == LOSS_METRICS + EVAL_METRICS


def test_numbers_keep_to_their_column() -> None:
    metric = METRICS["eval_perplexity"]

    assert metric.number(4.5) == "4.500"
    assert metric.signed(-0.0137) == "\N{MINUS SIGN}0.014"
    assert metric.signed(0.0137) == "+0.014"
    assert metric.number(123456789.0) == "1.23e+08"


def _paired(comparison: Comparison, arm: str, key: str = "eval_loss") -> tuple[Estimate, PairedDifference]:
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
