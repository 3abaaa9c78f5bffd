"""Metrics of a trial with the noise off: losses and responses of every example, and the size of the arm's noise."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from neftune_cli.config.spec import NoiseSpec, ResolvedEvaluation
from neftune_cli.data.examples import TokenizedExample
from neftune_cli.data.hash_split import choose_by_hash
from neftune_cli.evaluation.batches import tokens_at_once
from neftune_cli.evaluation.generation import aggregate_scores
from neftune_cli.evaluation.losses import example_losses, mean_loss
from neftune_cli.evaluation.shared_prompts import losses_and_responses
from neftune_cli.models.language_model import LanguageModel
from neftune_cli.noise.lengths import token_noise_norm
from neftune_cli.records import (
    HELD_OUT_SPLIT,
    PROBE_SPLIT,
    EvalMetrics,
    ExampleLoss,
    Generation,
    LossMetrics,
    NoiseSize,
    perplexity,
)
from neftune_cli.training.prepared_data import PreparedData


def curve_subset(prepared: PreparedData, examples: int | None) -> frozenset[str] | None:
    """Return the ids of the examples that are measured after every epoch; None if these are all.

    They are the first `examples` held-out examples, and probe examples, in the order of their content hashes, so that
    they are the same in all arms and seeds.
    """
    if examples is None or examples >= max(len(prepared.held_out), len(prepared.probe)):
        return None
    parts = ([one.example for one in part] for part in (prepared.held_out, prepared.probe))
    return frozenset(one.id for part in parts for one in choose_by_hash(part, "curve", examples))


def measure_losses(
    model: LanguageModel, prepared: PreparedData, *, epoch: int, is_measured: Callable[[str], bool] = lambda _: True
) -> list[ExampleLoss]:
    """Return the noise-off loss of every probe and held-out example after an epoch.

    Args:
        model: the model.
        prepared: the examples.
        epoch: the epoch.
        is_measured: whether the example with an id is measured.
    """
    measured = [(split, one) for split, one in _splits(prepared) if is_measured(one.example.id)]
    losses = example_losses(
        model,
        [one for _, one in measured],
        pad_token_id=prepared.pad_token_id,
        tokens=tokens_at_once(prepared.device),
    )
    return _loss_rows(measured, losses, epoch)


def _splits(prepared: PreparedData) -> list[tuple[str, TokenizedExample]]:
    """Return the measured examples with their splits: those of the probe, followed by held-out examples."""
    return [(PROBE_SPLIT, one) for one in prepared.probe] + [(HELD_OUT_SPLIT, one) for one in prepared.held_out]


def _loss_rows(
    measured: Sequence[tuple[str, TokenizedExample]], losses: Sequence[float], epoch: int
) -> list[ExampleLoss]:
    return [
        ExampleLoss(
            split=split,
            epoch=epoch,
            example=one.example.id,
            cluster=one.example.cluster,
            loss=loss,
            tokens=one.loss_tokens,
        )
        for (split, one), loss in zip(measured, losses, strict=True)
    ]


def loss_metrics(losses: Sequence[ExampleLoss], *, train_loss: float | None) -> LossMetrics:
    """Return the mean losses of the last measured epoch, in nats per completion token."""
    eval_loss = split_loss(losses, HELD_OUT_SPLIT)
    return LossMetrics(
        train_loss=train_loss,
        train_loss_clean=split_loss(losses, PROBE_SPLIT),
        eval_loss=eval_loss,
        eval_perplexity=perplexity(eval_loss),
    )


def split_loss(losses: Sequence[ExampleLoss], split: str) -> float:
    """Return the mean loss per completion token of one split, in nats, after the last measured epoch."""
    last = max(row.epoch for row in losses)
    rows = [row for row in losses if row.split == split and row.epoch == last]
    return mean_loss([row.loss for row in rows], [row.tokens for row in rows])


@dataclass(frozen=True)
class MeasuredResponses:
    """The greedy responses of one model and their metrics."""

    held_out: EvalMetrics
    """Scores of None if no held-out example has a prompt, because a record always has these fields."""
    probe: EvalMetrics | None
    """None if no example of `probe_prompts` has a prompt."""
    generations: list[Generation]
    """Responses to the held-out prompts, followed by responses to the probe prompts."""


def measure_losses_and_responses(
    model: LanguageModel,
    tokenizer: PreTrainedTokenizerBase,
    prepared: PreparedData,
    evaluation: ResolvedEvaluation,
    *,
    epoch: int,
    not_finite_message: str,
) -> tuple[list[ExampleLoss], MeasuredResponses]:
    """Measure a model: the losses as in `measure_losses`, and responses to all held-out prompts and to `probe_prompts`.

    The similarity of responses on training prompts to the training completions measures how much of their wording the
    model memorized (NEFTune paper, section 5.1).

    Args:
        model: the model.
        tokenizer: its tokenizer.
        prepared: the examples.
        evaluation: settings of decoding.
        epoch: the last epoch (0: before training).
        not_finite_message: message of the error for a loss that is not finite.

    Raises:
        TrialError: a loss is not finite, or a prompt leaves no room for a response in the model's context.
    """
    measured = _splits(prepared)
    prompted = _prompted(prepared)
    losses, generations = losses_and_responses(
        model,
        tokenizer,
        [one for _, one in measured],
        prompted,
        evaluation,
        pad_token_id=prepared.pad_token_id,
        tokens=tokens_at_once(prepared.device),
        not_finite_message=not_finite_message,
    )
    splits = [measured[index][0] for index in prompted]
    return _loss_rows(measured, losses, epoch), _measured_responses(generations, splits)


def _prompted(prepared: PreparedData) -> list[int]:
    """Return the indices in `_splits` of the examples with a response, held-out examples first."""
    probe, held_out = len(prepared.probe), len(prepared.held_out)
    examples = (*prepared.probe, *prepared.held_out)
    order = (*range(probe, probe + held_out), *range(len(prepared.probe_prompts)))
    return [index for index in order if examples[index].example.has_prompt]


def _measured_responses(generations: Sequence[Generation], splits: Sequence[str]) -> MeasuredResponses:
    """Score the responses to prompts of both splits."""
    of_split = [one.model_copy(update={"split": split}) for one, split in zip(generations, splits, strict=True)]
    held_out, probe = ([one for one in of_split if one.split == split] for split in (HELD_OUT_SPLIT, PROBE_SPLIT))
    return MeasuredResponses(
        held_out=aggregate_scores(held_out), probe=aggregate_scores(probe) if probe else None, generations=of_split
    )


def noise_size(noise: NoiseSpec, prepared: PreparedData) -> NoiseSize | None:
    """Return the size of an arm's noise by the formula, and that of the embeddings of the training tokens.

    The L2 norm of one token's noise has the root mean square alpha / sqrt(3 L) for an example of L tokens
    (`token_noise_norm`). It does not depend on the embedding width, nor on the distribution, since all have the same
    variance.

    Returns:
        None if L counts padding (`--noise-scale hf`), because the norm then differs between batches.
    """
    if noise.noise_scale == "hf" and noise.alpha > 0:
        return None
    return NoiseSize(
        median_length=prepared.median_length,
        noise_norm=token_noise_norm(noise.alpha, prepared.median_length),
        embedding_norm=prepared.embedding_norm,
    )
