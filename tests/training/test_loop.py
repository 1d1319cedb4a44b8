"""The training loop: a kill costs nothing but time, whatever the moment; settings are remembered; weights are averaged."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from configs.registry import ConfigError
from configs.schema import LoopConfig
from training import loop
from training.loop import Ahead, Ema, Loop, OutOfRoom, averaged, finished, fit, learning_rate, save_whole, train


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


BY_STEPS = LoopConfig(steps=STEPS, lr=0.05, warmup_steps=5, ema=0.9, save_every_s=7, log_every_s=10)


def test_a_budget_of_steps_ends_there_and_survives_kills(tmp_path: Path) -> None:
    unbroken, modules = network(), network()
    average = train(unbroken, regression(unbroken), Loop(BY_STEPS), tmp_path / "unbroken")
    with pytest.raises(Killed):
        train(modules, regression(modules, 20), Loop(BY_STEPS), tmp_path / "broken")
    steps: list[int] = []
    modules = network()
    assert same(train(modules, regression(modules, seen=steps), Loop(BY_STEPS), tmp_path / "broken"), average)
    assert steps == list(range(14, STEPS)) and same(modules.state_dict(), unbroken.state_dict())


def test_the_log_of_a_killed_run_is_that_of_an_unbroken_one(tmp_path: Path) -> None:
    config = LoopConfig(steps=STEPS, lr=0.05, save_every_s=8, log_every_s=4)
    modules = network()
    train(modules, regression(modules), Loop(config), tmp_path / "unbroken")
    modules = network()
    with pytest.raises(Killed):
        train(modules, regression(modules, 7), Loop(config), tmp_path / "broken")  # logged 4, saved nothing
    modules = network()
    with pytest.raises(Killed):
        train(modules, regression(modules, 15), Loop(config), tmp_path / "broken")  # logged 12, saved 8
    with open(tmp_path / "broken" / "log.jsonl", "a") as torn:
        torn.write('{"step": 1')
    modules = network()
    train(modules, regression(modules), Loop(config), tmp_path / "broken")
    logs = [(tmp_path / name / "log.jsonl").read_text() for name in ("unbroken", "broken")]
    assert logs[0] == logs[1] and len(logs[0].splitlines()) == 8


def test_ctrl_c_ends_the_step_saves_and_goes_on_from_there(tmp_path: Path) -> None:
    unbroken, modules, lines = network(), network(), list[str]()
    average = train(unbroken, regression(unbroken), Loop(BY_STEPS), tmp_path / "unbroken")
    fair = regression(modules)

    def loss(step: int) -> dict[str, Tensor]:
        if step == 11:
            os.kill(os.getpid(), signal.SIGINT)
        return fair(step)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(modules, loss, Loop(BY_STEPS, on_log=lines.append), tmp_path / "broken")
    assert "step 12" in lines[-1] and "--resume" in lines[-1] and signal.getsignal(signal.SIGINT) is before
    steps: list[int] = []
    modules = network()
    assert same(train(modules, regression(modules, seen=steps), Loop(BY_STEPS), tmp_path / "broken"), average) and steps[0] == 12


def test_a_second_ctrl_c_does_not_wait(tmp_path: Path) -> None:
    modules = network()

    def loss(step: int) -> dict[str, Tensor]:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the second one should have stopped this")

    with pytest.raises(KeyboardInterrupt):
        train(modules, loss, Loop(BY_STEPS), tmp_path)
    assert not (tmp_path / "state.pt").exists()


def test_a_finished_run_trains_no_further(tmp_path: Path) -> None:
    modules = network()
    first = train(modules, regression(modules), Loop(CONFIG), tmp_path)
    steps: list[int] = []
    again = network()
    assert same(train(again, regression(again, seen=steps), Loop(CONFIG), tmp_path), first) and steps == []


def test_a_finished_training_keeps_the_average_alone(tmp_path: Path) -> None:
    modules = network()
    with pytest.raises(Killed):
        train(modules, regression(modules, 15), Loop(CONFIG), tmp_path)
    assert {"modules", "optimizer", "ema"} <= torch.load(tmp_path / "state.pt", weights_only=True).keys()
    average = train(modules, regression(modules), Loop(CONFIG), tmp_path)
    kept = torch.load(tmp_path / "state.pt", weights_only=True)
    assert kept.keys() == {"ema", "step", "spent"} and same(kept["ema"], average)


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


def test_skipped_steps_are_counted_in_the_log(tmp_path: Path) -> None:
    modules = network()
    fair = regression(modules)

    def loss(step: int) -> dict[str, Tensor]:
        return {"loss": fair(step)["loss"] * (math.inf if step in (3, 12, 13) else 1.0)}

    train(modules, loss, Loop(CONFIG), tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["skipped"] for row in rows] == [1, 2, 0] and all(math.isfinite(row["loss"]) for row in rows)


def test_a_loss_that_joins_later_is_averaged_over_its_own_steps(tmp_path: Path) -> None:
    modules = network()
    fair = regression(modules)
    train(modules, lambda step: fair(step) | ({"late": torch.tensor(4.0)} if step >= 8 else {}), Loop(CONFIG), tmp_path)
    assert [json.loads(line)["late"] for line in (tmp_path / "log.jsonl").read_text().splitlines()] == [4.0, 4.0, 4.0]


def test_random_draws_of_any_library_depend_on_the_step_alone(tmp_path: Path) -> None:
    modules = network()
    drawn: list[float] = []

    def loss(step: int) -> dict[str, Tensor]:
        drawn.append(float(torch.rand(())))  # as dropout would
        return {"loss": modules["net"](torch.ones(2, 3)).sum()}

    train(modules, loss, Loop(BY_STEPS), tmp_path / "a")
    torch.manual_seed(77)
    train(modules, loss, Loop(BY_STEPS), tmp_path / "b")
    assert drawn[:STEPS] == drawn[STEPS:] and len(set(drawn)) == STEPS


def test_groups_are_clipped_apart(tmp_path: Path) -> None:
    """A huge gradient of one group leaves the step of the other as it is."""

    def moved(scale: float, folder: str) -> Tensor:
        modules = nn.ModuleDict({"a": nn.Linear(1, 1, bias=False), "b": nn.Linear(1, 1, bias=False)})
        for module in modules.values():
            nn.init.ones_(module.weight)
        groups = [{"params": list(module.parameters())} for module in modules.values()]
        config = LoopConfig(steps=2, lr=0.1, warmup_steps=1, weight_decay=0)
        one = torch.ones(1, 1)
        train(
            modules,
            lambda step: {"loss": ((2 + step) * modules["a"](one) + scale * modules["b"](one)).sum()},
            Loop(config),
            tmp_path / folder,
            groups=groups,
        )
        return modules["a"].weight.detach()

    assert torch.equal(moved(1.0, "small"), moved(1e6, "large"))


def test_a_group_goes_at_its_own_pace(tmp_path: Path) -> None:
    modules = nn.ModuleDict({"a": nn.Linear(1, 1, bias=False), "b": nn.Linear(1, 1, bias=False)})
    for module in modules.values():
        nn.init.ones_(module.weight)
    config = LoopConfig(steps=1, lr=0.1, warmup_steps=1, weight_decay=0)
    groups = [{"params": list(modules["a"].parameters())}, {"params": list(modules["b"].parameters()), "pace": 0.25}]
    one = torch.ones(1, 1)
    train(modules, lambda step: {"loss": sum(module(one).sum() for module in modules.values())}, Loop(config), tmp_path, groups=groups)
    assert modules["a"].weight.item() == pytest.approx(0.9) and modules["b"].weight.item() == pytest.approx(0.975)


def test_a_picture_every_so_many_steps_of_what_the_stage_shows(tmp_path: Path) -> None:
    modules, modes = network(), list[bool]()

    def sample(shown: nn.ModuleDict) -> list[np.ndarray]:
        modes.append(shown.training or torch.is_grad_enabled())
        return [np.full((50, 8), -11.5, np.float32)]

    train(modules, regression(modules), Loop(CONFIG.model_copy(update={"samples_every": 12}), sample=sample), tmp_path)
    assert sorted(path.name for path in (tmp_path / "samples").iterdir()) == ["0000012.png", "0000024.png"]
    assert modes == [False, False] and modules.training


def test_progress_is_told_after_every_step(tmp_path: Path) -> None:
    modules, shares = network(), list[float]()
    train(modules, regression(modules), Loop(BY_STEPS, on_progress=shares.append), tmp_path)
    assert shares == [pytest.approx((step + 1) / STEPS) for step in range(STEPS)]


def test_draws_made_ahead_are_the_same_draws() -> None:
    begun: list[int] = []

    def draw(number: int) -> int:
        begun.append(number)
        return number * number

    ahead = Ahead(draw, 2, depth=2)
    assert [ahead(number) for number in (3, 5, 7, 20)] == [9, 25, 49, 400]
    ahead.threads.shutdown()
    assert sorted(begun) == [3, 5, 7, 9, 11, 20, 22, 24]  # each once


def test_a_model_comes_back_averaged_and_is_found_again(tmp_path: Path) -> None:
    modules = network()
    model = fit("net", modules["net"], regression(modules), Loop(CONFIG), tmp_path)
    assert not model.training and finished(tmp_path)
    again = averaged(tmp_path, network()["net"], "net")
    assert same(again.state_dict(), model.state_dict()) and not again.training
    done = json.loads((tmp_path / "done.json").read_text())
    assert done["steps"] == STEPS and done["minutes"] == 0.5 and done["last"]["step"] == STEPS


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


def test_a_full_disk_leaves_the_last_state(tmp_path: Path) -> None:
    modules, folder = network(), tmp_path / "stage"
    with pytest.raises(Killed):
        train(modules, regression(modules, 10), Loop(BY_STEPS), folder)
    before = (folder / "state.pt").read_bytes()
    (folder / "state.pt.part").symlink_to("/dev/full")  # the system's own "No space left on device"
    modules = network()
    with pytest.raises(OutOfRoom, match=r"no room to write .*state\.pt; .*free some space.*--resume"):
        train(modules, regression(modules), Loop(BY_STEPS), folder)
    assert (folder / "state.pt").read_bytes() == before and not (folder / "state.pt.part").exists()
    modules, unbroken = network(), network()
    average = train(unbroken, regression(unbroken), Loop(BY_STEPS), tmp_path / "unbroken")
    assert same(train(modules, regression(modules), Loop(BY_STEPS), folder), average)


def test_an_error_that_is_no_full_disk_stays_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError):
        save_whole({}, tmp_path / "file" / "state.pt")
