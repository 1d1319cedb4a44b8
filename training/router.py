"""The stage `router`: low-rank adapters that teach SmolLM2 to write a plan for what a person says.

Cross-entropy on the plan's tokens alone, AdamW, a cosine. Only the upper layers carry adapters, so that gradients end where
they begin. Resumable: the rows are a function of the seed, and the state lies beside the adapter.
"""

from __future__ import annotations

import itertools
import json
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from encoders.smollm import END, Llama, adapter_of, build, stored_tokenizer
from training.requests import Requests, Said

IGNORED = -100  # a token that is read and not learned


@dataclass(frozen=True)
class Recipe:
    """``layers``: how many, counted from the top, carry adapters. ``minutes``: training ends by then at the latest."""

    steps: int = 800
    rows: int = 16
    rate: float = 1.0e-3
    warmup: int = 20
    rank: int = 16
    layers: int = 20
    seed: int = 0
    minutes: float = 45.0
    keep_every: int = 40


def encoded(said: Said, tokenizer: Any, form: Callable[[Said], tuple[str, str]]) -> tuple[list[int], list[int]]:
    """Token ids of a row and what is learned of them. ``form`` gives what is read and what is to be written."""
    asked, answer = form(said)
    before = tokenizer.encode(asked, add_special_tokens=False).ids
    after = [*tokenizer.encode(answer, add_special_tokens=False).ids, END]
    return before + after, [IGNORED] * len(before) + after


def batches(rows: Sequence[tuple[list[int], list[int]]], size: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Ids and targets [rows, longest], rows of like length together, batches in random order."""
    order = sorted(range(len(rows)), key=lambda k: len(rows[k][0]))
    groups = [order[k : k + size] for k in range(0, len(order) - size + 1, size)]
    random.Random(seed).shuffle(groups)
    for group in groups:
        longest = max(len(rows[k][0]) for k in group)
        ids = torch.full((size, longest), END)
        targets = torch.full((size, longest), IGNORED)
        for line, k in enumerate(group):
            ids[line, : len(rows[k][0])] = torch.tensor(rows[k][0])
            targets[line, : len(rows[k][1])] = torch.tensor(rows[k][1])
        yield ids, targets


def loss_of(model: Llama, ids: Tensor, targets: Tensor, frozen: int) -> Tensor:
    """Mean cross-entropy over the tokens that are learned; layers below ``frozen`` keep no graph."""
    head = model.shape.width // model.shape.heads
    frequencies = model.shape.base ** (-torch.arange(0, head, 2, dtype=torch.float32) / head)
    angles = torch.arange(ids.shape[1], dtype=torch.float32)[:, None] * frequencies
    with torch.no_grad():
        x = model.token_embd(ids)
        for layer in model.blk[:frozen]:
            x, _ = layer(x, angles, None)
    for layer in model.blk[frozen:]:
        x, _ = layer(x, angles, None)
    following = targets[:, 1:]
    learned = following != IGNORED
    states = model.output_norm(x[:, :-1][learned])
    return F.cross_entropy(model.logits(states).float(), following[learned])


def train(
    recipe: Recipe,
    requests: Sequence[Said],
    form: Callable[[Said], tuple[str, str]],
    folder: Path,
    cache: Path | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Write ``adapter.safetensors`` and ``training.json`` to ``folder``; goes on from the state that lies there.

    Args:
        requests: at least steps x rows of them, or they are read again.
        form: a request as what the model reads and what it should write.
    """
    torch.manual_seed(recipe.seed)
    model, tokenizer = build(cache), stored_tokenizer(cache)
    frozen = model.shape.layers - recipe.layers
    for name, linear in model.linears():
        if int(name.split(".")[1]) >= frozen:
            linear.adapt(recipe.rank)
    weights = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=recipe.rate, betas=(0.9, 0.98), weight_decay=0.0)
    folder.mkdir(parents=True, exist_ok=True)
    state, begun, log = folder / "state.pt", 0, list[dict[str, float]]()
    if state.is_file():
        kept = torch.load(state, weights_only=True)
        begun, log = kept["step"], kept["log"]
        optimiser.load_state_dict(kept["optimiser"])
        for weight, value in zip(weights, kept["weights"], strict=True):
            weight.data.copy_(value)
    rows = [encoded(said, tokenizer, form) for said in requests]
    drawn = itertools.chain.from_iterable(batches(rows, recipe.rows, epoch) for epoch in itertools.count())
    started, spent = time.monotonic(), log[-1]["minutes"] if log else 0.0
    for step, (ids, targets) in enumerate(itertools.islice(drawn, recipe.steps)):
        if step < begun:
            continue
        minutes = spent + (time.monotonic() - started) / 60
        # The cosine ends at whichever comes first, the steps or the minutes.
        done = max(step / recipe.steps, minutes / recipe.minutes)
        if done >= 1:
            break
        rate = recipe.rate * min(1.0, (step + 1) / recipe.warmup) * (0.05 + 0.95 * (1 + math.cos(math.pi * done)) / 2)
        for group in optimiser.param_groups:
            group["lr"] = rate
        loss = loss_of(model, ids, targets, frozen)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        log.append({"step": step + 1, "loss": round(float(loss.detach()), 4), "minutes": round(minutes, 2)})
        if (step + 1) % 10 == 0:
            recent = [entry["loss"] for entry in log[-10:]]
            say(f"step {step + 1}: loss {sum(recent) / len(recent):.4f}, {minutes:.1f} minutes")
        if (step + 1) % recipe.keep_every == 0:
            values = [weight.detach() for weight in weights]
            torch.save({"step": step + 1, "log": log, "optimiser": optimiser.state_dict(), "weights": values}, state)
            save_file(adapter_of(model), folder / "adapter.safetensors")
    save_file(adapter_of(model), folder / "adapter.safetensors")
    told = {"recipe": vars(recipe) | {}, "rows": len(requests), "steps": len(log), "log": log[::10]}
    (folder / "training.json").write_text(json.dumps(told, indent=1) + "\n", "utf-8")
    return told


def drawn_requests(count: int, seed: int, forbidden: Sequence[str]) -> list[Said]:
    """``count`` requests, none of them near a forbidden text."""
    return list(itertools.islice(Requests(seed, forbidden), count))
