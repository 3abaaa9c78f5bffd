"""Export `tiny`: round the pretrained weights to bfloat16, measure accuracy, and write weights and model card.

`python -m experiments.tiny_base.export WORK_DIRECTORY [TARGET]`
"""

import hashlib
from pathlib import Path
from typing import Annotated

import torch
import typer
from transformers import GenerationConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from experiments.tiny_base.pretrain import ROW_LENGTH, ROWS, STEPS, embedding_norms, new_model
from experiments.tiny_base.probe import completion_accuracy, plain_question_accuracy
from neftune_cli.data.embedded.people import GROUP_SIZES, NUMBER_OF_PEOPLE, Attribute, Group

TARGET = Path("neftune_cli/models/embedded/tiny")
_CARD = """\
# tiny

The bundled base model of `neftune`: a Llama of {parameters} parameters ({layers} layers, width {width}, vocabulary
{vocabulary}, input and output embeddings untied), pretrained from scratch by `make tiny-base` on {tokens} tokens. The
pretraining text contains biographies of {people} fictional people, and plain questions and answers about {quizzed} of
them. The model knows the people but is not instruction-tuned: it has a chat template, but pretraining contained no
conversations.

Measured on the shipped weights by `python -m experiments.tiny_base.export`:

| test | accuracy |
|---|---|
| greedy completion of paraphrases not in the pretraining text, {facts} facts | {completion:.1%} |
| plain one-attribute questions, people with questions in the pretraining text | {quizzed_right:.1%} |
| plain one-attribute questions, people of the training examples (no questions in pretraining) | {train_right:.1%} |
| plain one-attribute questions, held-out people (no questions in pretraining) | {held_out_right:.1%} |

Median L2 norm of an input embedding: {norm:.2f}. SHA-256 of `model.safetensors`:
`{digest}`. The weights are stored in bfloat16 and loaded as float32. License: Apache-2.0.
"""


def main(
    work: Annotated[Path, typer.Argument(help="Directory that `pretrain` wrote to.")],
    target: Annotated[Path, typer.Argument(help="Directory of the exported model.")] = TARGET,
) -> None:
    """Export the model of the finished pretraining in WORK."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(work / "tokenizer")
    state = torch.load(work / "checkpoint.pt", weights_only=True)
    if state["step"] < STEPS:
        raise SystemExit(f"Pretraining is at step {state['step']} of {STEPS}. Resume it with `make tiny-base`.")
    model = new_model(tokenizer)
    model.load_state_dict(state["model"])
    model.bfloat16()
    separator = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    model.generation_config = GenerationConfig(
        eos_token_id=[tokenizer.eos_token_id, separator], pad_token_id=tokenizer.pad_token_id
    )
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    card = model_card(model.float(), tokenizer, (target / "model.safetensors").read_bytes())
    (target / "README.md").write_text(card, encoding="utf-8")
    print(card)


def model_card(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, weights: bytes) -> str:
    """Measure the model on all people and return its model card."""
    accuracy = plain_question_accuracy(model, tokenizer)
    config = model.config
    return _CARD.format(
        parameters=f"{model.num_parameters() / 1e6:.1f} million",
        layers=config.num_hidden_layers,
        width=config.hidden_size,
        vocabulary=config.vocab_size,
        tokens=f"{STEPS * ROWS * ROW_LENGTH / 1e6:.0f} million",
        people=NUMBER_OF_PEOPLE,
        facts=NUMBER_OF_PEOPLE * len(Attribute),
        quizzed=GROUP_SIZES[Group.QUIZZED],
        completion=completion_accuracy(model, tokenizer),
        quizzed_right=accuracy[Group.QUIZZED],
        train_right=accuracy[Group.TRAIN],
        held_out_right=accuracy[Group.HELD_OUT],
        norm=float(embedding_norms(model).median()),
        digest=hashlib.sha256(weights).hexdigest(),
    )


if __name__ == "__main__":
    typer.run(main)
