"""Public names of the package, which are imported on first access."""

import subprocess
import sys

import neftune_cli
import neftune_cli.noise


def test_dir_lists_the_public_names_without_importing_torch() -> None:
    program = "import neftune_cli, sys; print(*dir(neftune_cli)); print('torch' in sys.modules)"
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    names, imports_torch = output.splitlines()
    assert {"NEFTuneCallback", "NEFTuneEmbedding", "attach_noise", "load_examples", "__doc__"} <= set(names.split())
    assert imports_torch == "False"


def test_dir_of_noise_lists_the_callback() -> None:
    assert {"NEFTuneCallback", "NEFTuneEmbedding", "attach_noise", "token_noise_scale"} <= set(dir(neftune_cli.noise))


def test_every_listed_public_name_can_be_imported() -> None:
    for module in (neftune_cli, neftune_cli.noise):
        assert all(getattr(module, name) is not None for name in module.__all__)
