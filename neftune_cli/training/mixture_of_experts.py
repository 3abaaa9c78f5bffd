"""Mixture-of-experts models in TRL: names of their configuration, and the load-balancing loss of their routers.

TRL adds the router's load-balancing loss, weighted by `router_aux_loss_coef`, to the training loss of models that can
return their router's logits.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from transformers import PreTrainedConfig, PreTrainedModel

from neftune_cli.config.spec import TrainSpec
from neftune_cli.errors import Problem

ROUTER_LOSS = "aux_loss"
"""Name under which TRL logs the load-balancing loss, unweighted, as the mean over the batches of a step."""


def name_number_of_experts(model: PreTrainedModel) -> None:
    """Set the number of experts in the configuration under the name that TRL reads, if it has another name there."""
    config = model.config.get_text_config()
    if not hasattr(config, "num_experts") and (number := getattr(config, "num_local_experts", None)) is not None:
        config.num_experts = number


def has_router_loss(config: PreTrainedConfig) -> bool:
    """Return whether TRL adds the load-balancing loss when it trains a model with this text configuration."""
    return hasattr(config, "output_router_logits") and router_loss_weight(config) != 0.0


def router_loss_problems(model: PreTrainedModel, name: str, recipes: Iterable[TrainSpec]) -> Iterator[Problem]:
    """Yield a problem if a recipe sets the weight of the load-balancing loss, and the model cannot compute it."""
    if hasattr(model.config.get_text_config(), "output_router_logits"):
        return
    if any(recipe.sft.get("router_aux_loss_coef") for recipe in recipes):
        what = f"router_aux_loss_coef: '{name}' ({model.config.model_type}) has no load-balancing loss of a router."
        yield Problem(what, "Remove the field, or use a mixture-of-experts model.")


def router_loss_weight(config: PreTrainedConfig) -> float:
    """Return the weight of the load-balancing loss in a text configuration, in which TRL stores the weight it uses."""
    return float(getattr(config, "router_aux_loss_coef", None) or 0.0)


def without_router_loss(loss: float, logs: dict[str, Any], model: PreTrainedModel) -> float:
    """Return the logged loss of a step without the load-balancing loss: nats per completion token."""
    if ROUTER_LOSS not in logs:
        return loss
    return loss - router_loss_weight(model.config.get_text_config()) * float(logs[ROUTER_LOSS])
