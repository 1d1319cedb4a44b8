"""The page of the listening test: what the server gives and takes, and a real browser that takes the test."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn

from configs.registry import ConfigError
from configs.schema import StudyConfig, parse, presets
from evaluation.listening import ANCHOR, REFERENCE, Kind, Sound, Test, analyse, order, read_answers
from evaluation.study import plan, run
from media.audio import Audio, write_audio
from serving.listen import begin, listening_app, material
from tests import quick_backend

HZ = {"dull": 300, "bright": 900, REFERENCE: 600}  # what tells the toy systems apart
SECONDS = 0.5
ROOT = Path(__file__).resolve().parents[2]


def tone(hz: float) -> Audio:
    t = np.arange(round(SECONDS * 16_000)) / 16_000
    return Audio((0.3 * np.sin(2 * np.pi * hz * t))[None].astype(np.float32), 16_000)


def begun(folder: Path, *kinds: Kind, prompts: int = 2, seed: int = 5) -> Test:
    sounds, references = [], {}
    for k in range(prompts):
        for system in ("dull", "bright"):
            path = folder / f"{system}-{k}.wav"
            write_audio(path, tone(HZ[system] + 10 * k))
            sounds.append(Sound(system=system, prompt=f"p{k}", caption=f"</script><b>tone {k}", seed=0, path=path))
        references[f"p{k}"] = folder / f"reference-{k}.wav"
        write_audio(references[f"p{k}"], tone(HZ[REFERENCE] + 10 * k))
    return begin(folder / "listening", sounds, references, kinds, seed)


@contextmanager
def served(test: Test, folder: Path) -> Iterator[str]:
    """The page on a port of this machine's own address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(listening_app(test, folder), host="127.0.0.1", port=port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        wait(lambda: server.started, 10)
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.should_exit = True
        thread.join(10)


def wait(done: Callable[[], Any], seconds: float) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if told := done():
            return told
        time.sleep(0.02)
    raise AssertionError(f"it did not come about in {seconds} s")


def test_nothing_that_a_rater_is_handed_tells_the_system(tmp_path: Path) -> None:
    test = begun(tmp_path, "rel", "mushra", prompts=1)
    with served(test, tmp_path / "listening") as url, httpx.Client(base_url=url) as page:
        rater = page.post("api/raters", json={}).json()["rater"]
        told = page.get(f"api/raters/{rater}").json()
        assert told["done"] == 0 and told["of"] == len(test.trials)
        shown = json.dumps(told)
        assert not any(word in shown for word in ("dull", "bright", REFERENCE + '":"', ANCHOR, str(tmp_path)))
        sound = page.get(f"api/raters/{rater}/sounds/{told['next']['stimuli'][0]}")
        assert sound.headers["content-type"] == "audio/wav" and sound.content[:4] == b"RIFF"
        assert "dull" not in str(sound.headers) and "filename" not in str(sound.headers)


def test_the_page_asks_nothing_of_anybody_else(tmp_path: Path) -> None:
    test = begun(tmp_path, "mos", prompts=1)
    with served(test, tmp_path / "listening") as url, httpx.Client(base_url=url) as page:
        for name, kind in (("", "text/html"), ("listen.js", "text/javascript"), ("listen.css", "text/css")):
            answer = page.get(name)
            assert answer.status_code == 200 and answer.headers["content-type"].startswith(kind)
            assert "default-src 'none'" in answer.headers["content-security-policy"]
            assert "unsafe" not in answer.headers["content-security-policy"]
            assert "http://" not in answer.text and "https://" not in answer.text and "innerHTML" not in answer.text
        assert page.get("elsewhere.js").status_code == 404
        assert page.get("", headers={"Host": "evil.example"}).status_code == 400, "no foreign name for this machine"


