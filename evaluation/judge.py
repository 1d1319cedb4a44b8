"""Judge J1: a small mel CNN that names a 5.12 s sound. Ships with the repository, and trains itself again from clips.

Knows log-mels and labels. Does not know who made a sound, and shares no clip, seed or take family with any generator.

``python -m evaluation.judge --data DIR -o checkpoints/judge-j1`` trains it. DIR is a folder of clips, written by
``python -m training.data`` (evaluation imports nothing from there), holding per split

* ``jproc``: procedural clips of seeds >= 10^7, 60 a class; the judge trains on them and nobody else does,
* ``rec_judge``: recorded clips of the judge's take families (md5 of the family modulo 20 in 13..16), 4 placements each,
* ``tproc`` and ``rec_test``: seeds >= 2 * 10^7 and families modulo 17..19; nobody trains on them,

a ``<split>_mel.npy`` (float16 [N, 512, 64], media.mel's definition) and a ``<split>.json`` (N rows [index, seed]);
``index`` counts classes in the procedural splits and recordings in the recorded ones. ``labels.json`` holds the names:
``{"procedural": [class, ...], "recorded": [category of recording 0, 1, ...]}``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from evaluation.prompts import Kind
from media.audio import Audio, resample
from media.mel import MelSpec, log_mel

log = logging.getLogger(__name__)

SHIPPED = Path(__file__).resolve().parent.parent / "checkpoints" / "judge-j1"

SPEC = MelSpec()
FRAMES = 512
SAMPLES = FRAMES * SPEC.hop  # 5.12 s at 16 kHz
FLOOR = math.log(SPEC.floor)
LEAST_CLIPS = 8  # a recorded category with fewer clips is not a label

# Recorded categories that mean the same as a procedural class: one label for both, so that neither answer is a mistake.
TWINS: dict[str, str] = {
    "alarm clock": "alarm_clock",
    "applause": "applause",
    "beep": "beeps",
    "bell": "bell",
    "bicycle bell": "bicycle_bell",
    "car engine": "car_engine",
    "car horn": "car_horn",
    "church bell": "church_bell",
    "coins": "coins",
    "cow": "cow",
    "dog": "dog",
    "fire": "fire",
    "footsteps dirt": "footsteps",
    "footsteps grass": "footsteps",
    "footsteps gravel": "footsteps",
    "footsteps rock": "footsteps",
    "footsteps sand": "footsteps",
    "footsteps snow": "footsteps",
    "footsteps wood": "footsteps",
    "frog": "frog",
    "gunshot": "gunshot",
    "hammer": "hammer",
    "heartbeat": "heartbeat",
    "helicopter": "helicopter",
    "machine": "machine",
    "ocean waves": "ocean_waves",
    "rain": "rain",
    "river": "stream",
    "robot": "robot",
    "saw": "saw",
    "sheep": "sheep",
    "songbird": "songbird",
    "spaceship": "spaceship",
    "telephone": "telephone",
    "thunder": "thunder",
    "tire screech": "tire_screech",
    "train": "train",
    "vacuum cleaner": "vacuum_cleaner",
    "wind": "wind",
}


# -- the network ----------------------------------------------------------------------------------------------------


class JudgeNet(nn.Module):
    """Five convolutions over time and mel, then mean and maximum over both, then one linear layer.

    Args:
        labels: how many names it may give.
        widths: channels after each convolution; every one but the last halves time and mel.
    """

    def __init__(self, labels: int, widths: Sequence[int] = (24, 48, 96, 160, 160), dropout: float = 0.3) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        previous = 1
        for depth, width in enumerate(widths):
            last = depth == len(widths) - 1
            size = 5 if depth == 0 else 3
            conv = nn.Conv2d(previous, width, size, stride=1 if last else 2, padding=size // 2, bias=False)
            blocks += [conv, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
            previous = width
        self.features = nn.Sequential(*blocks)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(2 * previous, labels)

    def forward(self, mel: Tensor) -> Tensor:
        """Log-mel [B, 1, 512, 64] -> logits [B, labels]."""
        x = (mel - FLOOR / 2) / 3.0  # natural-log mels lie in [log 1e-5, ~4]: about zero mean and unit spread
        x = self.features(x)
        pooled = torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))], dim=1)
        return self.head(self.dropout(pooled))


@dataclass(frozen=True)
class Labels:
    """The names the judge gives, and which of them answer a procedural or a recorded prompt.

    ``unjudged`` maps a recorded category with enough clips to the reason why it has no label of its own.
    """

    names: tuple[str, ...]
    procedural: tuple[str, ...]
    recorded: tuple[str, ...]
    twins: Mapping[str, str]
    unjudged: Mapping[str, str]

    def accepted(self, kind: Kind) -> tuple[str, ...]:
        """The label set a prompt of this kind is judged in; the two sets are reported apart."""
        return self.procedural if kind == "procedural" else self.recorded

    def answer(self, name: str, kind: Kind) -> str | None:
        """The label that is right for a class of this kind, or None where the judge has none."""
        label = self.twins.get(name, name) if kind == "recorded" else name
        return label if label in self.accepted(kind) else None


@dataclass(frozen=True)
class Judge:
    """A trained network and its labels, ready to listen.

    ``digest`` is the sha256 of the weights; ``figures`` is what was measured on clips that nobody trained on.
    """

    net: JudgeNet
    labels: Labels
    digest: str
    figures: Mapping[str, Any]

    @classmethod
    def load(cls, folder: Path) -> Judge:
        """Read ``model.safetensors``, ``config.json`` and ``figures.json`` from ``folder``.

        Raises:
            FileNotFoundError: naming the file that is missing.
        """
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        labels = Labels(
            names=tuple(config["labels"]),
            procedural=tuple(config["procedural"]),
            recorded=tuple(config["recorded"]),
            twins=config["twins"],
            unjudged=config["unjudged"],
        )
        weights = folder / "model.safetensors"
        net = JudgeNet(len(labels.names), widths=config["widths"])
        net.load_state_dict({key: value.float() for key, value in load_file(weights).items()}, strict=True)
        measured = folder / "figures.json"
        figures = json.loads(measured.read_text(encoding="utf-8")) if measured.exists() else {}
        return cls(net.eval(), labels, hashlib.sha256(weights.read_bytes()).hexdigest(), figures)

    def logits(self, mels: np.ndarray, batch: int = 32) -> np.ndarray:
        """Log-mels [N, 512, 64] -> logits [N, labels] float32."""
        rows = []
        with torch.inference_mode():
            for start in range(0, len(mels), batch):
                chunk = torch.from_numpy(np.asarray(mels[start : start + batch], dtype=np.float32))
                rows.append(self.net(chunk[:, None]).numpy())
        return np.concatenate(rows) if rows else np.zeros((0, len(self.labels.names)), np.float32)

    def listen(self, sounds: Sequence[Audio]) -> np.ndarray:
        """Sounds of any rate and length -> logits [N, labels]; the first 5.12 s count."""
        return self.logits(np.stack([mel_of(sound) for sound in sounds])) if sounds else self.logits(np.zeros((0, FRAMES, 64)))

    def ranks(self, logits: np.ndarray, answers: Sequence[str], kind: Kind) -> np.ndarray:
        """The place (0 = first) of each row's right label within the label set of ``kind``, int [N].

        Raises:
            ValueError: an answer that is not in the set.
        """
        return ranks(logits, self.labels.names, answers, self.labels.accepted(kind))


def ranks(logits: np.ndarray, names: Sequence[str], answers: Sequence[str], accepted: Sequence[str]) -> np.ndarray:
    """How many accepted labels score above the right one, per row. Ties count against the answer.

    >>> ranks(np.array([[3.0, 9.0, 1.0], [3.0, 9.0, 1.0]]), ["a", "b", "c"], ["a", "c"], ["a", "c"]).tolist()
    [0, 1]
    """
    columns = [names.index(name) for name in accepted]
    inside = logits[:, columns]
    right = inside[np.arange(len(inside)), [accepted.index(answer) for answer in answers]]
    return (inside >= right[:, None]).sum(axis=1) - 1


def mel_of(sound: Audio) -> np.ndarray:
    """The judge's view of a sound: mono, 16 kHz, 5.12 s (padded with silence or cut) -> log-mel [512, 64] float32."""
    mono = sound.mono()
    if mono.sample_rate != SPEC.sample_rate:
        mono = resample(mono, SPEC.sample_rate)
    samples = mono.samples[0][:SAMPLES]
    return log_mel(np.pad(samples, (0, SAMPLES - len(samples))), SPEC)


