"""The tokenizer of `tiny`: byte-level BPE trained on the pretraining text, with a chat template."""

import random
from itertools import islice

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from experiments.tiny_base.corpus import documents

VOCABULARY_SIZE = 2048
TRAINING_DOCUMENTS = 20_000
SPECIAL_TOKENS = ("<|endoftext|>", "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>")

CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|> {{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
"""A space after each marker gives the first word the same token as within a sentence."""


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