def test_an_answer_counts_once_and_only_after_listening(tmp_path: Path) -> None:
    test = begun(tmp_path, "mos", prompts=1)
    with served(test, tmp_path / "listening") as url, httpx.Client(base_url=url) as page:
        rater = page.post("api/raters", json={}).json()["rater"]
        question = page.get(f"api/raters/{rater}").json()["next"]
        (name,) = question["stimuli"]
        given = {"trial": question["id"], "ratings": {name: 4}, "heard": {name: SECONDS}}
        early = page.post(f"api/raters/{rater}/answers", json=given)
        assert early.status_code == 422 and "listen" in early.json()["detail"]
        time.sleep(SECONDS)
        for wrong in (
            {"ratings": {name: 9}},
            {"ratings": {}},
            {"heard": {}},
            {"trial": "x"},
            {"ratings": {"stranger": 3}},
            {"more": 1},
        ):
            assert page.post(f"api/raters/{rater}/answers", json=given | wrong).status_code == 422
        assert page.post(f"api/raters/{rater}/answers", json=given).json()["done"] == 1
        assert page.post(f"api/raters/{rater}/answers", json=given | {"ratings": {name: 1}}).json()["done"] == 1
        assert page.post("api/raters/0123456789abcdef01234567/answers", json=given).status_code == 404
        assert page.get("api/raters/..%2F..%2Fx").status_code == 404
    (kept,) = read_answers(tmp_path / "listening" / "answers.jsonl")
    assert list(kept.ratings.values()) == [4.0] and kept.seconds >= 0.9 * SECONDS


def test_a_restarted_server_goes_on_where_it_was(tmp_path: Path) -> None:
    test = begun(tmp_path, "mos", prompts=1)
    with served(test, tmp_path / "listening") as url, httpx.Client(base_url=url) as page:
        rater = page.post("api/raters", json={}).json()["rater"]
        (name,) = (question := page.get(f"api/raters/{rater}").json()["next"])["stimuli"]
        time.sleep(SECONDS)
        page.post(f"api/raters/{rater}/answers", json={"trial": question["id"], "ratings": {name: 2}, "heard": {name: SECONDS}})
    with served(begun(tmp_path, "mos", prompts=1), tmp_path / "listening") as url, httpx.Client(base_url=url) as page:
        told = page.get(f"api/raters/{rater}").json()
        assert told["done"] == 1 and told["next"]["id"] != question["id"]


def test_another_test_does_not_begin_over_one_that_was_begun(tmp_path: Path) -> None:
    begun(tmp_path, "mos")
    with pytest.raises(ConfigError, match="move it away"):
        begun(tmp_path, "ovl")
    with pytest.raises(ConfigError, match="seed 5"):
        begun(tmp_path, "mos", seed=6)


# -- the command ----------------------------------------------------------------------------------------------------