# -- the clips it learns from ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Clips:
    """Log-mels [N, 512, 64] float16 and the judge's label of each, int64 [N]."""

    mels: np.ndarray
    targets: np.ndarray

    def __len__(self) -> int:
        return len(self.targets)


def choose_labels(folder: Path) -> Labels:
    """Which recorded categories can be judged: enough clips, and take families on both sides of the judge's split."""
    names = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
    procedural, category = names["procedural"], names["recorded"]

    def heard(split: str) -> set[str]:
        return {category[index] for index, _ in json.loads((folder / f"{split}.json").read_text(encoding="utf-8"))}

    learned, tested = heard("rec_judge"), heard("rec_test")
    own: list[str] = []
    unjudged: dict[str, str] = {}
    frequent = sorted(name for name, count in Counter(category).items() if count >= LEAST_CLIPS)
    for name in frequent:
        if name in TWINS:
            continue
        if name not in learned:
            unjudged[name] = "no take family left for the judge to learn from"
        elif name not in tested:
            unjudged[name] = "no take family left to measure the judge on"
        else:
            own.append(name)
    twins = {name: TWINS[name] for name in frequent if name in TWINS}
    return Labels(
        names=(*procedural, *own),
        procedural=tuple(procedural),
        recorded=tuple(sorted({*own, *twins.values()})),
        twins=twins,
        unjudged=unjudged,
    )


