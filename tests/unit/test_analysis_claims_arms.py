"""Arms that the claims use, missing data, and the claim that compares alphas with each other."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import ArrayLike
from scipy import stats

from neftune_cli.analysis.alignment import TrialsByArm
from neftune_cli.analysis.paper_claims.claim_data import noisy_arms
from neftune_cli.analysis.results import Status
from neftune_cli.config.resolve import resolve_sweep
from neftune_cli.evidence.measurements import Floats
from neftune_cli.evidence.sweeps import sweep_evidence
from neftune_cli.records import TrialRecord
from neftune_cli.store import SweepFolder
from tests.finished_trials import write_trial
from tests.measured_trials import MARGINS, OPTIONS, SEED_EFFECTS, Values, arm, examine, joined, with_items

MARGIN = MARGINS["eval_loss"]


def losses(**by_alpha: ArrayLike) -> TrialsByArm:
    """Return arms of held-out losses by seed, named by their alpha: `a5` is alpha=5."""
    return joined(
        *(
            arm(f"alpha={name[1:]}", float(name[1:]), {"eval_loss": with_items(values)})
            for name, values in by_alpha.items()
        )
    )


def lengths(by_seed: ArrayLike) -> Values:
    return {"response_chars": with_items(by_seed)}


FLAT = np.full(5, 100.0)


def test_claims_need_an_arm_with_alpha_0() -> None:
    arms = joined(arm("alpha=5", 5.0, lengths(FLAT)), arm("theirs", None, lengths(FLAT)))

    results = examine(arms, baseline="alpha=5").values()

    assert {one.status for one in results} == {"not measured"}
    assert {one.here for one in results} == {
        "This claim needs an arm with alpha 0: "
        "`neftune sweep --model NAME --dataset NAME --alphas 0,5,10,15 --seeds 5`."
    }


def test_claims_need_a_noisy_arm() -> None:
    arms = joined(arm("alpha=0", 0.0, lengths(FLAT)), arm("theirs", None, lengths(FLAT)))

    assert {one.status for one in examine(arms).values()} == {"not measured"}


def test_reference_is_the_baseline_or_else_the_first_arm_without_noise() -> None:
    arms = joined(
        arm("alpha=5", 5.0, lengths(FLAT + 20)),
        arm("alpha=0", 0.0, lengths(FLAT)),
        arm("again", 0.0, lengths(FLAT + 10), ()),
    )

    assert "alpha=5 minus alpha=0: +20.0" in examine(arms, baseline="alpha=5")["answers-get-longer"].here
    assert "alpha=5 minus again: +10.0" in examine(arms, baseline="again")["answers-get-longer"].here


@pytest.mark.parametrize("details", [("weight_decay=0.1",), None])
def test_arm_with_another_recipe_is_excluded(details: tuple[str, ...] | None) -> None:
    name = "alpha=5,weight_decay=0.1" if details is None else "decayed"
    arms = joined(
        arm("alpha=0", 0.0, lengths(FLAT)),
        arm("alpha=5", 5.0, lengths(FLAT + 20)),
        arm(name, 5.0, lengths(FLAT + 80), details),
    )

    assert "Response length, alpha=5 minus alpha=0: +20.0" in examine(arms)["answers-get-longer"].here


@pytest.mark.parametrize("name", ["long training", "alpha=5,epochs=9", "alpha=7", "alpha=5.0", "noise=gaussian"])
def test_arm_with_an_unknown_recipe_is_excluded_and_named(name: str) -> None:
    values = {**lengths(FLAT), "eval_loss": with_items(FLAT)}
    arms = joined(*(arm(f"alpha={alpha}", alpha, values) for alpha in (0, 5, 10)), arm(name, 5.0, values))

    results = examine(arms)

    excluded = f"Excluded, because their recipe is unknown: {name}."
    here = results["answers-get-longer"].here
    assert here.startswith("Response length, mean of alpha=5 and alpha=10 minus alpha=0: ")
    assert here.endswith(excluded)
    assert "1 pair of alphas" in results["alphas-are-alike"].here
    assert results["alphas-are-alike"].here.endswith(excluded)


def test_arm_named_after_its_noise_is_included() -> None:
    arms = joined(
        arm("alpha=0", 0.0, lengths(FLAT)),
        arm("alpha=0.5,noise=gaussian,noise_scale=paper", 0.5, lengths(FLAT + 20)),
    )

    assert "noise_scale=paper minus alpha=0: +20.0" in examine(arms)["answers-get-longer"].here


def test_unknown_recipes_are_named_if_no_claim_is_measured() -> None:
    noisy = joined(arm("alpha=0", 0.0, lengths(FLAT)), arm("ours", 5.0, lengths(FLAT)))
    reference = joined(arm("plain", 0.0, lengths(FLAT)), arm("alpha=5", 5.0, lengths(FLAT)))

    assert examine(noisy)["answers-get-longer"].here.endswith("because their recipe is unknown: ours.")
    assert examine(reference, baseline="plain")["answers-get-longer"].here == (
        "This claim needs an arm with alpha 0 and a known recipe. The recipe of plain is unknown. "
        "If it differs from the others only in the noise, name its runs alpha=0."
    )


@pytest.mark.parametrize(
    ("name", "details"),
    [("decayed", ("weight_decay=0.1",)), ("weight decay", None), ("alpha=0,weight_decay=0.1", None)],
)
def test_reference_is_preferably_an_arm_without_other_changes(name: str, details: tuple[str, ...] | None) -> None:
    arms = joined(
        arm("alpha=5", 5.0, lengths(FLAT + 20)),
        arm(name, 0.0, lengths(FLAT + 90), details),
        arm("alpha=0", 0.0, lengths(FLAT)),
    )

    assert "alpha=5 minus alpha=0: +20.0" in examine(arms, baseline="alpha=5")["answers-get-longer"].here


def test_arms_of_a_sweep_have_their_overrides(tmp_path: Path, hand_made_records: list[TrialRecord]) -> None:
    experiment = tmp_path / "experiment.yaml"
    experiment.write_text(
        "arms: [{alpha: 0}, {name: bell, alpha: 5, noise: gaussian}, "
        "{name: decayed, alpha: 5, train: {weight_decay: 0.1}}, {name: plain, alpha: 5}]"
    )
    plain = hand_made_records[4]
    noise, recipe = {"alpha": 5.0, "noise": "gaussian", "noise_scale": "paper"}, plain.identity["train"]
    records = [
        plain.model_copy(update={"trial": name, "arm": name, "identity": plain.identity | changes})
        for name, changes in (
            ("bell", {"noise": noise}),
            ("decayed", {"train": recipe | {"sft": {"weight_decay": 0.1}}}),
            ("plain", {}),
        )
    ]
    folder = SweepFolder(tmp_path / "sweep")
    folder.open(resolve_sweep(experiment, {"seeds": [0]}))
    for record in (hand_made_records[1], *records):
        trial = folder.trial(record.trial, record.arm, record.seed)
        write_trial(trial, record)

    (found,) = sweep_evidence([folder])
    arms = {one.arm: {0: one} for one in found.trials}

    assert noisy_arms(arms, "alpha=0") == ("bell", "plain")
    assert {name: trials[0].details for name, trials in arms.items()} == {
        "alpha=0": (),
        "bell": ("noise=gaussian",),
        "decayed": ("weight_decay=0.1",),
        "plain": (),
    }


def test_noise_distributions_are_pooled_but_not_on_one_line() -> None:
    values = {"train_loss_clean": FLAT, **lengths(FLAT)}
    arms = joined(
        arm("alpha=0", 0.0, values),
        arm("alpha=5,noise=gaussian", 5.0, values),
        arm("alpha=5", 5.0, values),
        arm("alpha=10", 10.0, values),
    )

    results = examine(arms)

    assert "mean of alpha=5,noise=gaussian, alpha=5 and alpha=10 minus" in results["answers-get-longer"].here
    assert "through alpha=0, alpha=5 and alpha=10, from alpha 0 to 10" in results["training-loss-rises"].here


def test_arm_without_shared_seeds_is_excluded() -> None:
    late = {"alpha=10": {seed + 5: one for seed, one in arm("alpha=10", 10.0, lengths(FLAT))["alpha=10"].items()}}
    arms = joined(arm("alpha=0", 0.0, lengths(FLAT)), arm("alpha=5", 5.0, lengths(FLAT)), late)

    assert examine(arms)["answers-get-longer"].here.startswith("Response length, alpha=5 minus alpha=0")


@pytest.mark.parametrize(
    ("claim", "text"),
    [
        ("training-loss-rises", "This claim needs the noise-off training loss, which `neftune sweep"),
        ("training-rouge-falls", "Run the sweep again on data with prompts."),
        ("diversity-stays", "on data with completions. The responses must have at least ten words"),
        ("gains-beyond-length", "on data with completions"),
        (
            "gains-over-early-stopping",
            "`neftune sweep --model NAME --dataset NAME --alphas 0,5,10,15 --seeds 5 --epochs 3`",
        ),
    ],
)
def test_claims_that_were_not_measured_have_advice(claim: str, text: str) -> None:
    result = examine(losses(a0=FLAT, a5=FLAT))[claim]

    assert result.status == "not measured"
    assert text in result.here


def test_responses_that_are_too_short_are_the_only_reason_given() -> None:
    result = examine(joined(arm("alpha=0", 0.0, lengths(FLAT)), arm("alpha=5", 5.0, lengths(FLAT))))["diversity-stays"]

    assert result.status == "not measured"
    assert result.here == (
        "This claim needs longer responses. The responses must have at least ten words. Increase --max-new-tokens if "
        "responses were truncated."
    )


def test_diverged_trial_is_named() -> None:
    broken = FLAT.copy()
    broken[2] = math.inf

    results = examine(losses(a0=FLAT, a5=FLAT, a10=broken))

    assert results["held-out-loss-does-not-rise"].status == "not measured"
    assert "is not finite in a trial of alpha=10" in results["held-out-loss-does-not-rise"].here
    assert "is not finite in a trial of alpha=10" in results["alphas-are-alike"].here


SPREAD = SEED_EFFECTS * MARGIN
OTHER = np.array([1.0, -2.0, 2.0, 0.0, -1.0]) * MARGIN


@pytest.mark.parametrize(
    ("fives", "tens", "fifteens", "status"),
    [
        (0 * SPREAD, 0.1 * SPREAD, 0.1 * OTHER, "supported"),
        (0 * SPREAD, 0.1 * SPREAD, 0.1 * OTHER + 0.05, "refuted"),
        (0 * SPREAD, 0.1 * SPREAD, 5 * OTHER, "inconclusive"),
    ],
)
def test_alphas_are_alike_if_all_pairs_are(fives: Floats, tens: Floats, fifteens: Floats, status: Status) -> None:
    arms = losses(a0=2 + 7 * OTHER, a5=2 + fives, a10=2 + tens, a15=2 + fifteens)

    assert examine(arms)["alphas-are-alike"].status == status


def test_differences_between_alphas_are_hommel_adjusted() -> None:
    base = 2 + 5 * SPREAD
    fifteens = base + np.array([0.4, 3.0, 1.0, 4.5, 2.3]) * MARGIN
    p_value = stats.ttest_rel(fifteens, base).pvalue
    arms = losses(a0=base, a5=base, a10=base + 0.01 * SPREAD, a15=fifteens)
    only_two = losses(a0=base, a5=base, a15=fifteens)

    assert 0.05 / 2 < p_value < 0.05  # of two pairs, while the third has a p-value of 1
    assert examine(arms)["alphas-are-alike"].status == "inconclusive"
    assert examine(only_two)["alphas-are-alike"].status == "refuted"


def test_pairs_are_counted_and_the_largest_difference_is_named() -> None:
    arms = losses(a0=2 + 0 * SPREAD, a15=2 + 0.1 * SPREAD, a5=2 + 0.1 * OTHER - 0.05, a10=2 + 0 * SPREAD)

    here = examine(arms)["alphas-are-alike"].here

    assert "3 pairs of alphas: 1 equivalent, 2 different (alpha=10 minus alpha=5 and alpha=15 minus alpha=5), 0" in here
    assert "Largest difference: alpha=" in here
    assert " minus alpha=5, +0.0500 nats [" in here


def test_alphas_are_compared_on_the_primary_metric_if_it_is_held_out() -> None:
    values = {"eval_loss": with_items(FLAT), "rouge_l": with_items(FLAT), "probe_rouge_l": with_items(FLAT)}
    arms = joined(*(arm(f"alpha={alpha}", alpha, values) for alpha in (0, 5, 10)))

    assert examine(arms, options=replace(OPTIONS, metric="rouge_l"))["alphas-are-alike"].here.startswith(
        "ROUGE-L, 1 pair of"
    )
    held_out = examine(arms, options=replace(OPTIONS, metric="probe_rouge_l"))["alphas-are-alike"]
    assert held_out.here.startswith("Held-out loss, 1 pair of")


def test_pairs_differ_only_in_alpha() -> None:
    arms = joined(
        losses(a0=FLAT, a5=FLAT, a10=FLAT + 0.1 * SPREAD),
        arm("alpha=15,noise=gaussian", 15.0, {"eval_loss": with_items(FLAT + 1)}),
        arm("five again", 5.0, {"eval_loss": with_items(FLAT)}, ()),
    )

    result = examine(arms)["alphas-are-alike"]

    assert result.status == "supported"
    assert "2 pairs of alphas: 2 equivalent" in result.here  # alpha=10 with each arm of alpha 5


def test_alphas_that_the_paper_does_not_have_are_named() -> None:
    noise = np.array([0.01, -0.02, 0.03, 0.0, -0.01])

    within, beyond = (examine(losses(a0=noise, a15=noise + 1, **{name: noise + 2})) for name in ("a10", "a100"))

    assert "than the paper" not in within["held-out-loss-does-not-rise"].caveat
    assert beyond["held-out-loss-does-not-rise"].caveat.endswith(
        "alpha=100 has a larger alpha than the paper, which has at most 15."
    )
    assert "than the paper" not in beyond["answers-get-longer"].caveat  # not measured


def test_single_noisy_arm_has_no_pairs_of_alphas() -> None:
    result = examine(losses(a0=FLAT, a5=FLAT))["alphas-are-alike"]

    assert result.status == "not measured"
    assert "two arms with noise that differ only in alpha" in result.here
