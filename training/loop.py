"""One training loop for all stages: a budget of time or steps, an average of the weights, a state that survives any kill.

Knows parameters, gradients, files and the machine (through accelerate: a processor, a card, several cards). Does not know what is
trained: a stage hands in ``loss(number) -> dict of scalars`` whose entry ``loss`` is differentiated.
"""

from __future__ import annotations

import errno
import json
import math
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import broadcast, reduce
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from configs.registry import ConfigError
from configs.schema import LoopConfig
from media.refs import write_whole
from training.spectrograms import write_spectrograms

LossFn = Callable[[int], dict[str, Tensor]]
Log = Callable[[str], None]
Sampler = Callable[[nn.ModuleDict], Sequence[np.ndarray]]
Module = TypeVar("Module", bound=nn.Module)
Drawn = TypeVar("Drawn")
Stage = TypeVar("Stage", bound=LoopConfig, covariant=True)

# Fields that may differ between a run and its resumption: they do not change the weights.
FREE = {"save_every_s", "log_every_s", "samples_every"}


def quiet(line: str) -> None:
    """The log that nobody reads."""


class OutOfRoom(Exception):
    """A file could not be written; what was there before is whole."""

    exit_code = 1


@dataclass(frozen=True)
class Loop(Generic[Stage]):
    """How a stage is trained, on which machine, and who watches."""

    config: Stage
    about: dict[str, object] = field(default_factory=dict)  # what else the weights depend on; resuming compares it
    on_log: Log = quiet
    on_progress: Callable[[float], None] = lambda share: None  # share of the budget that is used, after every step
    sample: Sampler | None = None  # the modules in training to log-mels [T, bins], drawn every ``samples_every`` steps

    @cached_property
    def state(self) -> PartialState:
        return PartialState()

    @property
    def device(self) -> torch.device:
        return torch.device(self.state.device)

    def autocast(self) -> torch.autocast:
        """The precision of the config for what runs inside; losses are better computed outside, in float32."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16")

    def step(self, number: int) -> int:
        """The step to which the number of a draw belongs."""
        return number // self.state.num_processes

    def ahead(self, draw: Callable[[int], Drawn]) -> Callable[[int], Drawn]:
        """``draw`` called some numbers early in threads, while a card computes; as it is where there is no card."""
        return draw if self.device.type == "cpu" else Ahead(draw, self.state.num_processes)


class Ahead(Generic[Drawn]):
    """``draw(number)``, with the next draws begun in threads. A draw depends on its number alone, so nothing changes."""

    def __init__(self, draw: Callable[[int], Drawn], stride: int, depth: int = 4) -> None:
        self.draw, self.stride, self.depth = draw, stride, depth
        self.threads = ThreadPoolExecutor(depth)
        self.begun: dict[int, Future[Drawn]] = {}

    def __call__(self, number: int) -> Drawn:
        wanted = range(number, number + (self.depth + 1) * self.stride, self.stride)
        self.begun = {n: self.begun.get(n) or self.threads.submit(self.draw, n) for n in wanted}
        return self.begun[number].result()


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
        live = modules.state_dict()
        averaged = [key for key, value in live.items() if value.dtype.is_floating_point]
        # All at once: a few kernels, where one a tensor would be hundreds.
        get_ema_multi_avg_fn(decay)([self.shadow[key] for key in averaged], [live[key] for key in averaged], None)
        for key in live.keys() - averaged:
            self.shadow[key].copy_(live[key])


def learning_rate(config: LoopConfig, step: int, share_done: float) -> float:
    """Linear warm-up over steps, then cosine over the share of the budget that is used."""
    warm = min(1.0, (step + 1) / config.warmup_steps)
    cosine = config.lr_end + (1 - config.lr_end) * 0.5 * (1 + math.cos(math.pi * min(1.0, share_done)))
    return config.lr * warm * cosine


# -- files -------------------------------------------------------------------------------------------------------------
@contextmanager
def room_named(path: Path) -> Iterator[None]:
    """A full disk is one clear line. torch.save hides the system's error behind its own, hence both kinds."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        cause: BaseException | None = error
        while cause is not None and getattr(cause, "errno", None) not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            cause = cause.__context__
        if cause is None:
            raise
        raise OutOfRoom(f"no room to write {path}; what was there is whole: free some space, then go on with --resume") from error


