"""The largest rows at their true size on this machine: built, filled and run for two steps in less memory than a small computer has."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

LIMIT = 20e9  # bytes
RUN = """
import sys, time
from pathlib import Path
import diffusers
import torch
from generators.base import GenerationRequest
from tests.fakes import _pieces
from tests.generators.test_rows_true_size import ROWS, backend

torch.set_num_threads(1)
row, start = backend(sys.argv[2], Path(sys.argv[1])), time.perf_counter()
row.folder.mkdir(parents=True)
ROWS[row.name][0](row.folder)
parts, count = {}, 0
for name, one in row.networks().items():
    network = one.network.to(torch.bfloat16)
    if hasattr(network, "shared"):
        network.encoder.embed_tokens = network.shared
    network = network.to_empty(device="cpu").eval().requires_grad_(False)
    for buffer in network.buffers():
        buffer.zero_()
    for parameter in network.parameters():  # cheap values: drawing billions takes longer than using them
        flat, count = parameter.view(-1), count + parameter.numel()
        width = parameter[0].numel() if parameter.dim() > 1 else 1
        seed = torch.randn(min(len(flat), 65_521)) * width**-0.5
        for at in range(0, len(flat), len(seed)):
            flat[at : at + len(seed)] = seed[: len(flat) - at]
    parts[name] = network
print(count, "parameters, filled after", round(time.perf_counter() - start, 1), "s", flush=True)
scheduler = diffusers.FlowMatchEulerDiscreteScheduler(num_train_timesteps=1 if row.name == "ace-step" else 1000)
row._pipe = getattr(diffusers, row.options.pipeline)(tokenizer=_pieces(), scheduler=scheduler, **parts)
row._pipe.set_progress_bar_config(disable=True)
steps = []
asked = GenerationRequest(prompt="waves at a beach", seconds=1.0 if row.name == "ace-step" else 0.3, steps=2)
if row.name == "ace-step":
    made = row._make(asked, lambda done, of: steps.append(done))
else:
    row.options = row.options.model_copy(update={"width": 64, "height": 64})
    made = row._draw(asked, lambda done, of: steps.append(done)).frames
assert steps == [1, 2]
print("made", made.shape, "after", round(time.perf_counter() - start, 1), "s")
"""


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("name", "billions"), [("ace-step", 5.3), ("text-to-video", 7.2)])
def test_a_row_of_billions_runs_two_steps_in_20_gb(tmp_path: Path, name: str, billions: float) -> None:
    """In bf16 with random weights; the video is a small one, its length of text and its networks are the true ones."""
    run = [sys.executable, "-c", RUN, str(tmp_path), name]
    done = subprocess.run(run, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=1700, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    print(done.stdout, f"peak {peak / 1e9:.1f} GB")
    assert int(done.stdout.split()[0]) > 0.97e9 * billions and peak < LIMIT
