"""A trainer that computes batches in micro-batches of similar length, and logits of labelled positions only."""

from collections.abc import Iterator, Sized
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from neftune_cli.config.choices import IGNORED_LABEL
from neftune_cli.evaluation.batches import batches_by_length
from neftune_cli.models.language_model import LanguageModel, computes_chosen_positions
from neftune_cli.noise.callback import NEFTuneCallback

Inputs = dict[str, Any]
"""Arguments of the model's forward: right-padded tensors of shape (examples, length)."""


class MicroBatchTrainer(SFTTrainer):
    """An SFTTrainer that computes each batch in micro-batches with the gradient of the whole batch.

    The loss of a micro-batch is divided by the number of labelled tokens of the whole optimizer step, so that the
    gradients of all micro-batches add up to the gradient of the padded batch, apart from rounding.
    """

    micro_batch_tokens: int = 0
    """Tokens of a micro-batch, padding included; 0: every batch is computed at once, by TRL."""

    def training_step(self, model: nn.Module, inputs: Inputs, num_items_in_batch: Tensor | int | None = None) -> Tensor:
        """Compute the gradient of one batch, and return its loss in nats per labelled token of the step."""
        for noise in self._noises:
            noise.set_padded_length(inputs["input_ids"].shape[1])
        if num_items_in_batch is None or not self._can_divide(inputs):
            return self._step(model, inputs, num_items_in_batch)
        parts = micro_batches(inputs, self.micro_batch_tokens)
        with _shared_autocast_cache():
            return torch.stack([self._step(model, part, num_items_in_batch) for part in parts]).sum()

    @property
    def _noises(self) -> Iterator[NEFTuneCallback]:
        return (one for one in self.callback_handler.callbacks if isinstance(one, NEFTuneCallback))

    def _step(self, model: torch.nn.Module, inputs: Inputs, count: Tensor | int | None) -> Tensor:
        loss: Tensor = super().training_step(model, inputs, count)  # type: ignore[no-untyped-call]
        return loss

    def _can_divide(self, inputs: Inputs) -> bool:
        """Return whether micro-batches are wanted and possible: the loss is a sum over the examples of the batch."""
        return (
            self.micro_batch_tokens > 0
            and self.accelerator.num_processes == 1
            and not self.aux_loss_enabled  # a mean over the tokens of a batch
            and _has_rows(inputs)
        )

    def compute_loss(
        self,
        model: Any,
        inputs: Inputs,
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Return the loss of a batch, and count its tokens.

        It is computed here if the batch is divided into micro-batches (`_can_divide`) and the loss is the plain one
        (`_has_plain_loss`). TRL computes it otherwise.

        TRL projects every position of a batch to the vocabulary on devices without Triton, and does it again for the
        gradient. It also computes the entropy and the accuracy of every position.
        """
        if return_outputs or num_items_in_batch is None or not self._can_divide(inputs) or not self._has_plain_loss:
            before = self._total_train_tokens
            may_have_repeats = self._may_have_repeats(inputs)  # before TRL adds to the inputs
            loss = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)  # type: ignore[no-untyped-call]
            if may_have_repeats:  # TRL's number may lack those of some processes; the row of `first_rows` has no labels
                tokens = inputs["attention_mask"][(inputs["labels"] != IGNORED_LABEL).any(1)].sum()
                self._set_tokens(before + int(self.accelerator.gather(tokens).sum()))
            return loss
        self._set_tokens(self._total_train_tokens + int(inputs["attention_mask"].sum()))
        return _labelled_loss(model, inputs) / torch.as_tensor(num_items_in_batch).clamp(min=1)

    def _set_tokens(self, total: int) -> None:
        """Set the number of training tokens so far, as TRL does."""
        self._total_train_tokens = total
        self._metrics["train"]["num_tokens"] = [total]

    def get_batch_samples(
        self, epoch_iterator: Iterator[Inputs], num_batches: int, device: torch.device
    ) -> tuple[list[Inputs], Tensor | int | None]:
        """Return the batches of a step, and the number of their labelled tokens in all processes."""
        return super().get_batch_samples(self._without_repeats(epoch_iterator), num_batches, device)

    def _without_repeats(self, batches: Iterator[Inputs]) -> Iterator[Inputs]:
        """Yield the batches of this process without the examples with which accelerate fills up the last ones."""
        for batch in batches:
            if not self._may_have_repeats(batch):
                yield batch
                continue
            rows, processes = len(batch["input_ids"]), self.accelerator.num_processes
            left = len(cast(Sized, self.train_dataset)) % (rows * processes) or rows * processes
            yield first_rows(batch, left - rows * self.accelerator.process_index)

    def _may_have_repeats(self, inputs: Inputs) -> bool:
        """Return whether accelerate may have filled up a batch with repeated examples that can be removed.

        It may have done so once the last batch of an epoch was read. The examples can be removed if each row is one
        example, if the processes divide the batch in order and in equal parts, and if the loss is a sum over the
        examples of all processes, because a process may then have no example.
        """
        args, state = cast(SFTConfig, self.args), self.accelerator.gradient_state
        return (
            self.accelerator.num_processes > 1
            and state.end_of_dataloader
            and not args.dataloader_drop_last
            and args.train_sampling_strategy != "batch_rebalance"
            and args.average_tokens_across_devices
            and self.model_accepts_loss_kwargs
            and _has_rows(inputs)
        )

    @property
    def _has_plain_loss(self) -> bool:
        args = cast(SFTConfig, self.args)
        own_loss = self.label_smoother is not None or self.compute_loss_func is not None
        changed = own_loss or args.loss_type != "nll" or args.torch_compile
        return not changed and computes_chosen_positions(cast(LanguageModel, self.model))


def _has_rows(inputs: Inputs) -> bool:
    """Return whether each row of a batch is one example, which is not so with packing and `padding_free`."""
    names = {name for name, value in inputs.items() if value is not None}
    return names == {"input_ids", "attention_mask", "labels"}


def first_rows(inputs: Inputs, count: int) -> Inputs:
    """Return the first rows of a batch; one short row without labels, whose loss is 0, if `count` is not positive.

    Each process has to compute each batch, because they add up their gradients.
    """
    if count > 0:
        return {name: value[:count] for name, value in inputs.items()}
    row = {name: value[:1, :2] for name, value in inputs.items()}
    return {**row, "labels": torch.full_like(row["labels"], IGNORED_LABEL)}


def _labelled_loss(model: nn.Module, inputs: Inputs) -> Tensor:
    """Return the sum of the losses of all labelled tokens, in nats; only their logits are computed."""
    targets = inputs["labels"][:, 1:]
    labelled = targets != IGNORED_LABEL
    with model.register_forward_pre_hook(_without_labels, with_kwargs=True):
        logits: Tensor = model(**inputs, use_cache=False, logits_to_keep=pad(labelled, (0, 1))).logits
    return cross_entropy(logits.float(), targets[labelled], reduction="sum")


def _without_labels(_: nn.Module, positional: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """Remove the labels once the noise, whose hook is called first, has read them.

    With labels, the model would compute the loss itself, from the logits of all positions.
    """
    return positional, {name: value for name, value in named.items() if name != "labels"}


@contextmanager
def _shared_autocast_cache() -> Iterator[None]:
    """Keep the bfloat16 copies of weights that autocast makes, so that they are cast once per batch."""
    torch.autocast_increment_nesting()
    try:
        yield
    finally:
        if torch.autocast_decrement_nesting() == 0:
            torch.clear_autocast_cache()


def micro_batches(inputs: Inputs, tokens: int) -> Iterator[Inputs]:
    """Yield parts of a batch with examples of similar length, each without the padding that it does not need.

    Args:
        inputs: `input_ids`, `attention_mask` and `labels`, right-padded, (examples, length) each.
        tokens: largest number of tokens of a part, padding included.
    """
    lengths: list[int] = inputs["attention_mask"].sum(1).tolist()
    for rows in batches_by_length(lengths, tokens):
        longest = lengths[rows[0]]  # the order within a batch is longest first
        yield {name: value[rows, :longest] for name, value in inputs.items() if value is not None}