def save_whole(state: object, path: Path) -> None:
    """torch.save that appears whole or not at all, and is on the disk when it appears."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        with room_named(path), open(part, "wb") as handle:
            torch.save(state, handle)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def read_state(path: Path) -> dict[str, Any]:
    """What ``save_whole`` wrote, on the processor. Raises ConfigError where it was damaged since."""
    try:
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except (EOFError, RuntimeError, UnpicklingError) as error:
        raise ConfigError(f"{path} is damaged ({type(error).__name__}); give another --work folder") from error


def write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with room_named(path):
        write_whole(path, text.encode())


def settings_of(loop: Loop[LoopConfig]) -> dict[str, Any]:
    """What the weights depend on, as JSON has it."""
    settings: dict[str, Any] = json.loads(json.dumps(loop.about | loop.config.model_dump(mode="json", exclude=FREE)))
    return settings


def check_same(folder: Path, wanted: dict[str, Any]) -> None:
    """Raises ConfigError naming the first field of ``wanted`` in which the training in ``folder`` differs."""
    try:
        recorded: dict[str, Any] = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{folder / 'config.json'} is damaged ({error}); give another --work folder") from error
    for key, (there, here) in _differences(recorded, wanted):
        raise ConfigError(
            f"{folder} was trained with other settings: '{key}' is {there} there and {here} here; give another --work folder"
        )


def _differences(there: Any, here: Any, path: str = "") -> Iterator[tuple[str, tuple[Any, Any]]]:
    if isinstance(there, dict) and isinstance(here, dict):
        for key in here:
            yield from _differences(there.get(key), here[key], f"{path}.{key}".lstrip("."))
    elif there != here:
        yield path, (there, here)


def last_row(folder: Path) -> dict[str, Any]:
    """The newest row of a stage's log."""
    lines = (folder / "log.jsonl").read_text().splitlines() if (folder / "log.jsonl").exists() else []
    return dict(json.loads(lines[-1])) if lines else {}


def finished(folder: Path) -> bool:
    """Whether the stage that keeps its state in ``folder`` is done: the summary is written last."""
    return (folder / "done.json").is_file()


def _cut_log(path: Path, step: int) -> None:
    """Drop rows of steps that a kill undid and that will be made again, and a line that it tore."""

    def stands(line: str) -> bool:
        try:
            return bool(json.loads(line)["step"] <= step)
        except ValueError:
            return False

    if path.exists():
        write_text(path, "".join(line + "\n" for line in path.read_text().splitlines() if stands(line)))


# -- the loop ----------------------------------------------------------------------------------------------------------
class Interrupted:
    """Ctrl-C between two steps only: the first one is remembered, the second one stops at once."""

    def __init__(self) -> None:
        self.asked = False

    def _remember(self, number: int, frame: object) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def __enter__(self) -> Interrupted:
        self.before = signal.getsignal(signal.SIGINT) if threading.current_thread() is threading.main_thread() else None
        if self.before is not None:
            signal.signal(signal.SIGINT, self._remember)
        return self

    def __exit__(self, *_: object) -> None:
        if self.before is not None:
            signal.signal(signal.SIGINT, self.before)


Groups = Sequence[dict[str, Any]]  # as torch's optimizers take them


