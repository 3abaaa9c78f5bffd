"""Page content with a comparison of four arms; its values depend only on arm, seed and item."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from neftune_cli.analysis.paired import PairedComparison, paired_comparison
from neftune_cli.analysis.results import (
    Assessment,
    BestArm,
    ClaimResult,
    Comparison,
    Contrast,
    EarlyStopping,
    Estimate,
    NoiseTest,
    StoppedArm,
)
from neftune_cli.analysis.verdicts import assess
from neftune_cli.evidence.measurements import Floats
from neftune_cli.metrics import METRICS
from neftune_cli.records import Generation
from neftune_cli.reporting.page.chapter import PageContent
from neftune_cli.reporting.page.responses import PromptResponses, responses_by_prompt
from neftune_cli.reporting.plots.canvas import Plot
from tests import comparisons
from tests.comparisons import estimate, summary

ALPHAS = {"alpha=0": 0.0, "alpha=5": 5.0, "alpha=10": 10.0, "alpha=15": 15.0}
SEEDS = (0, 1, 2, 3)
ITEMS = 40
LEVELS = {
    # metric: baseline, effect of each arm, spread over items and seeds
    "train_loss_clean": (0.70, (0.0, 0.02, 0.05, 0.09), 0.01),
    "eval_loss": (1.50, (0.0, -0.04, 0.0, 0.06), 0.02),
    "exact_match": (0.40, (0.0, 0.01, 0.005, -0.03), 0.09),
    "rouge_l": (0.61, (0.0, 0.02, 0.01, -0.04), 0.03),
}
PLOT = Plot(
    name="forest",
    title="Differences with intervals",
    caption="Dots are means.",
    alt="alpha=5 is lower than alpha=0.",
    svg='<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 90" role="img"><title>Differences</title>'
    '<path d="M 20 45 H 700" stroke="currentColor"/><circle cx="300" cy="45" r="6" fill="#0072B2"/></svg>',
)


def comparison() -> Comparison:
    """Return a comparison in which alpha=5 is better, alpha=15 is worse, and alpha=10 is inconclusive or equivalent."""
    estimates = {key: _estimates(key) for key in LEVELS}
    arms = (
        summary(name, alpha, {key: estimates[key][name] for key in LEVELS}, noise_ratio=0.018 * alpha)
        for name, alpha in ALPHAS.items()
    )
    return replace(
        comparisons.comparison(*arms),
        base_scores={"train_loss_clean": 4.1, "eval_loss": 4.2, "exact_match": 0.0, "rouge_l": None},
        best=BestArm("alpha=5", "eval_loss", -0.04, _compared("eval_loss", 1), {"alpha=5": 0.9, "alpha=10": 0.1}),
        early_stopping=EarlyStopping((1, 2, 3), _stopped()),
        claims=claims(),
        noise_tests={"eval_loss": noise_test()},
        unfinished=("alpha=15,seed=4 failed: out of memory",),
        manifest_digest="0123456789abcdef" * 4,
    )


def noise_test() -> NoiseTest:
    """Return the test of the mean of the three arms with noise, and of a trend that nearly vanishes."""
    noisy = [values("eval_loss", place) for place in (1, 2, 3)]
    mean = paired_comparison(values("eval_loss", 0), np.mean(noisy, axis=0))
    trend = paired_comparison(np.zeros_like(noisy[0]), (noisy[2] - noisy[0]) / 100)
    assessed = assess({"mean": mean, "trend": trend}, METRICS["eval_loss"], 0.01)
    arms = tuple(ALPHAS)[1:]
    return NoiseTest(
        0.0123, (Contrast("mean", arms, assessed["mean"]), Contrast("trend", arms, assessed["trend"])), arms
    )


def claims() -> tuple[ClaimResult, ...]:
    """Return one claim with each status."""
    return (
        ClaimResult("loss", "Noise raises training loss.", "Figure 4", "+0.05", "supported"),
        ClaimResult("test", "Noise lowers held-out loss.", "Figure 5", "+0.06", "refuted", "another model"),
        ClaimResult("length", "Responses get longer.", "Table 4", "+0.1 characters", "inconclusive"),
        ClaimResult("judge", "Judges prefer them.", "Table 1", "needs a judge", "not measured"),
    )


def generation(arm: str, number: int, **changes: object) -> Generation:
    """Return a response: correct for even numbers, with one replaced word for odd numbers."""
    right = number % 2 == 0
    values = {
        "split": "held-out",
        "example": f"{number:04x}",
        "cluster": f"person {number}",
        "kind": ("fact", "list", "biography")[number % 3],
        "prompt": f"<|user|> Where was person {number} born?<|end|><|assistant|>",
        "reference": f"Person {number} was born in Oakhurst.",
        "response": f"Person {number} was born in {'Oakhurst' if right else 'Limebank'}.",
        "tokens": 7,
        "truncated": False,
        "exact_match": right,
        "rouge_l": 1.0 if right else 0.8,
    }
    return Generation.model_validate({**values, **changes})


def responses(count: int) -> list[PromptResponses]:
    """Return the responses of the base and all arms to `count` prompts."""
    return responses_by_prompt({arm: [generation(arm, number) for number in range(count)] for arm in ("base", *ALPHAS)})


def content(**changes: object) -> PageContent:
    """Return the content of a page with one comparison."""
    whole = PageContent(
        comparison=comparison(),
        advice="Use alpha 5: held-out loss is lower. Another model needs its own sweep.",
        footnotes=("Mean over seeds.", "Seeds of every arm: 0, 1, 2, 3."),
        plots={PLOT.name: PLOT},
        responses=responses(6),
        responses_seed=0,
        spec_texts=("model: tiny\nseeds: [0, 1, 2, 3]\n",),
        manifest_texts=('{"model": "tiny"}\n',),
        command="neftune sweep results/bios/sweep.yaml\nneftune compare results/bios",
    )
    return replace(whole, **changes)  # type: ignore[arg-type]


def values(key: str, arm: int) -> Floats:
    """Return one arm's values of a metric, (seeds, items)."""
    level, effects, spread = LEVELS[key]
    draw = np.random.default_rng([*key.encode(), arm])
    of_items = np.random.default_rng([*key.encode()]).normal(size=(1, ITEMS))
    return level + effects[arm] + spread * (of_items + draw.normal(size=(len(SEEDS), ITEMS)))


def _compared(key: str, arm: int) -> PairedComparison:
    return paired_comparison(values(key, 0), values(key, arm))


def _assessed(key: str) -> dict[str, Assessment]:
    compared = {name: _compared(key, place) for place, name in enumerate(ALPHAS) if place}
    return assess(compared, METRICS[key], METRICS[key].margin.at(LEVELS[key][0]))


def _estimates(key: str) -> Mapping[str, Estimate | None]:
    assessed = _assessed(key)
    means = {name: [float(row.mean()) for row in values(key, place)] for place, name in enumerate(ALPHAS)}
    baseline = means.pop("alpha=0")
    compared = {name: estimate(rows, baseline, assessed[name]) for name, rows in means.items()}
    return {"alpha=0": estimate(baseline), **compared}


def _stopped() -> tuple[StoppedArm, ...]:
    assessed = _assessed("eval_loss")
    arms = zip(ALPHAS, (1.50, 1.46, 1.50, 1.56), strict=True)
    return tuple(
        StoppedArm(name, loss, loss - 0.02, 2.25, assessed.get(name, assessed["alpha=15"]), assessed.get(name))
        for name, loss in arms
    )
