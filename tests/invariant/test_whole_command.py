"""Error rates of `neftune compare` as a whole: records of simulated A/A sweeps are written, and its JSON is read."""

import io
import json
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

from experiments.null_simulations.seed_level import SeedModel
from neftune_cli.commands.compare import compare
from neftune_cli.commands.request import plan_sweep
from neftune_cli.config.spec import DEFAULT_LOOKS
from neftune_cli.evidence.measurements import Floats
from neftune_cli.records import ExampleLoss
from neftune_cli.reporting.output_formats import OutputFormat
from neftune_cli.store import SweepFolder
from neftune_cli.sweeps.plan import Plan, trial_folder
from neftune_cli.sweeps.trial_runner import TrialRunner
from tests.finished_trials import trial_record, write_trial
from tests.sweep_requests import request_for

SWEEPS = 400
MODEL = SeedModel(3)
SPREAD, ITEMS = 0.02, 5
"""Standard deviation of a loss over seeds, in nats, and number of held-out examples."""
FIELDS = {
    "train_examples": 16,
    "eval_examples": ITEMS,
    "alphas": "0,5,10,15",
    "until_decided": True,
    "analysis.margin": str(SPREAD * MODEL.difference_sd),
}


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_false_differences_of_400_sweeps_through_the_command() -> None:
    with ProcessPoolExecutor() as pool:
        found = list(pool.map(compared, range(SWEEPS), chunksize=10))
    different = sum(any(one["p_adjusted"] <= 0.05 for one in arms) for arms in found)
    equivalent = sum(one["verdict"] == "equivalent" for arms in found for one in arms)
    print(f"\nsweeps with a false difference: {different} of {SWEEPS}; arms equivalent: {equivalent} of {3 * SWEEPS}")
    assert different <= binom.ppf(0.999, SWEEPS, 0.05)
    assert equivalent >= 0.9 * 3 * SWEEPS  # the margin is a standard deviation of a difference, and there is no effect


def test_the_command_gives_the_result_of_the_planned_looks() -> None:
    draws = np.random.default_rng((2026, 0))
    differences = np.diff(MODEL.values(1, DEFAULT_LOOKS[-1], draws)[0][[0, 1]], axis=0)
    arms = compared(0)
    assert {one["verdict"] for one in arms} <= {"better", "worse", "equivalent", "inconclusive"}
    found = arms[0]["difference"] / SPREAD
    # the difference is that of the look at which the arm was decided, apart from the noise of the items
    assert min(abs(found - differences[0, :look].mean()) for look in DEFAULT_LOOKS) < 0.2


def compared(number: int) -> list[dict[str, Any]]:
    """Return the estimates of the arms with noise of a simulated sweep without effects."""
    draws = np.random.default_rng((2026, number))
    losses = 1 + SPREAD * MODEL.values(1, DEFAULT_LOOKS[-1], draws)[0]
    with TemporaryDirectory() as folder:
        sweep = SweepFolder(Path(folder) / "sweep")
        write_sweep(planned(), sweep, losses, draws)
        text = io.StringIO()
        with redirect_stdout(text):
            compare([sweep.path], format_=OutputFormat.JSON)
    (comparison,) = json.loads(text.getvalue())["comparisons"]
    estimates = comparison["metrics"]["eval_loss"]
    return [estimates[arm] for arm in ("alpha=5", "alpha=10", "alpha=15")]


@cache
def planned() -> Plan:
    with TemporaryDirectory() as folder:
        return plan_sweep(request_for(Path(folder) / "sweep", FIELDS), TrialRunner().inspect)[0]


def write_sweep(
    plan: Plan,
    sweep: SweepFolder,
    losses: Floats,  # (arms, seeds)
    draws: np.random.Generator,
) -> None:
    """Write the finished trials of all seeds, and all planned looks."""
    sweep.open(plan.spec)
    arms = [arm.name for arm in plan.spec.arms]
    for trial in plan.trials:
        if trial.is_base or trial.seed is None:
            continue
        loss = losses[arms.index(trial.arm), trial.seed]
        noise = draws.normal(scale=SPREAD / 4, size=ITEMS)
        examples = [
            ExampleLoss(split="held-out", epoch=1, example=f"e{item}", cluster=f"c{item}", loss=loss + one, tokens=5)
            for item, one in enumerate(noise)
        ]
        mean = float(loss + noise.mean())
        record = trial_record(trial.id, trial.arm, trial.seed, mean, alpha=trial.alpha, identity=trial.identity)
        write_trial(trial_folder(sweep, trial), record, examples)
    for seeds in plan.spec.analysis.looks:
        sweep.add_look(seeds)
