"""Comparisons of sweeps with planned looks, for tests."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from neftune_cli.analysis.comparison import compare_arms
from neftune_cli.analysis.results import Comparison
from neftune_cli.config.spec import BASE_ARM
from neftune_cli.evidence.measurements import AnalysisPlan, Evidence, Measurements, Setting, TrialOrigin
from neftune_cli.metrics import METRICS
from tests.measured_trials import arm, joined

LOOKS = AnalysisPlan(looks=(3, 5), seeds=(0, 1, 2, 3, 4), looks_taken=2)
ONE_SWEEP = Evidence("s", Setting("m", "d", {}, {}), (), METRICS, TrialOrigin(("results/s",), is_sweep=True))


def with_failed(*trials: str) -> TrialOrigin:
    """Return the origin of a sweep in which these trials have failed."""
    return replace(ONE_SWEEP.origin, failed_trials=trials)


def looked_at(
    differences: Sequence[float], plan: AnalysisPlan = LOOKS, losses: Sequence[float] | None = None
) -> Comparison:
    """Compare an arm, and a positive control of seed 0, with the given losses of the baseline."""
    baseline = np.ones(len(differences)) if losses is None else np.array(losses)
    arms = joined(
        arm("alpha=0", 0.0, {"eval_loss": baseline}),
        arm("alpha=5", 5.0, {"eval_loss": baseline[: len(differences)] + np.array(differences)}),
        arm("control", 99.0, {"eval_loss": [7.0, 7.2, 7.1]}),
    )
    trials = tuple(trial for of_arm in arms.values() for trial in of_arm.values())
    base = Measurements("base", BASE_ARM, None, None, {"eval_loss": 3.0}, {}, {})
    plan = replace(plan, controls=("control",))
    return compare_arms(replace(ONE_SWEEP, trials=(base, *trials), plan=plan))


def evidence_of(differences: Mapping[float, Sequence[float]], plan: AnalysisPlan | None) -> Evidence:
    """Return trials with a loss of 1 without noise, and with these differences from it by alpha."""
    seeds = max(map(len, differences.values()))
    losses = {0.0: np.ones(seeds)} | {alpha: 1 + np.array(of_arm) for alpha, of_arm in differences.items()}
    arms = joined(*(arm(f"alpha={alpha:g}", alpha, {"eval_loss": one}) for alpha, one in losses.items()))
    trials = tuple(trial for of_arm in arms.values() for trial in of_arm.values())
    return replace(ONE_SWEEP, trials=trials, plan=plan)


OPEN = [0.3, -0.2, 0.1, 0.2, -0.1]


def with_failures(*seeds: int) -> Evidence:
    """Return the evidence of an open arm whose trials with these seeds failed."""
    evidence = evidence_of({5.0: OPEN}, LOOKS)
    trials = tuple(one for one in evidence.trials if not one.alpha or one.seed not in seeds)
    return replace(evidence, trials=trials, origin=with_failed(*(f"alpha=5,seed={seed}" for seed in seeds)))
