"""Environment of all tests, their plugins, and hand-made records of the base model and of two arms with three seeds."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import settings

from neftune_cli.config.identity import recipe_identity
from neftune_cli.config.resolve import resolve_sweep
from neftune_cli.records import EvalMetrics, LossMetrics, NoiseSize, TrialRecord

_USER_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
_CACHE = TemporaryDirectory(prefix="neftune-tests-")
"""Cache of the tests, so that they neither use nor leave remembered calibrations."""
for _variable, _folder in (("HF_HOME", "huggingface"), ("MPLCONFIGDIR", "matplotlib")):
    os.environ.setdefault(_variable, str(_USER_CACHE / _folder))
os.environ["XDG_CACHE_HOME"] = _CACHE.name

pytest_plugins = ["tests.scheduling", "tests.command_line", "tests.small_model", "tests.crash.fixtures"]

ROWS = (
    # arm, alpha, seed, train, clean, held-out, perplexity, exact, rouge, chars, 2-grams, diversity, truncated
    ("base", None, None, None, 4.1, 4.2, 66.686, 0.0, 0.1, 400.0, 60.0, 5.0, 0.9),
    ("alpha=0", 0.0, 0, 0.800, 0.700, 1.500, 4.482, 0.40, 0.60, 100.0, 10.0, 8.0, 0.0),
    ("alpha=0", 0.0, 1, 0.810, 0.705, 1.510, 4.527, 0.42, 0.61, 104.0, 11.0, 8.1, 0.0),
    ("alpha=0", 0.0, 2, 0.820, 0.710, 1.520, 4.572, 0.44, 0.62, 108.0, 12.0, 8.2, 0.0),
    ("alpha=5", 5.0, 0, 0.900, 0.750, 1.498, 4.473, 0.41, 0.62, 110.0, 9.0, 8.1, 0.0),
    ("alpha=5", 5.0, 1, 0.910, 0.755, 1.505, 4.504, 0.42, 0.61, 112.0, 12.0, 8.1, 0.02),
    ("alpha=5", 5.0, 2, 0.920, 0.766, 1.518, 4.563, 0.46, 0.63, 120.0, 11.0, 8.3, 0.01),
)
"""BLEU is missing, as an example of a metric that is undefined for the data."""

settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


@pytest.fixture
def empty_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a test in an empty folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def hand_made_records() -> list[TrialRecord]:
    return [_record(*row) for row in ROWS]


def _record(
    arm: str, alpha: float | None, seed: int | None, train: float | None, clean: float, held_out: float, *rest: float
) -> TrialRecord:
    perplexity, exact, rouge, chars, repetition, diversity, truncated = rest
    return TrialRecord(
        trial=f"id of {arm} {seed}",
        arm=arm,
        alpha=alpha,
        seed=seed,
        loss=LossMetrics(train_loss=train, train_loss_clean=clean, eval_loss=held_out, eval_perplexity=perplexity),
        eval=EvalMetrics(
            exact_match=exact,
            rouge_l=rouge,
            bleu=None,
            response_chars=chars,
            repetition_2gram=repetition,
            log_diversity=diversity,
            truncated=truncated,
        ),
        noise=None if alpha is None else NoiseSize(median_length=97, noise_norm=0.058 * alpha, embedding_norm=3),
        identity=_identity(alpha, seed),
    )


def _identity(alpha: float | None, seed: int | None) -> dict[str, Any]:
    shared = {"model": "m", "data": "d", "environment": {"device": "cpu"}}
    if alpha is None:
        return {**shared, "base": True}
    recipe = recipe_identity(resolve_sweep(None, {}).train)
    return {**shared, "noise": {"alpha": alpha} if alpha else None, "train": recipe, "seed": seed}
