"""An SFTTrainer without wasted work: length-sorted micro-batches, and logits of labelled positions only."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from trl.trainer.sft_trainer import SFTTrainer

from neftune_cli.data.examples import IGNORED_LABEL
from neftune_cli.evaluation.language_model import computes_chosen_positions

Inputs = dict[str, Any]
"""Arguments of the model's forward: right-padded tensors of shape (examples, length)."""


class MicroBatchTrainer(SFTTrainer):
    """An SFTTrainer that computes each batch in micro-batches with the gradient of the whole batch.

    The loss of a micro-batch is divided by the number of labelled tokens of the whole optimizer step, so that the
    gradients of all micro-batches add up to the gradient of the padded batch, apart from rounding.
    """

    micro_batch_tokens: int | None = None
    """Tokens of a micro-batch, padding included. None: every batch is computed at once, by TRL."""

    def training_step(
        self, model: torch.nn.Module, inputs: Inputs, num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Compute the gradient of one batch, and return its loss in nats per labelled token of the step."""
        if num_items_in_batch is None or not self._splits(inputs):
            return super().training_step(model, inputs, num_items_in_batch)
        assert self.micro_batch_tokens is not None
        losses = [
            super(MicroBatchTrainer, self).training_step(model, part, num_items_in_batch)
            for part in micro_batches(inputs, self.micro_batch_tokens)
        ]
        return torch.stack(losses).sum()

    def _splits(self, inputs: Inputs) -> bool:
        """Return whether the loss of the batch is a sum over its examples, and nothing else depends on the batch."""
        return (
            self.micro_batch_tokens is not None
            and self.accelerator.num_processes == 1
            and not self.aux_loss_enabled  # a mean over the tokens of a batch
            and {"input_ids", "attention_mask", "labels"} == {name for name, value in inputs.items() if value is not None}
        )

    def compute_loss(
        self,
        model: Any,
        inputs: Inputs,
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Return the loss of a batch. TRL computes it, unless it is the plain loss of a model on one device.

        TRL projects every position of a batch to the vocabulary on devices without Triton, and does it again for the
        gradient. It also computes the entropy and the accuracy of every position.
        """
        plain = (
            self.args.loss_type == "nll" and self.label_smoother is None and self.compute_loss_func is None
        )
        if return_outputs or not plain or not self._splits(inputs) or not computes_chosen_positions(self.model):
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        targets = inputs["labels"][:, 1:]
        labelled = targets != IGNORED_LABEL
        kept = torch.nn.functional.pad(labelled, (0, 1))
        logits = model(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            use_cache=False,
            logits_to_keep=kept,
        ).logits
        loss = cross_entropy(logits.float(), targets[labelled], reduction="sum")
        self._total_train_tokens += int(inputs["attention_mask"].sum())
        self._metrics["train"]["num_tokens"] = [self._total_train_tokens]
        count = labelled.sum() if num_items_in_batch is None else num_items_in_batch
        return loss / torch.as_tensor(count).clamp(min=1)


def micro_batches(inputs: Inputs, tokens: int) -> Iterator[Inputs]:
    """Yield parts of a batch with examples of similar length, without the padding that they do not need.

    Args:
        inputs: `input_ids`, `attention_mask` and `labels`, right-padded, (examples, length) each.
        tokens: largest number of tokens of a part, padding included. A longer example is a part of its own.
    """
    lengths = inputs["attention_mask"].sum(1).tolist()
    order = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    first = 0
    for end in range(1, len(order) + 1):
        longest = lengths[order[first]]
        if end == len(order) or (end + 1 - first) * longest > tokens:
            rows = torch.tensor(order[first:end], device=inputs["input_ids"].device)
            yield {name: value[rows, :longest] for name, value in inputs.items() if value is not None}
            first = end
