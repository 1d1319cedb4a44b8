"""Lessons and losses of the signal stages; training itself with two steps of everything."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from configs.registry import ConfigError
from configs.schema import signal_config
from encoders.base import Condition
from encoders.image import ImageLabeller
from encoders.sights import sights, silent
from encoders.signal_lm import MEDIUM, OutputProjector, SignalLM
from encoders.smollm import END, Llama
from tests.encoders.test_signal_lm import SHAPE, SIZE, picture, tokenizer
from training.captions import phrases
from training.lessons import Lesson, School
from training.scenes import held_out
from training.sights import Sights
from training.signal import IGNORED, SHARP, SignalTraining, alignment_loss, batch_of, begin, language_loss


@pytest.fixture(scope="module")
def school() -> School:
    """Labels whose neighbours in number are alike, with names that are axes of their own."""
    numbers = np.arange(1000)
    weights = np.exp(-(((numbers[:, None] - np.linspace(0, 999, 200)) / 8) ** 2))
    return School(Sights(np.eye(1000, dtype=np.float32), weights), {"dog": np.eye(1000)[:3], "rain": np.eye(1000)[3:5]})


def model() -> SignalLM:
    torch.manual_seed(0)
    lm = Llama(SHAPE).requires_grad_(False)
    for parameter in lm.parameters():
        torch.nn.init.normal_(parameter, 0.1, 0.2)
    return SignalLM(lm, tokenizer(), SIZE)


# -- lessons -----------------------------------------------------------------------------------------------------------
def test_every_sight_is_a_sound_that_is_known_by_words() -> None:
    assert set(sights()) <= set(phrases())
    labels = [k for row in sights().values() for k in row]
    assert len(labels) == len(set(labels)) and min(labels) == 0 and max(labels) < 1000
    assert not set(labels) & set(silent()) and len(labels) + len(silent()) < 1000  # the others are instruments


@pytest.mark.parametrize(
    ("sound", "shows"),
    [("cat", "tabby"), ("dog", "pug"), ("horse", "sorrel"), ("clock", "wall clock"), ("airplane", "airliner"), ("car_engine", "moped")],
)
def test_the_numbers_are_those_of_the_labels(sound: str, shows: str) -> None:
    names = (Path(__file__).parents[2] / "encoders" / "imagenet_names.txt").read_text().splitlines()
    assert shows in {names[k].split(",")[0] for k in sights()[sound]}


def test_a_picture_is_a_distribution_in_which_its_thing_is_not_hidden(school: School) -> None:
    draw = np.random.default_rng(0)
    for _ in range(50):
        p = school.pictures.probabilities(draw, 285)
        assert abs(p.sum() - 1) < 1e-6 and p.min() >= 0
        seen = school.pictures.picture_of(draw, "cat")  # names are axes: the vector is the distribution
        assert seen[list(sights()["cat"])].sum() >= 0.3 * seen.max()


def test_a_picture_of_nothing_is_short_or_of_a_silent_thing(school: School) -> None:
    draw = np.random.default_rng(1)
    drawn = [school.pictures.picture_of_nothing(draw) for _ in range(60)]
    flat = [v for v in drawn if v.max() < 0.2]
    assert 10 < len(flat) < 55 and all(np.linalg.norm(v) < 0.5 for v in flat)


def test_a_lesson_depends_on_its_number_alone(school: School) -> None:
    first, again = (school.instruction(np.random.default_rng([2, 5])) for _ in range(2))
    assert (first.said, first.heard, first.answer) == (again.said, again.heard, again.answer)
    np.testing.assert_array_equal(first.media[0][1], again.media[0][1])


def test_instruction_has_pictures_sounds_words_and_questions(school: School) -> None:
    draw = np.random.default_rng(3)
    lessons = [school.instruction(draw) for _ in range(600)]
    kinds = [lesson.media[0][0] if lesson.media else "" for lesson in lessons]
    assert all(min(kinds.count(kind), 1) for kind in ("image", "audio", ""))
    assert all(bool(lesson.answer) != bool(lesson.heard) for lesson in lessons)
    assert all(lesson.media for lesson in lessons if lesson.answer)
    far = [lesson.heard for lesson in lessons if lesson.media and "in the distance" in lesson.said]
    assert far and all(text.split(" with ")[0].endswith("in the distance") for text in far)


def test_pairs_that_the_benchmark_asks_for_are_not_taught(school: School) -> None:
    draw = np.random.default_rng(4)
    known = {name.replace("_", " "): name for name in phrases()}
    pairs = [lesson.heard.split(" and ") for lesson in (school.decoding(draw) for _ in range(1500)) if " and " in lesson.heard]
    pairs = [pair for pair in pairs if len(pair) == 2 and set(pair) <= set(known)]
    assert len(pairs) > 50 and not any(held_out(known[a], known[b]) for a, b in pairs)


# -- losses ------------------------------------------------------------------------------------------------------------
def test_only_the_answer_is_learned_and_signals_stand_where_the_batch_says() -> None:
    lm = model()
    vector = picture(1)[1].numpy()
    batch = batch_of(lm, [Lesson("a cat", answer="dog"), Lesson("far away", (("image", vector),), heard="cat in the distance")])
    assert batch.ids.shape == batch.targets.shape and int((batch.ids == MEDIUM).sum()) == 1
    assert batch.rows.tolist() == [1] and batch.heard == ("cat in the distance",)
    signals = list(range(lm.first_signal, lm.first_signal + 8))
    assert batch.ids[1, batch.columns[0]].tolist() == signals
    assert batch.targets[1][batch.targets[1] != IGNORED].tolist() == [*signals, END]
    assert batch.targets[0][batch.targets[0] != IGNORED].tolist() == [*lm.ids("dog"), END]


def test_the_language_loss_is_the_mean_surprise_of_the_answer() -> None:
    lm = model()
    batch = batch_of(lm, [Lesson("a cat", answer="dog")])
    states, _ = lm.hidden(lm.embedded(batch.ids, ()))
    at = len(lm.asked("a cat", 0))
    surprise = [-lm.logits(states[0, at - 1 + k]).log_softmax(-1)[token] for k, token in enumerate([*lm.ids("dog"), END])]
    torch.testing.assert_close(language_loss(lm, states, batch.targets), torch.stack(surprise).mean())


def test_alignment_is_the_distance_over_real_positions_in_their_own_length() -> None:
    wanted = Condition("t5", torch.tensor([[[3.0, 4.0], [0.0, 5.0], [7.0, 7.0]]]), torch.tensor([[True, True, False]]))
    same = alignment_loss(wanted.states.clone(), torch.tensor([[9.0, 9.0, -9.0]]), wanted)
    assert same["align"] == 0 and float(same["sentence"]) < 1e-6 and float(same["length"]) < 1e-3
    made = wanted.states + torch.tensor([[[0.0, 5.0], [0.0, 0.0], [90.0, 90.0]]])
    assert float(alignment_loss(made, torch.zeros(1, 3), wanted)["align"]) == pytest.approx(0.5)  # (5/5 + 0) / 2; the last is not real


def test_which_text_is_meant_is_told_from_the_others_and_from_the_other_rows() -> None:
    axes = torch.eye(4)
    wanted = Condition("t5", axes[:2, None], torch.ones(2, 1, dtype=torch.bool))
    told = alignment_loss(axes[[0, 2], None] * 3, torch.ones(2, 1), wanted, axes[1:])  # the second says the third text
    assert float(told["right"]) == 0.5
    # Row 0: itself at 1; the other row, that row's text again and two others at 0. Row 1: itself at 0, a wrong one at 1.
    first = -torch.tensor([SHARP, 0, 0, 0, 0]).log_softmax(0)[0]
    second = -torch.tensor([0, 0, SHARP, 0]).log_softmax(0)[0]
    torch.testing.assert_close(told["which"], (first + second) / 2)


def test_training_begins_at_the_map_that_a_linear_world_has() -> None:
    torch.manual_seed(0)
    projector = OutputProjector(12, 5, 3, hidden=8, layers=1, heads=2, masks=True).requires_grad_(False)
    seen = torch.randn(300, 4)
    states = (seen @ torch.randn(4, 12))[:, None] + torch.randn(300, 8, 12) * 0.01 + 7
    states[..., 4] *= 100  # the few huge coordinates of a language model
    wanted = Condition("t5", (seen @ torch.randn(4, 15)).unflatten(1, (3, 5)) + 2, torch.ones(300, 3, dtype=torch.bool))
    left = begin(projector, states, wanted)
    assert left < 0.01
    torch.nn.init.zeros_(projector.out_fc.weight)  # the transformer's own part
    made, _ = projector(states, torch.zeros(1, 1, 12))
    assert float(((made - wanted.states).norm(dim=-1) / wanted.states.norm(dim=-1)).median()) < 0.02


def test_both_parts_of_the_loss_reach_what_is_trained() -> None:
    lm = model()
    batch = batch_of(
        lm, [Lesson("far away", (picture_of := (("image", picture(1)[1].numpy()),)), heard="x"), Lesson("a", picture_of, "dog")]
    )
    states, _ = lm.hidden(lm.embedded(batch.ids, batch.media))
    made, real = lm.output(states[batch.rows[:, None], batch.columns], lm.signals[None])
    assert real is not None
    wanted = Condition("t5", torch.randn(1, SIZE.queries, SIZE.outputs), torch.ones(1, SIZE.queries, dtype=torch.bool))
    (language_loss(lm, states, batch.targets) + sum(alignment_loss(made, real, wanted).values())).backward()
    for parameter in (lm.heads, lm.inputs["image"].weight, lm.output.query_embs, lm.output.out_fc.weight):
        assert isinstance(parameter, torch.Tensor) and parameter.grad is not None and float(parameter.grad.abs().max()) > 0
    assert lm.lm.token_embd.weight.grad is None


# -- the stages --------------------------------------------------------------------------------------------------------
def test_a_stage_says_what_it_needs(tmp_path: Path) -> None:
    recipe = signal_config("signal-tiny").placed(work=tmp_path / "work", out=tmp_path / "out")
    with pytest.raises(ConfigError, match="'signal-instruct' needs 'signal-input'"):
        SignalTraining(recipe).run("instruct")
    assert not (tmp_path / "work").exists()


@pytest.mark.slow
def test_two_steps_of_every_stage_leave_a_model_that_answers(tmp_path: Path) -> None:
    from encoders.signal_lm import load

    recipe = signal_config("signal-tiny").placed(work=tmp_path / "work", out=tmp_path / "out", cache=tmp_path / "cache")
    lines: list[str] = []
    told = SignalTraining(recipe, on_log=lines.append).run("all")
    assert {name: stage["steps"] for name, stage in told["stages"].items()} == {"input": 2, "output": 2, "instruct": 2}
    assert any("diffusion" in json.loads(line) for line in lines if line.startswith("{"))
    with pytest.raises(ConfigError, match="--resume"):
        SignalTraining(recipe).run("input")
    model = load(tmp_path / "out", tmp_path / "cache")
    seen = model.seen(np.eye(1000)[281])
    names = ImageLabeller().names
    assert len(names) == 1000 and float(seen[1].norm()) == pytest.approx(1, abs=1e-2)
    states = model.sound("far away", [seen])
    assert model.condition(states, 32).states.shape == (1, 32, 384) and bool(torch.isfinite(states).all())