class Training:
    """All that a kill must not lose: the weights, their average, the optimizer, and how far it is."""

    def __init__(self, modules: nn.ModuleDict, groups: Groups | None, config: LoopConfig) -> None:
        self.modules, self.config = modules, config
        self.groups = groups or [{"params": [p for p in modules.parameters() if p.requires_grad]}]
        self.optimizer = torch.optim.AdamW(self.groups, lr=config.lr, betas=config.betas, weight_decay=config.weight_decay)
        self.ema, self.step, self.spent = Ema(modules, config.ema), 0, 0.0  # spent: seconds

    @property
    def share(self) -> float:
        """How much of the budget is used."""
        return self.step / self.config.steps if self.config.steps is not None else self.spent / 60 / (self.config.minutes or math.inf)

    @property
    def rate(self) -> float:
        return learning_rate(self.config, self.step, self.share)

    def save(self, path: Path) -> None:
        parts = {"modules": self.modules.state_dict(), "optimizer": self.optimizer.state_dict(), "ema": self.ema.shadow}
        save_whole(parts | {"step": self.step, "spent": self.spent}, path)

    def finish(self, path: Path) -> None:
        """Keep the average alone: a finished training never goes on."""
        save_whole({"ema": self.ema.shadow, "step": self.step, "spent": self.spent}, path)

    def restore(self, path: Path, device: torch.device) -> None:
        stored = read_state(path)
        self.modules.load_state_dict(stored.get("modules", stored["ema"]))
        if "optimizer" in stored:
            self.optimizer.load_state_dict(stored["optimizer"])
        self.ema.shadow = {key: value.to(device) for key, value in stored["ema"].items()}
        self.step, self.spent = stored["step"], stored["spent"]

    def advance(self, loss: LossFn, state: PartialState) -> tuple[dict[str, Tensor], bool]:
        """One step: the loss's values, and whether the gradient was finite; if not, no weight has moved."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * group.get("pace", 1.0)
        number = self.step * state.num_processes + state.process_index
        torch.manual_seed(number)  # whatever draws from the global generator depends on the number alone, too
        values = loss(number)
        self.optimizer.zero_grad(set_to_none=True)
        values["loss"].backward()
        if state.num_processes > 1:
            _average_gradients([parameter for group in self.groups for parameter in group["params"]])
        norms = [nn.utils.clip_grad_norm_(group["params"], self.config.clip_norm) for group in self.groups]
        finite = all(bool(torch.isfinite(norm)) for norm in norms)
        if finite:
            self.optimizer.step()
            self.ema.update(self.modules, self.step)
        self.step += 1
        return {key: value.detach() for key, value in values.items()}, finite


class Means:
    """Means of losses between two rows of the log. They stay on the device until a row is made: reading one would wait for the card."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: Counter[str] = Counter()  # a critic may join in between
        self.skipped = 0

    def add(self, values: dict[str, Tensor], finite: bool) -> None:
        if not finite:
            self.skipped += 1
            return
        for key, value in values.items():
            self.sums[key] = self.sums[key] + value if key in self.sums else value
            self.counts[key] += 1

    def row(self) -> dict[str, float]:
        return {"skipped": self.skipped} | {key: round(float(value) / self.counts[key], 5) for key, value in self.sums.items()}


