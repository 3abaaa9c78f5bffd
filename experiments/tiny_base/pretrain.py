"""Pretrain `tiny` with checkpoints and a logged curve: `python -m experiments.tiny_base.pretrain WORK_DIRECTORY`."""

import json
import math
import random
import time
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from experiments.tiny_base.corpus import documents
from experiments.tiny_base.probe import completion_accuracy, plain_question_accuracy
from neftune_cli.noise.placement import embedding_weight

SEED = 2310
STEPS = 6500
ROWS, ROW_LENGTH = 16, 256
PEAK_LEARNING_RATE, WARMUP_STEPS = 3e-3, 200
CHECKPOINT_EVERY, PROBE_EVERY, LOG_EVERY = 250, 500, 25

EMBEDDING_NORM = 5.0
"""Initial L2 norm of an input embedding. At alpha 5 and L = 60 the noise norm, 5 / sqrt(3 L), is 7% of it."""

VOCABULARY_SIZE = 2048
TRAINING_DOCUMENTS = 20_000
SPECIAL_TOKENS = ("<|endoftext|>", "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>")

CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|> {{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
"""A space after each marker gives the first word the same token as within a sentence."""


def main(
    work: Annotated[Path, typer.Argument(help="Directory of checkpoints, curve and tokenizer.")],
    compile_model: Annotated[bool, typer.Option("--compile/--no-compile", help="Needs a C++ compiler.")] = True,
) -> None:
    """Train until step STEPS, from the newest checkpoint in WORK or from scratch."""
    work.mkdir(parents=True, exist_ok=True)
    tokenizer = build_tokenizer(SEED)
    tokenizer.save_pretrained(work / "tokenizer")
    torch.manual_seed(SEED)
    model = new_model(tokenizer)
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.0)
    first_step = resume(work / "checkpoint.pt", model, optimizer)
    forward = torch.compile(model) if compile_model else model
    started = time.monotonic()
    for step in range(first_step, STEPS):
        loss = train_step(forward, model, optimizer, batch_of(tokenizer, step), learning_rate(step))
        if step % LOG_EVERY == 0:
            log(work, step=step, loss=loss, seconds=round(time.monotonic() - started, 1))
        if (step + 1) % CHECKPOINT_EVERY == 0:
            save(work / "checkpoint.pt", model, optimizer, step + 1)
        if (step + 1) % PROBE_EVERY == 0:
            log(work, step=step + 1, **probe(model, tokenizer))
    save(work / "checkpoint.pt", model, optimizer, STEPS)


def new_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Return the untrained model: a Llama of about 2.6 million parameters, input and output embeddings untied."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=3,
        num_key_value_heads=3,
        max_position_embeddings=512,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    torch.nn.init.normal_(embedding_weight(model), std=EMBEDDING_NORM / math.sqrt(config.hidden_size))
    return model


def embedding_norms(model: LlamaForCausalLM) -> torch.Tensor:
    """Return the L2 norm of the input embedding of every token: (vocabulary,), float32, without gradient."""
    norms: torch.Tensor = torch.linalg.vector_norm(embedding_weight(model).detach().float(), dim=1)
    return norms


def build_tokenizer(seed: int) -> PreTrainedTokenizerFast:
    """Train the merges on random documents. The same seed gives the same tokenizer."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    text = islice(documents(random.Random(seed)), TRAINING_DOCUMENTS)
    bpe.train_from_iterator((f" {document}" for document in text), trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token=None, eos_token="<|end|>", pad_token="<|pad|>", model_max_length=512
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def batch_of(tokenizer: PreTrainedTokenizerFast, step: int) -> torch.Tensor:
    """Return the token ids of one step: (rows, row length). They depend only on the step."""
    rng = random.Random(SEED * 1_000_000 + step)
    separator = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    wanted, tokens = ROWS * ROW_LENGTH, []
    for document in documents(rng):
        tokens += [*tokenizer.encode(f" {document}"), separator]
        if len(tokens) >= wanted:
            return torch.tensor(tokens[:wanted]).view(ROWS, ROW_LENGTH)
    raise AssertionError("documents() is endless")


def learning_rate(step: int) -> float:
    """Return the learning rate of one step: linear warm-up, then cosine decay to zero."""
    if step < WARMUP_STEPS:
        return PEAK_LEARNING_RATE * (step + 1) / WARMUP_STEPS
    return PEAK_LEARNING_RATE * 0.5 * (1 + math.cos(math.pi * (step - WARMUP_STEPS) / (STEPS - WARMUP_STEPS)))


def train_step(
    forward: Any, model: LlamaForCausalLM, optimizer: torch.optim.Optimizer, batch: torch.Tensor, rate: float
) -> float:
    """Take one optimizer step and return the loss in nats per token."""
    model.train()
    for group in optimizer.param_groups:
        group["lr"] = rate
    with torch.autocast("cpu", torch.bfloat16):
        loss = forward(input_ids=batch, labels=batch).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return float(loss.detach())


def probe(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> dict[str, float]:
    """Measure the accuracy on a tenth of the people."""
    accuracy = plain_question_accuracy(model, tokenizer, every=10)
    return {
        "completion": completion_accuracy(model, tokenizer, every=10),
        **{f"questions_{group}": share for group, share in accuracy.items()},
        "median_vocabulary_norm": float(embedding_norms(model).median()),
    }


def resume(path: Path, model: LlamaForCausalLM, optimizer: torch.optim.Optimizer) -> int:
    """Load the checkpoint if there is one, and return the next step."""
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])


def save(path: Path, model: LlamaForCausalLM, optimizer: torch.optim.Optimizer, step: int) -> None:
    """Write the checkpoint to a temporary file, then replace the old one."""
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
    torch.save(state, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)


def log(work: Path, **values: float) -> None:
    """Append one line to the curve and print it."""
    line = json.dumps(values)
    print(line, flush=True)
    with (work / "curve.jsonl").open("a") as file:
        file.write(line + "\n")


if __name__ == "__main__":
    typer.run(main)