def read_clips(folder: Path, split: str, labels: Labels) -> Clips:
    """One split; recordings of a category without a label are left out."""
    rows = json.loads((folder / f"{split}.json").read_text(encoding="utf-8"))
    known = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
    recorded = split.startswith("rec_")
    names = known["recorded" if recorded else "procedural"]
    wanted = [TWINS.get(names[index], names[index]) if recorded else names[index] for index, _ in rows]
    keep = [row for row, name in enumerate(wanted) if name in labels.names]
    mels = np.load(folder / f"{split}_mel.npy", mmap_mode="r")
    if len(mels) != len(rows):
        raise ValueError(f"{split}_mel.npy holds {len(mels)} clips but {split}.json names {len(rows)}; make them again")
    return Clips(np.asarray(mels[keep]), np.array([labels.names.index(wanted[row]) for row in keep], dtype=np.int64))


# -- how it learns --------------------------------------------------------------------------------------------------


def disturb(mel: Tensor, generator: torch.Generator) -> Tensor:
    """What must not change a verdict: level, equaliser, noise floor, onset, blur and gaps. [B, 512, 64] -> the same.

    A judge that has only seen crisp originals calls every decoder's output noise, hence floor and blur.
    """
    batch, frames, bins = mel.shape

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand((batch, *shape), generator=generator) * (high - low) + low

    shift = torch.randint(0, frames, (batch,), generator=generator)
    index = (torch.arange(frames)[None] + shift[:, None]) % frames
    moved = torch.rand(batch, generator=generator) < 0.7
    index = torch.where(moved[:, None], index, torch.arange(frames)[None])
    x = torch.gather(mel, 1, index[:, :, None].expand(-1, -1, bins))

    tilt = uniform(-0.7, 0.7, 1, 1) * torch.linspace(-1, 1, bins)[None, None]
    x = x + uniform(-2.0, 1.0, 1, 1) + tilt

    blurred = nn.functional.avg_pool2d(x[:, None], 3, stride=1, padding=1, count_include_pad=False)[:, 0]
    share = uniform(0.0, 1.0, 1, 1) * (torch.rand((batch, 1, 1), generator=generator) < 0.5)
    x = torch.lerp(x, blurred, share)

    noise = uniform(-11.5, -4.5, 1, 1) + 0.5 * torch.randn(mel.shape, generator=generator)
    noisy = torch.rand((batch, 1, 1), generator=generator) < 0.7
    x = torch.where(noisy, torch.logaddexp(x, noise), x).clamp_min(FLOOR)

    time_at, time_len = uniform(0, frames, 1), uniform(0, 60, 1)
    bin_at, bin_len = uniform(0, bins, 1), uniform(0, 8, 1)
    steps, tones = torch.arange(frames)[None], torch.arange(bins)[None]
    gap = (steps >= time_at) & (steps < time_at + time_len)
    hole = (tones >= bin_at) & (tones < bin_at + bin_len)
    return x.masked_fill(gap[:, :, None] | hole[:, None, :], FLOOR)


