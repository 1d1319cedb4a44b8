"""One training loop for all stages: a time budget, an average of the weights, a state that survives any kill.

Knows parameters, gradients and files. Does not know what is trained: a stage hands in ``loss(step) -> dict of scalars``
whose entry ``loss`` is differentiated.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

LossFn = Callable[[int], dict[str, Tensor]]
Log = Callable[[str], None]


def quiet(line: str) -> None:
    """The log that nobody reads."""


@dataclass(frozen=True)
class LoopConfig:
    """``minutes`` of training time (sum over resumes) decide the end and the cosine decay of the learning rate."""

    minutes: float
    lr: float = 1e-3
    lr_end: float = 0.02  # share of lr that is left at the end
    warmup_steps: int = 100
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.99)
    clip_norm: float = 1.0
    ema: float = 0.999
    save_every_s: float = 60.0
    log_every_s: float = 10.0


class Ema:
    """Exponential moving average of parameters, warmed up so that early steps do not linger.

    decay_t = min(decay, (1 + t) / (10 + t)), as in the reference TensorFlow implementation.
    """

    def __init__(self, modules: nn.ModuleDict, decay: float) -> None:
        self.decay = decay
        self.shadow = {k: v.detach().clone() for k, v in modules.state_dict().items()}

    @torch.no_grad()
    def update(self, modules: nn.ModuleDict, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        for key, value in modules.state_dict().items():
            if value.dtype.is_floating_point:
                self.shadow[key].lerp_(value, 1 - decay)
            else:
                self.shadow[key].copy_(value)


def learning_rate(config: LoopConfig, step: int, share_done: float) -> float:
    """Linear warm-up over steps, then cosine over the share of the time budget that is used."""
    warm = min(1.0, (step + 1) / config.warmup_steps)
    cosine = config.lr_end + (1 - config.lr_end) * 0.5 * (1 + math.cos(math.pi * min(1.0, share_done)))
    return config.lr * warm * cosine


def save_whole(state: object, path: Path) -> None:
    """torch.save that appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with open(part, "wb") as handle:
        torch.save(state, handle)
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(part, path)


def train(
    modules: nn.ModuleDict,
    loss: LossFn,
    config: LoopConfig,
    folder: Path,
    *,
    parameters: Iterable[nn.Parameter] | None = None,
    settings: dict[str, object] | None = None,
    on_log: Log = quiet,
) -> dict[str, Tensor]:
    """Train until the budget is spent; go on from ``folder/state.pt`` if it is there.

    Args:
        modules: everything whose weights belong to the state (frozen parts stay outside).
        loss: called with the step number; its random draws should depend on the step alone.
        settings: stored beside the state; resuming with others raises ValueError.

    Returns: the averaged (EMA) state dict of ``modules``.
    """
    state_path, log_path = folder / "state.pt", folder / "log.jsonl"
    chosen = list(parameters) if parameters is not None else [p for p in modules.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(chosen, lr=config.lr, betas=config.betas, weight_decay=config.weight_decay)
    ema, step, spent = Ema(modules, config.ema), 0, 0.0
    if state_path.exists():
        state = torch.load(state_path, map_location="cpu", weights_only=True)
        if settings is not None and state["settings"] != json.dumps(settings, sort_keys=True):
            raise ValueError(f"{state_path} was made with other settings; give another folder or the same settings")
        modules.load_state_dict(state["modules"])
        optimizer.load_state_dict(state["optimizer"])
        ema.shadow, step, spent = state["ema"], state["step"], state["spent"]

    def save() -> None:
        save_whole(
            {
                "modules": modules.state_dict(),
                "optimizer": optimizer.state_dict(),
                "ema": ema.shadow,
                "step": step,
                "spent": spent,
                "settings": json.dumps(settings or {}, sort_keys=True),
            },
            state_path,
        )

    folder.mkdir(parents=True, exist_ok=True)
    budget, saved, logged = config.minutes * 60, spent, spent
    sums: dict[str, float] = {}
    count = 0
    while spent < budget:
        start = time.perf_counter()
        rate = learning_rate(config, step, spent / budget)
        for group in optimizer.param_groups:
            group["lr"] = rate
        values = loss(step)
        optimizer.zero_grad(set_to_none=True)
        values["loss"].backward()
        norm = nn.utils.clip_grad_norm_(chosen, config.clip_norm)
        if torch.isfinite(norm):
            optimizer.step()
            ema.update(modules, step)
        step, count = step + 1, count + 1
        for key, value in values.items():
            sums[key] = sums.get(key, 0.0) + float(value.detach())
        spent += time.perf_counter() - start
        if spent - logged >= config.log_every_s:
            row = {
                "step": step,
                "minutes": round(spent / 60, 2),
                "lr": round(rate, 7),
                "skipped": int(not torch.isfinite(norm)),
            }
            row |= {k: round(v / count, 5) for k, v in sums.items()}
            with open(log_path, "a") as handle:
                handle.write(json.dumps(row) + "\n")
            on_log(json.dumps(row))
            sums, count, logged = {}, 0, spent
        if spent - saved >= config.save_every_s:
            save()
            saved = spent
    save()
    return ema.shadow
