"""The wheel has everything that a sweep of the bundled model and data needs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the content of a wheel that was built from a copy of the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    sources = subprocess.run(["git", "-C", ROOT, "ls-files", "-z"], check=True, capture_output=True, text=True).stdout
    for name in filter(None, sources.split("\0")):
        if (ROOT / name).is_file():
            target = folder / "sources" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", folder, folder / "sources"], check=True)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", folder / "site", wheel], check=True)
    return folder / "site"


@pytest.mark.slow
def test_a_wheel_runs_a_sweep_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    def neftune(*arguments: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1"}
        command = [sys.executable, "-m", "neftune_cli", *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True).stdout

    neftune("sweep", "--alphas", "0,5", "--seeds", "1", "--max-steps", "4", "--no-estimate")
    assert (tmp_path / "results" / "tiny-bios" / "report.html").exists()
    assert "alpha=5" in neftune("compare", "results", "--format", "csv")  # the screen has only the number
    assert not any(tmp_path.glob("*.egg-info"))