def fit(clips: Clips, count: int, *, steps: int, batch: int = 32, rate: float = 3e-3, seed: int = 0) -> JudgeNet:
    """Train a network of ``count`` labels. Rare labels are drawn more often (by the root of their count)."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    net = JudgeNet(count)
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs forget this form
    optimiser = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=rate, total_steps=steps, pct_start=0.15)
    loss_of = nn.CrossEntropyLoss(label_smoothing=0.1)
    weights = torch.from_numpy(1 / np.sqrt(np.bincount(clips.targets, minlength=count)[clips.targets]))
    started, running = time.perf_counter(), math.nan
    net.train()
    for step in range(steps):
        rows = torch.multinomial(weights, batch, replacement=False, generator=generator).numpy()
        mel = disturb(torch.from_numpy(clips.mels[rows].astype(np.float32)), generator)
        loss = loss_of(net(mel[:, None].contiguous(memory_format=torch.channels_last)), torch.from_numpy(clips.targets[rows]))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        running = loss.item() if math.isnan(running) else 0.98 * running + 0.02 * loss.item()
        if (step + 1) % 100 == 0:
            log.info("step %d of %d, loss %.3f, %.0f s", step + 1, steps, running, time.perf_counter() - started)
    return net.eval()


def accuracy(judge: Judge, clips: Clips, kind: Kind) -> dict[str, Any]:
    """Top-1 and top-5 within the label set of ``kind``, by label as [clips, top-1, top-5], and the five most frequent
    confusions as [right, heard, times]."""
    names, accepted = judge.labels.names, judge.labels.accepted(kind)
    keep = np.isin(clips.targets, [names.index(name) for name in accepted])
    right = [names[target] for target in clips.targets[keep]]
    logits = judge.logits(clips.mels[keep])
    places = ranks(logits, names, right, accepted)
    inside = logits[:, [names.index(name) for name in accepted]].argmax(axis=1)
    by_label = {
        name: [int(mine.sum()), round(float((places[mine] < 1).mean()), 4), round(float((places[mine] < 5).mean()), 4)]
        for name in dict.fromkeys(sorted(right))
        for mine in [np.array(right) == name]
    }
    confused = Counter((a, accepted[b]) for a, b in zip(right, inside, strict=True) if a != accepted[b])
    return {
        "clips": len(right),
        "labels": len(accepted),
        "top1": float((places < 1).mean()),
        "top5": float((places < 5).mean()),
        "by_label": by_label,
        "confusions": [[a, b, times] for (a, b), times in confused.most_common(5)],
    }


def write(net: JudgeNet, labels: Labels, widths: Sequence[int], folder: Path) -> None:
    """Weights in half precision and the config beside them; the config is written last."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {key: (value.half() if value.is_floating_point() else value).contiguous() for key, value in net.state_dict().items()}
    save_file(weights, folder / "model.safetensors")
    config = {
        "labels": labels.names,
        "procedural": labels.procedural,
        "recorded": labels.recorded,
        "twins": labels.twins,
        "unjudged": labels.unjudged,
        "widths": list(widths),
        "seconds": SAMPLES / SPEC.sample_rate,
        "sample_rate": SPEC.sample_rate,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, write, and measure what was written (so the half-precision weights are what the figures speak of)."""
    parser = argparse.ArgumentParser(description="Train judge J1 from a folder of clips.")
    parser.add_argument("--data", type=Path, required=True, help="folder of clips; this file's docstring says what it holds")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for model.safetensors and config.json")
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    labels = choose_labels(options.data)
    parts = [read_clips(options.data, split, labels) for split in ("jproc", "rec_judge")]
    clips = Clips(np.concatenate([p.mels for p in parts]), np.concatenate([p.targets for p in parts]))
    log.info("%d clips, %d labels", len(clips), len(labels.names))
    started = time.perf_counter()
    net = fit(clips, len(labels.names), steps=options.steps, seed=options.seed)
    seconds = time.perf_counter() - started
    write(net, labels, [m.out_channels for m in net.features if isinstance(m, nn.Conv2d)], options.out)

    judge = Judge.load(options.out)
    figures = {
        "procedural": accuracy(judge, read_clips(options.data, "tproc", labels), "procedural"),
        "recorded": accuracy(judge, read_clips(options.data, "rec_test", labels), "recorded"),
        "parameters": sum(p.numel() for p in net.parameters()),
        "train_clips": len(clips),
        "train_seconds": round(seconds),
        "steps": options.steps,
        "seed": options.seed,
    }
    (options.out / "figures.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    log.info("%s", json.dumps(figures))


if __name__ == "__main__":
    main()