@pytest.fixture
def study_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished study of two toy systems, one prompt with a true recording."""
    site = quick_backend.install(tmp_path / "site", tmp_path / "home")
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), str(ROOT)]))
    monkeypatch.setenv("LOA_HOME", str(tmp_path / "home"))
    write_audio(tmp_path / "true.wav", tone(500))
    spec = {
        "name": "toy",
        "prompts": [{"id": "a", "caption": "a dog", "reference": str(tmp_path / "true.wav")}, {"id": "b", "caption": "rain"}],
        "backends": [{"name": "quick"}, {"name": "four", "row": "quick", "steps": 4}],
        "seconds": 0.25,
    }
    folder, home = tmp_path / "study", tmp_path / "home"
    run(plan(parse(spec, StudyConfig, "spec"), folder, home, presets(home), lambda name, seed: tone(seed)), folder)
    return folder


def test_a_study_is_material_for_a_test(study_folder: Path) -> None:
    sounds, references = material(study_folder)
    assert {(s.system, s.prompt, s.caption) for s in sounds} == {
        (system, *prompt) for system in ("quick", "four") for prompt in (("a", "a dog"), ("b", "rain"))
    }
    assert all(sound.path.is_file() for sound in sounds)
    assert list(references) == ["a"] and references["a"].is_file()
    test = begin(study_folder / "listening", sounds, references, ["mushra"], 0)
    assert {trial.prompt for trial in test.trials} == {"a"}


def test_the_command_serves_until_ctrl_c_and_counts_what_was_answered(study_folder: Path) -> None:
    command = [sys.executable, "-m", "serving.cli", "study", "listen", str(study_folder), "--ask", "rel", "--json"]
    with subprocess.Popen([*command, "--port", "0"], stdout=subprocess.PIPE, text=True, cwd=ROOT) as server:
        try:
            told = json.loads(server.stdout.readline())
            with httpx.Client(base_url=told["url"]) as page:
                wait(lambda: answers(page), 10)
                rater = page.post("api/raters", json={}).json()["rater"]
                (name,) = (question := page.get(f"api/raters/{rater}").json()["next"])["stimuli"]
                time.sleep(0.25)
                given = {"trial": question["id"], "ratings": {name: 4}, "heard": {name: 0.25}}
                assert page.post(f"api/raters/{rater}/answers", json=given).json()["done"] == 1
        finally:
            server.send_signal(signal.SIGINT)
            assert server.wait(20) == 130
    counted = json.loads(subprocess.run([*command, "--results"], capture_output=True, text=True, cwd=ROOT, check=True).stdout)
    assert counted["rel"]["raters"] == 1 or question["check"] is not None
    assert counted == json.loads((study_folder / "listening" / "results.json").read_text())
    assert (study_folder / "listening" / "results.csv").read_text().count("\n") == 2
    refused = subprocess.run([*command, "--ask", "rel,what"], capture_output=True, text=True, cwd=ROOT)
    assert refused.returncode == 2 and "what" in refused.stderr and "Traceback" not in refused.stderr


def answers(page: httpx.Client) -> bool:
    try:
        return page.get("").status_code == 200
    except httpx.TransportError:
        return False


# -- a browser ------------------------------------------------------------------------------------------------------


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for flag in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", "--window-size=900,900", f"--user-data-dir={tmp_path / 'profile'}",
    ):  # fmt: skip
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, Service("/usr/bin/chromedriver"))
    yield driver
    driver.quit()


def find(browser: Any, selector: str) -> Any:
    return browser.find_element("css selector", selector)


def listen_to_all(browser: Any) -> None:
    """Every sound of the question to its end, one after the other, as a rater does."""

    def heard(row: Any) -> bool:
        if "whole" in row.get_attribute("class"):
            return True
        if not browser.execute_script("return !!trial.playing"):  # the first time, and where the one before ended during the switch
            row.find_element("css selector", "button").click()
        return False

    for row in browser.find_elements("css selector", ".sound:has(button)"):
        row.find_element("css selector", "button").click()
        wait(lambda row=row: heard(row), 10)


def rate_one(browser: Any, test: Test, names: dict[str, str], grades: dict[str, int]) -> None:
    """Rate the question on the page, each system as ``grades`` says, through the page's own controls."""
    listen_to_all(browser)
    question = browser.execute_script("return trial.question")
    systems = [test.stimuli[names[name]].system for name in question["stimuli"]]
    if question["kind"] == "mushra":
        for slider, system in zip(browser.find_elements("css selector", ".sound input[type=range]"), systems, strict=True):
            browser.execute_script(
                "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))", slider, grades[system]
            )
    elif question["kind"] == "pair":
        first, second = (grades[system] for system in systems)
        browser.find_elements("css selector", "#choice input")[0 if first > second else 2].click()
    else:
        grade = question["check"] or grades[systems[0]]
        browser.find_elements("css selector", "#choice input")[grade - 1].click()
    find(browser, "#next").click()


