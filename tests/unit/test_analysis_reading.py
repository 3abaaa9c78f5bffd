"""The reading says what the numbers are, word for word, and nothing more."""

import re

import pytest

from neftune_cli.analysis.comparison import compare_arms
from neftune_cli.analysis.reading import noise_sentence, reading
from neftune_cli.records import TrialRecord

Records = list[TrialRecord]

FEW_SEEDS = "this describes these runs, not the method; sweep with --seeds 5 to learn about the method."


def test_three_seeds(hand_made_records: Records) -> None:
    assert reading(compare_arms("bios", hand_made_records)) == (
        "Held-out loss: alpha=5 is lower than alpha=0 by 0.0030 on average over 3 paired seeds "
        "(lower in 3 of 3, spread of the differences 0.0017). "
        "Noise-off training loss: alpha=5 is higher than alpha=0 by 0.0520 on average over 3 paired seeds "
        "(higher in 3 of 3, spread of the differences 0.0035). "
        "Spreads are over the seeds of this one model, data set and recipe; no test has been made."
    )


def test_further_arms_leave_out_what_the_first_has_said(hand_made_records: Records) -> None:
    third = [_changed(record, arm="alpha=15", shift=0.01) for record in hand_made_records[4:]]

    text = reading(compare_arms("bios", [*hand_made_records, *third]))

    assert "spread of the differences 0.0017); alpha=15 is higher by 0.0070 (3 of 3, spread 0.0017). Noise-off" in text


def test_two_seeds_say_nothing_about_the_method(hand_made_records: Records) -> None:
    text = reading(compare_arms("bios", [record for record in hand_made_records if record.seed != 2]))

    # The differences are -2 and -5 thousandths.
    assert text.startswith(
        "Held-out loss: alpha=5 is lower than alpha=0 by 0.0035 on average over 2 paired seeds "
        "(lower in 2 of 2, spread of the differences 0.0021)."
    )
    assert text.endswith(f" 2 paired seeds: {FEW_SEEDS}")


def test_one_seed(hand_made_records: Records) -> None:
    text = reading(compare_arms("bios", [record for record in hand_made_records if record.seed == 1]))

    assert text.startswith("Held-out loss: alpha=5 is lower than alpha=0 by 0.0050 with the one seed both have.")
    assert text.endswith(f" 1 paired seed: {FEW_SEEDS}")


def test_only_the_arms_with_few_seeds_are_held_back(hand_made_records: Records) -> None:
    third = _changed(hand_made_records[4], arm="alpha=15", shift=0.0)

    text = reading(compare_arms("bios", [*hand_made_records, third]))

    assert text.endswith(f" alpha=15 with 1 paired seed: {FEW_SEEDS}")


def test_no_shared_seed(hand_made_records: Records) -> None:
    text = reading(compare_arms("bios", [hand_made_records[1], hand_made_records[6]]))

    assert text.startswith("Held-out loss: alpha=5 shares no finished seed with alpha=0.")
    assert text.endswith(f" 0 paired seeds: {FEW_SEEDS}")


def test_one_arm(hand_made_records: Records) -> None:
    text = reading(compare_arms("bios", hand_made_records[:4]))

    assert text == "alpha=0 is the only arm that has finished: there is nothing to compare it with."


@pytest.mark.parametrize(
    ("shift", "words"),
    [(0.0, "alpha=5 equals alpha=0"), (0.00001, "alpha=5 is higher than alpha=0 by less than 0.0001 ")],
)
def test_tiny_differences(hand_made_records: Records, shift: float, words: str) -> None:
    arms = hand_made_records[1:4]
    same = [_changed(record, arm="alpha=5", shift=shift) for record in arms]

    assert words in reading(compare_arms("bios", [*arms, *same]))


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_nothing_is_claimed(hand_made_records: Records, seeds: int) -> None:
    records = [record for record in hand_made_records if record.seed is None or record.seed < seeds]

    text = reading(compare_arms("bios", records))

    assert not re.search(r"signific|better|worse|help|improv|works|effect", text, re.IGNORECASE)
    assert ("not the method" in text) == (seeds < 3)


def test_noise_is_told_as_a_share_of_the_embedding(hand_made_records: Records) -> None:
    unmeasured = _changed(hand_made_records[4], arm="alpha=9", shift=0.0).model_copy(update={"noise": None})

    sentence = noise_sentence(compare_arms("bios", [*hand_made_records, unmeasured]))

    # 0.058 * 5 / 3 is 9.67%.
    assert sentence == (
        "Noise norm / embedding norm at the median length: 0% (alpha=0), 9.7% (alpha=5), not measured (alpha=9)."
    )


def _changed(record: TrialRecord, *, arm: str, shift: float) -> TrialRecord:
    loss = record.loss.model_copy(update={"eval_loss": record.loss.eval_loss + shift})
    return record.model_copy(update={"arm": arm, "alpha": 15.0, "loss": loss})
