"""Hyperparameter search over alpha: the alpha that the model of each trial received."""

import importlib.util
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from experiments.noise_implementations.finding import ALPHA, Finding, attach_ours
from experiments.noise_implementations.tiny_models import (
    EXAMPLE_TOKENS,
    alpha_of,
    llama,
    noise_received,
    record_noise,
    trainer,
)

ALPHAS = (5.0, 10.0, 15.0)
STEPS = 16


def searches() -> Iterator[Finding]:
    """Yield the alphas of three trials: ours in separate runs, upstream's in `Trainer.hyperparameter_search`."""
    expected, trained = _listed(ALPHAS), _listed([alpha_of_training(alpha) for alpha in ALPHAS])
    for start in (ALPHA, None):
        name = f"effective alphas in three trials of a search, neftune_noise_alpha={start} in TrainingArguments"
        yield Finding(name, expected, trained, _searched(start))


def _searched(start: float | None) -> str:
    if importlib.util.find_spec("optuna") is None:
        return "not measured: pip install optuna"
    return _listed(list(searched_alphas(start).values()))


def _listed(alphas: tuple[float, ...] | list[float]) -> str:
    return ", ".join(f"{alpha:.2f}" for alpha in alphas)


def alpha_of_training(alpha: float) -> float:
    """Return the effective alpha in a training run of Trainer under `attach_noise`."""
    model = llama()
    with (
        trainer({"max_steps": STEPS}, model=model) as training,
        attach_ours(model, alpha),
        noise_received(model) as received,
    ):
        training.train()
    return alpha_of(torch.cat(received), EXAMPLE_TOKENS)


def searched_alphas(start: float | None) -> dict[float, float]:
    """Return the effective alpha of the model for each alpha that `Trainer.hyperparameter_search` requested."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    requested: list[float] = []
    received: list[list[Tensor]] = []

    def new_model() -> Any:
        model = llama()
        received.append([])
        record_noise(model, received[-1])
        return model

    def space(trial: optuna.Trial) -> dict[str, float]:
        requested.append(trial.suggest_categorical("neftune_noise_alpha", ALPHAS))
        return {"neftune_noise_alpha": requested[-1]}

    grid = optuna.samplers.GridSampler({"neftune_noise_alpha": ALPHAS}, seed=0)
    with trainer({"max_steps": STEPS, "neftune_noise_alpha": start}, model_init=new_model) as training:
        training.hyperparameter_search(space, n_trials=len(ALPHAS), sampler=grid)
    # Each model ran STEPS forward passes in training, then an evaluation. The first model of Trainer is not used.
    got = [alpha_of(torch.cat(noise[:STEPS]), EXAMPLE_TOKENS) for noise in received if noise]
    return dict(sorted(zip(requested, got, strict=True)))
