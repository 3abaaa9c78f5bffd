"""Default names of results folders."""

import pytest

from neftune_cli.commands.request import default_name


@pytest.mark.parametrize(
    ("dataset", "name"),
    [
        ("bios", "tiny-bios"),
        ("data/mine.jsonl", "tiny-mine"),
        ("data/mine.v2.CSV.gz", "tiny-mine.v2"),
        ("owner/OpenHermes-2.5", "tiny-OpenHermes-2.5"),
        ("a/one.jsonl,two.jsonl", "tiny-one"),
        ("set/train-*.parquet", "tiny-train-"),
        ("set/*.jsonl", "tiny-set"),
        ("*.jsonl", "tiny-data"),
        ("set/", "tiny-set"),
    ],
)
def test_default_name_of_a_results_folder(dataset: str, name: str) -> None:
    assert default_name("tiny", dataset) == name