def train(
    modules: nn.ModuleDict, loss: LossFn, loop: Loop[LoopConfig], folder: Path, *, groups: Groups | None = None
) -> dict[str, Tensor]:
    """Train until the budget is spent; go on from ``folder/state.pt`` if it is there.

    Leaves config.json (what the weights depend on), state.pt, log.jsonl (means of the losses), samples/*.png and, written last,
    done.json (steps, minutes, last losses).

    Args:
        modules: everything whose weights belong to the state (frozen parts stay outside); moved to the machine's device.
        loss: called with a number that is new at every step and in every process (alone: the step); its random draws should depend
            on it alone. Several processes average their gradients.
        groups: the parameters to train, in groups whose gradients are clipped apart; by default one group of all that want a gradient.
            A group's ``pace`` multiplies its learning rate.

    Returns: the averaged (EMA) state dict of ``modules``.

    Raises:
        ConfigError: the folder holds a state of other settings.
        OutOfRoom: the disk is full; the last state is whole.
        KeyboardInterrupt: at Ctrl-C, after the step and its state are saved.
    """
    config, state, path = loop.config, loop.state, folder / "state.pt"
    modules.to(loop.device)
    training = Training(modules, groups, config)
    if path.exists():
        check_same(folder, settings_of(loop))
        training.restore(path, loop.device)
    elif state.is_main_process:
        write_text(folder / "config.json", json.dumps(settings_of(loop), indent=1) + "\n")
    if state.is_main_process:
        _cut_log(folder / "log.jsonl", training.step)
    state.wait_for_everyone()
    saved = logged = training.spent
    means = Means()
    with Interrupted() as interrupted:
        while training.share < 1:
            start, rate = time.perf_counter(), training.rate
            means.add(*training.advance(loss, state))
            training.spent += time.perf_counter() - start
            stop = interrupted.asked
            if state.num_processes > 1:  # one clock and one Ctrl-C for all, or some would wait for others forever
                training.spent, stop = _agreed(training.spent, stop, loop.device)
            loop.on_progress(training.share)
            if not state.is_main_process:
                if stop:
                    raise KeyboardInterrupt
                continue
            if training.spent - logged >= config.log_every_s or training.share >= 1:
                _log(
                    loop, folder, {"step": training.step, "minutes": round(training.spent / 60, 2), "lr": round(rate, 7)} | means.row()
                )
                means, logged = Means(), training.spent
            if config.samples_every and loop.sample is not None and training.step % config.samples_every == 0:
                _draw(loop.sample, modules, folder / "samples" / f"{training.step:07d}.png")
            if stop or training.spent - saved >= config.save_every_s:
                training.save(path)
                saved = training.spent
            if stop:
                loop.on_log(f"stopped after step {training.step}; --resume goes on from there")
                raise KeyboardInterrupt
    if state.is_main_process and not finished(folder):
        training.finish(path)
        summary = {"steps": training.step, "minutes": round(training.spent / 60, 3), "processes": state.num_processes}
        write_text(folder / "done.json", json.dumps(summary | {"last": last_row(folder)}, indent=1) + "\n")
    state.wait_for_everyone()
    return training.ema.shadow


def _log(loop: Loop[LoopConfig], folder: Path, row: dict[str, float]) -> None:
    with room_named(folder), open(folder / "log.jsonl", "a") as handle:
        handle.write(json.dumps(row) + "\n")
    loop.on_log(json.dumps(row))


@torch.no_grad()
def _draw(sample: Sampler, modules: nn.ModuleDict, path: Path) -> None:
    modules.eval()
    write_spectrograms(sample(modules), path)
    modules.train()


def _average_gradients(parameters: list[nn.Parameter]) -> None:
    """The mean over processes, in one message."""
    for parameter in parameters:
        if parameter.grad is None:  # a part that this process' rows did not reach
            parameter.grad = torch.zeros_like(parameter)
    grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
    mean = reduce(torch.cat([grad.flatten() for grad in grads]), "mean")
    for grad, part in zip(grads, mean.split([grad.numel() for grad in grads]), strict=True):
        grad.copy_(part.view_as(grad))


def _agreed(spent: float, stop: bool, device: torch.device) -> tuple[float, bool]:
    """The first process' clock, and whether it was told to stop."""
    told = broadcast(torch.tensor([spent, float(stop)], dtype=torch.float64, device=device))
    return float(told[0]), bool(told[1])


def fit(name: str, model: Module, loss: LossFn, loop: Loop[LoopConfig], folder: Path, *, critics: nn.Module | None = None) -> Module:
    """``train`` one ``model`` and give it back with its averaged weights, on the processor.

    ``critics``, where there are any, are trained beside it.
    """
    modules = nn.ModuleDict({name: model})
    groups = [{"params": [p for p in model.parameters() if p.requires_grad]}]
    if critics is not None:
        modules["critics"] = critics
        groups.append({"params": list(critics.parameters())})
    modules.load_state_dict(train(modules, loss, loop, folder, groups=groups))
    return model.cpu().eval()


def averaged(folder: Path, model: Module, name: str) -> Module:
    """The averaged weights that the training of ``name`` left in ``folder``, in ``model``."""
    shadow = read_state(folder / "state.pt")["ema"]
    start = name + "."
    model.load_state_dict({key.removeprefix(start): value for key, value in shadow.items() if key.startswith(start)})
    return model.eval()
