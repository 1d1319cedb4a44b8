"""The training loop: a kill costs nothing but time, whatever the moment; settings are remembered; weights are averaged."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from configs.registry import ConfigError
from configs.schema import LoopConfig
from training import loop
from training.loop import Ema, Loop, learning_rate, save_whole, train


@pytest.fixture(autouse=True)
def _every_step_takes_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """The budget is time. A clock that ticks once whenever it is read makes each step last exactly one second."""
    ticks = iter(range(10**9))
    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=lambda: float(next(ticks))))


STEPS = 30
CONFIG = LoopConfig(minutes=STEPS / 60, lr=0.05, warmup_steps=5, ema=0.9, save_every_s=7, log_every_s=10)


def network() -> nn.ModuleDict:
    torch.manual_seed(0)
    return nn.ModuleDict({"net": nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.BatchNorm1d(8), nn.Linear(8, 1))})


class Killed(Exception):
    pass


def regression(modules: nn.ModuleDict, kill_at: int = -1, seen: list[int] | None = None) -> Callable[[int], dict[str, Tensor]]:
    """A fit whose draws depend on the step alone."""

    def loss(step: int) -> dict[str, Tensor]:
        if seen is not None:
            seen.append(step)
        if step == kill_at:
            raise Killed
        x = torch.randn(16, 3, generator=torch.Generator().manual_seed(step))
        error = (modules["net"](x)[:, 0] - x.sum(1).sin()).pow(2).mean()
        return {"loss": error, "error": error.detach()}

    return loss


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("kills", [[12], [3], [29], [9, 16, 16]])
def test_killed_and_resumed_ends_with_the_weights_of_an_unbroken_run(tmp_path: Path, kills: list[int]) -> None:
    unbroken = network()
    average = train(unbroken, regression(unbroken), Loop(CONFIG), tmp_path / "unbroken")
    for kill in kills:
        modules = network()
        with pytest.raises(Killed):
            train(modules, regression(modules, kill), Loop(CONFIG), tmp_path / "broken")
    steps: list[int] = []
    modules = network()
    resumed = train(modules, regression(modules, seen=steps), Loop(CONFIG), tmp_path / "broken")
    assert steps[0] == max(kills) // 7 * 7 and steps[-1] == STEPS - 1  # from the last save to the end of the budget
    assert same(resumed, average) and same(modules.state_dict(), unbroken.state_dict())
    assert not same(average, network().state_dict())


def test_a_finished_run_trains_no_further(tmp_path: Path) -> None:
    modules = network()
    first = train(modules, regression(modules), Loop(CONFIG), tmp_path)
    steps: list[int] = []
    again = network()
    assert same(train(again, regression(again, seen=steps), Loop(CONFIG), tmp_path), first) and steps == []


@pytest.mark.parametrize(
    ("changed", "about", "words"),
    [
        ({"lr": 0.06}, {}, "'lr' is 0.05 there and 0.06 here"),
        ({"betas": (0.8, 0.99)}, {}, "'betas'"),
        ({}, {"clips": "b"}, "'clips' is a there and b here"),
    ],
)
def test_other_settings_are_refused_by_name(tmp_path: Path, changed: dict[str, Any], about: dict[str, object], words: str) -> None:
    modules = network()
    train(modules, regression(modules), Loop(CONFIG, {"clips": "a"}), tmp_path)
    other = Loop(CONFIG.model_copy(update=changed), {"clips": "a"} | about)
    with pytest.raises(ConfigError, match=words):
        train(network(), regression(modules), other, tmp_path)


def test_how_often_it_saves_is_no_other_setting(tmp_path: Path) -> None:
    modules = network()
    train(modules, regression(modules), Loop(CONFIG), tmp_path)
    train(network(), regression(modules), Loop(CONFIG.model_copy(update={"save_every_s": 1.0, "log_every_s": 3.0})), tmp_path)


def test_training_lowers_the_loss_and_logs_it(tmp_path: Path) -> None:
    modules, lines = network(), list[str]()
    train(modules, regression(modules), Loop(CONFIG, on_log=lines.append), tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert rows == [json.loads(line) for line in lines] and [row["step"] for row in rows] == [10, 20, 30]
    assert rows[-1]["loss"] < 0.7 * rows[0]["loss"] and rows[0]["error"] == rows[0]["loss"]


def test_a_step_whose_gradient_is_no_number_changes_nothing(tmp_path: Path) -> None:
    modules = network()
    fair = regression(modules)
    broken = {4, 5}

    def loss(step: int) -> dict[str, Tensor]:
        values = fair(step)
        return {"loss": values["loss"] * (math.nan if step in broken else 1.0)}

    average = train(modules, loss, Loop(CONFIG), tmp_path)
    assert all(bool(torch.isfinite(value).all()) for value in [*average.values(), *modules.state_dict().values()])


def test_only_the_given_parameters_move(tmp_path: Path) -> None:
    modules = network()
    before = {k: v.clone() for k, v in modules.state_dict().items()}
    last = [parameter for name, parameter in modules.named_parameters() if name.startswith("net.3.")]
    train(modules, regression(modules), Loop(CONFIG), tmp_path, groups=[{"params": last}])
    after = modules.state_dict()
    assert torch.equal(before["net.0.weight"], after["net.0.weight"]) and not torch.equal(before["net.3.weight"], after["net.3.weight"])


def test_the_average_is_the_warmed_up_exponential_one() -> None:
    one = nn.Linear(1, 1, bias=False).requires_grad_(False)
    modules = nn.ModuleDict({"one": one})
    ema, by_hand = Ema(modules, decay=0.5), float(one.weight)
    for step, value in enumerate([1.0, 4.0, -2.0, 3.0, 0.5, 7.0, 1.0, 1.0, 9.0, 2.0, 5.0]):
        one.weight.fill_(value)
        ema.update(modules, step)
        decay = min(0.5, (1 + step) / (10 + step))
        by_hand = decay * by_hand + (1 - decay) * value
    assert float(ema.shadow["one.weight"]) == pytest.approx(by_hand, rel=1e-5)


def test_the_learning_rate_warms_up_and_falls_along_a_cosine() -> None:
    config = LoopConfig(minutes=1, lr=2.0, lr_end=0.1, warmup_steps=4)
    assert [learning_rate(config, step, 0) for step in range(5)] == [0.5, 1.0, 1.5, 2.0, 2.0]
    assert learning_rate(config, 99, 0.5) == pytest.approx(2.0 * (0.1 + 0.9 * 0.5))
    assert learning_rate(config, 99, 1.0) == pytest.approx(0.2) == learning_rate(config, 99, 3.0)


def test_a_state_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "state.pt"
    save_whole({"step": 1}, path)

    class Unsaveable:
        def __reduce__(self) -> str:
            raise RuntimeError("the disk is full")

    with pytest.raises(RuntimeError, match="disk is full"):
        save_whole({"step": 2, "more": Unsaveable()}, path)
    assert torch.load(path) == {"step": 1}
