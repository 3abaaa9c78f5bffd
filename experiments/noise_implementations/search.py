"""Whether a search over alpha varies alpha: what each trial's model really received."""

import importlib.util
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from experiments.noise_implementations.finding import ALPHA, Finding, ours
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
    """Yield the alphas of three trials: ours one after the other, theirs in `Trainer.hyperparameter_search`."""
    wanted, trained = _listed(ALPHAS), _listed([alpha_of_training(alpha) for alpha in ALPHAS])
    for start in (ALPHA, None):
        name = f"alphas in three trials of a search, neftune_noise_alpha={start} in TrainingArguments"
        yield Finding(name, wanted, trained, _searched(start))


def _searched(start: float | None) -> str:
    if importlib.util.find_spec("optuna") is None:
        return "not measured: pip install optuna"
    return _listed(list(searched_alphas(start).values()))


def _listed(alphas: tuple[float, ...] | list[float]) -> str:
    return ", ".join(f"{alpha:.2f}" for alpha in alphas)


def alpha_of_training(alpha: float) -> float:
    """Return the alpha that reached the model in a Trainer's training under `attach_noise`."""
    model = llama()
    with trainer({"max_steps": STEPS}, model=model) as training, ours(model, alpha), noise_received(model) as received:
        training.train()
    return alpha_of(torch.cat(received), EXAMPLE_TOKENS)


def searched_alphas(start: float | None) -> dict[float, float]:
    """Return, for each alpha that a trial of `Trainer.hyperparameter_search` asked for, the one that its model got."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    asked: list[float] = []
    received: list[list[Tensor]] = []

    def new_model() -> Any:
        model = llama()
        received.append([])
        record_noise(model, received[-1])
        return model

    def space(trial: optuna.Trial) -> dict[str, float]:
        asked.append(trial.suggest_categorical("neftune_noise_alpha", ALPHAS))
        return {"neftune_noise_alpha": asked[-1]}

    grid = optuna.samplers.GridSampler({"neftune_noise_alpha": ALPHAS}, seed=0)
    with trainer({"max_steps": STEPS, "neftune_noise_alpha": start}, model_init=new_model) as training:
        training.hyperparameter_search(space, n_trials=len(ALPHAS), sampler=grid)
    # Each model trained STEPS forwards and was evaluated after them; the one that Trainer makes first did neither.
    got = [alpha_of(torch.cat(noise[:STEPS]), EXAMPLE_TOKENS) for noise in received if noise]
    return dict(sorted(zip(asked, got, strict=True)))
