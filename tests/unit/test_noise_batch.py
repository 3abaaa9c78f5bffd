"""The token layout of a call compared with hand-computed scales: with alpha 6 and dim 4, 3 / sqrt(L)."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import T5Config, T5ForConditionalGeneration

from neftune_cli.config.choices import NoiseTarget, check_choice
from neftune_cli.errors import UsageError
from neftune_cli.noise import attach_noise
from neftune_cli.noise.batch import Batch

TWO = 3 / math.sqrt(2)
THREE = 3 / math.sqrt(3)
FOUR = 1.5
IDS = torch.tensor([[1, 2, 3, 4], [5, 6, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
LABELS = torch.tensor([[-100, -100, 3, 4], [-100, 6, -100, -100]])


def scale(call: dict[str, Any], **options: Any) -> list[list[float]]:
    rows = call["input_ids"].shape
    return Batch.of_call(call).half_widths(torch.zeros(*rows, 4), 6.0, **options).tolist()


def approximately(expected: list[list[float]]) -> Any:
    return [pytest.approx(row, rel=1e-6, abs=0) for row in expected]


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("all", [[FOUR] * 4, [TWO, TWO, 0, 0]]),
        ("prompt", [[FOUR, FOUR, 0, 0], [TWO, 0, 0, 0]]),
        ("completion", [[0, 0, FOUR, FOUR], [0, TWO, 0, 0]]),
    ],
)
def test_the_target_selects_tokens_and_does_not_change_the_length(
    target: NoiseTarget, expected: list[list[float]]
) -> None:
    call = {"input_ids": IDS, "attention_mask": MASK, "labels": LABELS}
    assert scale(call, target=target) == approximately(expected)


@pytest.mark.parametrize("target", ["prompt", "completion"])
def test_prompt_and_completion_of_packed_examples(target: NoiseTarget) -> None:
    call = {
        "input_ids": torch.ones(1, 5, dtype=torch.long),
        "position_ids": torch.tensor([[0, 1, 2, 0, 1]]),
        "labels": torch.tensor([[-100, 2, 3, -100, 5]]),
    }
    completion = [[0, THREE, THREE, 0, TWO]]
    prompt = [[THREE, 0, 0, TWO, 0]]
    assert scale(call, target=target) == approximately(completion if target == "completion" else prompt)


@pytest.mark.parametrize("target", ["prompt", "completion"])
@pytest.mark.parametrize("labels", [None, torch.zeros(2, 3), torch.zeros(8)], ids=["none", "too short", "flat"])
def test_a_target_without_one_label_per_token_raises(target: NoiseTarget, labels: Tensor | None) -> None:
    call = {"input_ids": IDS, "attention_mask": MASK, "labels": labels}
    with pytest.raises(UsageError, match=r"without labels of the shape of input_ids.*Use the noise target 'all'"):
        scale(call, target=target)


@pytest.mark.parametrize("target", ["prompt", "completion"])
def test_a_target_raises_for_an_encoder_decoder_model(target: NoiseTarget) -> None:
    sizes: dict[str, Any] = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    model: Any = T5ForConditionalGeneration(T5Config(vocab_size=20, **sizes)).train()
    model.config.decoder_start_token_id = 0
    with pytest.raises(UsageError, match=r"encoder-decoder model.*Use the noise target 'all'"):
        attach_noise(model, target=target)


def test_placeholders_are_found_by_all_their_ids() -> None:
    ids = torch.tensor([[1, 90, 91, 2], [90, 3, 4, 5]])
    mask = torch.ones_like(ids)
    call = {"input_ids": ids, "attention_mask": mask}
    assert scale(call, placeholders=(90, 91)) == approximately([[TWO, 0, 0, TWO], [0, THREE, THREE, THREE]])
    assert scale(call, placeholders=(90,)) == approximately([[THREE, 0, THREE, THREE], [0, THREE, THREE, THREE]])
    assert scale(call) == approximately([[FOUR] * 4] * 2)


def test_an_example_with_placeholders_only_has_scale_0() -> None:
    call = {"input_ids": torch.tensor([[9, 9], [1, 2]]), "attention_mask": torch.ones(2, 2)}
    assert scale(call, placeholders=(9,)) == approximately([[0, 0], [TWO, TWO]])


def test_boundaries_are_read_from_cu_seq_lens_q() -> None:
    call = {"input_ids": torch.ones(1, 5, dtype=torch.long), "cu_seq_lens_q": torch.tensor([0, 3, 5])}
    assert scale(call) == approximately([[THREE] * 3 + [TWO] * 2])


@pytest.mark.parametrize("axes", [3, 4])
def test_text_positions_are_separated_from_positions_per_image_axis(axes: int) -> None:
    """With 4 axes, the first has text positions, which restart with each example. With 3 axes, none restarts."""
    text = torch.tensor([[0, 1, 2, 0, 1]])
    images = torch.tensor([[0, 0, 0, 3, 3]])
    call = {
        "input_ids": torch.ones(1, 5, dtype=torch.long),
        "position_ids": torch.stack([text, images, images, images][4 - axes :]),
    }
    whole_row = [[3 / math.sqrt(5)] * 5]
    assert scale(call) == approximately([[THREE] * 3 + [TWO] * 2] if axes == 4 else whole_row)


@pytest.mark.parametrize(
    ("call", "embedded"),
    [
        ({"inputs_embeds": torch.zeros(1, 2, 4)}, True),
        ({"input_ids": None, "inputs_embeds": torch.zeros(1, 2, 4)}, True),
        ({"encoder_outputs": (torch.zeros(1, 2, 4),)}, True),
        ({"input_ids": IDS, "inputs_embeds": None}, False),
        ({}, False),
    ],
)
def test_calls_with_embeddings_are_recognized(call: dict[str, Any], embedded: bool) -> None:
    assert Batch.of_call(call).already_embedded == embedded


@pytest.mark.parametrize(
    ("args", "expected"),
    [((IDS,), True), ((IDS + 1,), True), ((IDS[:, :2],), False), ((IDS[:1],), False), ((), False)],
    ids=["the ids", "ids of their shape", "the decoder's", "fewer rows", "nothing"],
)
def test_only_lookups_with_the_shape_of_the_input_ids_match(args: tuple[Tensor, ...], expected: bool) -> None:
    assert Batch.of_call({"input_ids": IDS}).has_ids_like(args) == expected
    assert not Batch.of_call({}).has_ids_like(args)


@pytest.mark.parametrize("target", ["all", "prompt", "completion"])
def test_known_targets_are_accepted(target: str) -> None:
    check_choice("noise target", target, NoiseTarget)


def test_an_unknown_target_raises_with_the_known_targets() -> None:
    with pytest.raises(UsageError, match=r"noise target 'answer' is unknown\. Use one of: all, prompt, completion"):
        check_choice("noise target", "answer", NoiseTarget)