def take(browser: Any, test: Test, url: str, grades: dict[str, int], reload_after: int) -> None:
    browser.get(url)
    find(browser, "#begin").click()
    wait(lambda: find(browser, "#trial").is_displayed(), 10)
    rater = browser.execute_script("return rater")
    for done, (trial, names) in enumerate(order(test, rater)):
        if done == reload_after:
            browser.refresh()
            assert find(browser, "#begin").text == "Go on"
            find(browser, "#begin").click()
        wait(lambda done=done: find(browser, "#count").text == f"{done} of {len(test.trials)}", 10)
        wait(lambda trial=trial: browser.execute_script("return trial && trial.question.id") == trial.id, 10)
        assert not find(browser, "#next").is_enabled()
        rate_one(browser, test, names, grades)
    wait(lambda: find(browser, "#end").is_displayed(), 10)


@pytest.mark.browser
@pytest.mark.parametrize(
    ("kind", "grades"),
    [("mushra", {"dull": 30, "bright": 70, REFERENCE: 100, ANCHOR: 15}), ("mos", {"dull": 2, "bright": 4})],
)
def test_a_whole_session_in_a_browser(tmp_path: Path, browser: Any, kind: Kind, grades: dict[str, int]) -> None:
    test = begun(tmp_path, kind)
    with served(test, tmp_path / "listening") as url:
        take(browser, test, url, grades, reload_after=1)
        asked = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
        addresses = {m["params"]["request"]["url"] for m in asked if m["method"] == "Network.requestWillBeSent"}
        abroad = {address for address in addresses if not address.startswith((url, "data:", "chrome:"))}  # chrome: the empty first tab
        assert url in addresses and not abroad
        trouble = [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
        assert not [line for line in trouble if "favicon" not in line]
    told = analyse(test, read_answers(tmp_path / "listening" / "answers.jsonl"))[kind]
    assert told["left_out"] == {} and told["raters"] == 1
    assert {name: row["mean"] for name, row in told["systems"].items()} == grades


@pytest.mark.browser
def test_a_session_of_pairs_in_a_browser(tmp_path: Path, browser: Any) -> None:
    test = begun(tmp_path, "pair", prompts=3)
    with served(test, tmp_path / "listening") as url:
        take(browser, test, url, {"dull": 1, "bright": 2}, reload_after=1)
    told = analyse(test, read_answers(tmp_path / "listening" / "answers.jsonl"))["pair"]
    (pair,) = told["pairs"]
    assert told["left_out"] == {} and told["raters"] == 1
    assert pair["first_better"]["mean"] == (pair["first"] == "bright") and pair["first_better"]["n"] == 3


@pytest.mark.browser
def test_rating_waits_until_all_was_heard_and_switching_leaves_no_gap(tmp_path: Path, browser: Any) -> None:
    test = begun(tmp_path, "mushra", prompts=1)
    with served(test, tmp_path / "listening") as url:
        browser.get(url)
        find(browser, "#begin").click()
        wait(lambda: find(browser, "#trial").is_displayed(), 10)
        sliders = browser.find_elements("css selector", ".sound input[type=range]")
        assert len(sliders) == 4 and not any(slider.is_enabled() for slider in sliders)
        assert "<b>tone 0" in find(browser, "#caption").text, "a caption is text, whatever it looks like"
        rows = browser.find_elements("css selector", ".sound:has(button)")
        rows[1].find_element("css selector", "button").click()
        wait(lambda: "whole" in rows[1].get_attribute("class"), 10)
        assert [slider.is_enabled() for slider in sliders] == [True, False, False, False]
        before = browser.execute_script("return [trial.playing.when, trial.playing.sources.length]")
        rows[2].find_element("css selector", "button").click()
        after = browser.execute_script("return [trial.playing.when, trial.playing.sources.map((s) => s.gain.gain.value > 0.5)]")
        assert after[0] == before[0] and before[1] == 5, "all sounds go on from the one start: a switch moves gains only"
        wait(lambda: browser.execute_script("return trial.playing.sources[2].gain.gain.value") > 0.99, 2)
