"""Who makes a study's cells: this process, several, or Ray's actors. All make the same bytes and append to the same ledger.

Knows backends, batches and claims. Does not know what a study is about. Imports neither torch nor Ray before they are needed.

A worker makes one batch at a time of one backend, in one row bucket and on as many threads as the study says. Its results stay in
memory until they are whole files; the inputs of a batch travel with it, so a Ray worker on another machine needs the checkpoints and
nothing else.
"""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from configs.registry import ConfigError, MissingExtra, resolve
from configs.schema import BackendConfig
from evaluation.batches import bucket_of, made_each, peak_mb, reset_peak, threads
from evaluation.ledger import Claims, Ledger, Measured, Row, StudyStopped, stopping
from generators.base import Backend, Generated, GenerationRequest, canonical_json
from media.refs import MediaRef, MediaStore, write_whole

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from media.audio import Audio

OnProgress = Callable[[int, int], None]  # cells finished, of so many
AUDIO = "audio"  # below a study's folder: sounds by the key of their cell
STORE = "store"  # pictures, sounds and conditions that requests name
_PATIENCE = 0.2  # seconds between two looks at what other processes have appended


@dataclass(frozen=True)
class Cell:
    """One sound that a study is made of; ``key`` is known before it is made."""

    key: str
    prompt: str
    backend: str
    seed: int
    request: GenerationRequest
    fingerprint: str

    @property
    def place(self) -> tuple[str, str, str]:
        """Which row of a ledger is this cell's (``Row.cell``)."""
        return (self.key, self.prompt, self.backend)


@dataclass(frozen=True)
class Recipe:
    """What a process needs to build a backend: a row with a study's options laid over its own."""

    row: BackendConfig
    home: Path

    def build(self, store: MediaStore) -> Backend:
        """The backend, not loaded.

        Raises:
            ConfigError: the options are not the backend's.
        """
        kind: Callable[..., Backend] = resolve("loa.backends", self.row.backend or "")
        try:
            return kind(name=self.row.name, options=self.row.options, store=store, home=self.home)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise ConfigError(f"'options.{where}' of '{self.row.name}': {first['msg']}, got {first['input']!r:.80}") from None

    @property
    def same(self) -> str:
        """Equal for recipes that share their weights in memory."""
        return canonical_json(self.row.model_dump(mode="json", include={"name", "options"}))


@dataclass(frozen=True)
class Task:
    """All that is to be made, in order; pickles."""

    folder: Path
    threads: int
    rows: int
    recipes: dict[str, Recipe]  # by label
    batches: list[list[Cell]] = field(repr=False)  # of one label each; labels that share weights are neighbours
    retry: bool = False  # make failed cells again

    @property
    def cells(self) -> list[Cell]:
        return [cell for batch in self.batches for cell in batch]


@dataclass(frozen=True)
class Made:
    """What came of one request: a WAV, or an error in one line."""

    sound: bytes | None
    generated: Generated | None
    error: str | None
    measured: Measured


# -- making -----------------------------------------------------------------------------------------------------------


class _Caught(MediaStore):
    """A store whose new sounds stay in memory: where they go is decided when their whole batch is made."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.sounds: dict[str, bytes] = {}

    def put_audio(self, audio: Audio) -> MediaRef:
        from media.audio import encode_audio

        data = encode_audio(audio, "wav")
        name = "sha256:" + hashlib.sha256(data).hexdigest()
        self.sounds[name] = data
        return MediaRef(id=name, kind="audio", mime="audio/wav")


class Worker:
    """Makes batches; holds the weights of one backend at a time.

    Args:
        recipes: by label.
        store: folder that holds what requests name.
    """

    def __init__(self, recipes: dict[str, Recipe], rows: int, store: Path) -> None:
        self._recipes, self._rows, self._store = recipes, rows, _Caught(store)
        self._at = ""
        self._backend: Backend | None = None
        self._begun = False  # on these weights

    def make(self, label: str, requests: Sequence[GenerationRequest]) -> list[Made]:
        """One result per request, in order."""
        backend = self._opened(label)
        first, self._begun = not self._begun, True
        if first:
            with suppress(Exception):  # what fails here fails again below, and is told of each request
                backend.load()
        joules = _joules()
        started = time.perf_counter()
        results = made_each(backend, requests, bucket_of(backend, self._rows))
        wall = (time.perf_counter() - started) / len(requests)
        energy = None if joules is None else round(((_joules() or 0) - joules) / len(requests), 3)
        made = []
        for result, request in zip(results, requests, strict=True):
            seconds = result.seconds if isinstance(result, Generated) else request.seconds
            measured = Measured(
                wall_seconds=round(wall, 4),
                rtf=round(wall / seconds, 4) if seconds else None,
                peak_mb=peak_mb(),
                rows=len(requests),
                energy_j=energy,
                worker=f"{socket.gethostname()}:{os.getpid()}",
                first=first,
            )
            if isinstance(result, Generated):
                made.append(Made(self._store.sounds[result.media.id], result, None, measured))
            else:
                made.append(Made(None, None, f"{type(result).__name__}: {' '.join(str(result).split())}"[:1000], measured))
        self._store.sounds.clear()
        return made

    def close(self) -> None:
        """Free the weights."""
        if self._backend is not None:
            self._backend.unload()
            self._backend = None

    def _opened(self, label: str) -> Backend:
        recipe = self._recipes[label]
        if self._backend is None or recipe.same != self._at:
            self.close()
            reset_peak()
            self._backend, self._at, self._begun = recipe.build(self._store), recipe.same, False
        return self._backend


def finished(cell: Cell, ledger: Ledger, retry: bool) -> bool:
    """Whether the cell needs nothing more: it failed for good, or its sound is there."""
    row = ledger.get(cell.place)
    if row is None or (row.status == "failed" and retry):
        return False
    return row.audio is None or (ledger.folder / row.audio).is_file()


def record(cells: Sequence[Cell], made: dict[str, Made], ledger: Ledger) -> None:
    """Sounds as whole files, then their rows: a row's sound is always there.

    Raises:
        StudyStopped: a worker's sounds are not what the study asked for. OSError: disk full.
    """
    rows = []
    for cell in cells:
        result = made[cell.key]
        if result.generated is not None and result.generated.fingerprint != cell.fingerprint:
            raise StudyStopped(
                f"worker {result.measured.worker} signs the sounds of '{cell.backend}' otherwise than this process does: its weights, "
                "package versions or threads differ; make them alike and run the same command"
            )
        rows.append(_row(cell, result))
    (ledger.folder / AUDIO).mkdir(parents=True, exist_ok=True)
    for row in rows:
        sound = made[row.key].sound
        if row.audio is not None and sound is not None and not (ledger.folder / row.audio).is_file():
            write_whole(ledger.folder / row.audio, sound)
    ledger.append([row for row in rows if not _says_the_same(row, ledger.get(row.cell))])


def _row(cell: Cell, made: Made) -> Row:
    shared: dict[str, Any] = {"key": cell.key, "prompt": cell.prompt, "backend": cell.backend, "seed": cell.seed}
    shared |= {"request": cell.request, "fingerprint": cell.fingerprint, "measured": made.measured}
    result = made.generated
    if result is None:
        return Row(status="failed", error=made.error, **shared)
    return Row(
        status="done",
        audio=f"{AUDIO}/{cell.key}.wav",
        audio_sha256=result.media.id.removeprefix("sha256:"),
        sample_rate=result.sample_rate,
        seconds=round(result.seconds, 6),
        guard=result.guard,
        **shared,
    )


def _says_the_same(row: Row, known: Row | None) -> bool:
    return known is not None and row.model_copy(update={"measured": known.measured}) == known


# -- here -------------------------------------------------------------------------------------------------------------


def work(task: Task, on_progress: OnProgress = lambda *_: None) -> None:
    """Make what nobody has made and nobody is making, then see to what others left behind.

    Raises:
        StudyStopped: disk full.
    """
    ledger, claims = Ledger(task.folder), Claims(task.folder)
    worker = Worker(task.recipes, task.rows, task.folder / STORE)
    try:
        with stopping(task.folder, partial(_so_far, task, ledger)):
            for wait in (False, True):
                for batch in task.batches:
                    _make(batch, task, ledger, claims, worker, wait)
                    on_progress(*count(task, ledger))
    finally:
        worker.close()
        claims.close()


def _make(batch: list[Cell], task: Task, ledger: Ledger, claims: Claims, worker: Worker, wait: bool) -> None:
    while open_cells := [cell for cell in batch if not finished(cell, ledger, task.retry)]:
        with claims.some_of([cell.key for cell in open_cells], wait) as mine:
            ledger.refresh()  # somebody may have finished them before we had the claim
            todo = [cell for cell in open_cells if cell.key in mine and not finished(cell, ledger, task.retry)]
            if todo:
                made = _copied(todo, ledger, task.retry)
                requests = {cell.key: cell.request for cell in todo if cell.key not in made}
                if requests:
                    made |= dict(zip(requests, worker.make(todo[0].backend, list(requests.values())), strict=True))
                record(todo, made, ledger)
                if task.retry:  # what failed twice is not tried a third time
                    return
        if not wait:
            return


def _copied(cells: Sequence[Cell], ledger: Ledger, retry: bool) -> dict[str, Made]:
    """By key: what another label has made already of the same request with the same weights."""
    keys = {cell.key for cell in cells}
    found: dict[str, Made] = {}
    for row in ledger.rows:
        if row.key not in keys or row.key in found or (row.status == "failed" and retry):
            continue
        if row.status == "failed":
            found[row.key] = Made(None, None, row.error, row.measured)
        elif row.audio and row.guard and row.sample_rate and row.seconds and (ledger.folder / row.audio).is_file():
            generated = Generated(
                media=MediaRef(id=f"sha256:{row.audio_sha256}", kind="audio", mime="audio/wav"),
                request=row.request,
                backend=row.backend,
                fingerprint=row.fingerprint,
                sample_rate=row.sample_rate,
                seconds=row.seconds,
                wall_seconds=row.measured.wall_seconds,
                guard=row.guard,
            )
            found[row.key] = Made(None, generated, None, row.measured)
    return found


def count(task: Task, ledger: Ledger) -> tuple[int, int]:
    """Cells that have a row, and all."""
    cells = task.cells
    return sum(ledger.get(cell.place) is not None for cell in cells), len(cells)


def _so_far(task: Task, ledger: Ledger) -> str:
    done, of = count(task, ledger)
    return f"{done} of {of} cells are done"


# -- several processes ------------------------------------------------------------------------------------------------


def work_in_processes(task: Task, jobs: int, on_progress: OnProgress = lambda *_: None) -> None:
    """``work`` in so many processes of this machine.

    Raises:
        StudyStopped: one of them could not go on, or was killed and left cells behind.
    """
    from multiprocessing import get_context

    context = get_context("spawn")
    told = context.SimpleQueue()
    workers: list[BaseProcess] = [context.Process(target=_work_there, args=(task, told)) for _ in range(jobs)]
    ledger = Ledger(task.folder)
    try:
        for worker in workers:
            worker.start()
        while any(worker.is_alive() for worker in workers):
            next((worker for worker in workers if worker.is_alive()), workers[0]).join(_PATIENCE)
            ledger.refresh()
            on_progress(*count(task, ledger))
    finally:
        for worker in workers:
            if worker.is_alive():
                worker.terminate()
        for worker in workers:
            worker.join()
    if not told.empty():
        raise StudyStopped(told.get())
    dead = [worker.exitcode for worker in workers if worker.exitcode]
    ledger.refresh()
    done, of = count(task, ledger)
    if dead and done < of:
        why = f"by signal {-dead[0]}; if it was memory, give fewer --jobs" if dead[0] < 0 else f"with code {dead[0]}"
        raise StudyStopped(
            f"{len(dead)} of {jobs} workers ended {why}; {done} of {of} cells are done; the same command goes on from there"
        )


def _work_there(task: Task, told: Any) -> None:
    from multiprocessing import parent_process

    def follow() -> None:  # a worker does not outlive a parent that was killed
        parent = parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business: it ends its workers
    try:
        with threads(task.threads):
            work(task)
    except StudyStopped as error:
        told.put(str(error))
    except Exception as error:
        told.put(f"a worker met {type(error).__name__}: {error}")


# -- Ray --------------------------------------------------------------------------------------------------------------


def work_on_ray(task: Task, workers: int, gpus: float, on_progress: OnProgress = lambda *_: None) -> None:
    """The same with Ray's actors, one backend in each: on this machine, or on the cluster that RAY_ADDRESS names.

    Only this process writes; the actors get their inputs and give their sounds through Ray.

    Raises:
        MissingExtra: Ray is not installed. StudyStopped: disk full, or an actor died.
    """
    with _ray(workers, task.threads, gpus) as ray, ExitStack() as stack:
        ledger, claims = Ledger(task.folder), Claims(task.folder)
        stack.callback(claims.close)
        stack.enter_context(stopping(task.folder, partial(_so_far, task, ledger)))
        actor = ray.remote(num_cpus=task.threads, num_gpus=gpus)(_Actor)
        free = [actor.remote(task.recipes, task.rows, task.threads) for _ in range(workers)]
        store = MediaStore(task.folder / STORE)
        flying: dict[Any, tuple[Any, list[Cell], dict[str, GenerationRequest], dict[str, Made], ExitStack]] = {}

        def land(wait: bool) -> None:
            while flying and (wait or not free):
                ready, _ = ray.wait(list(flying), num_returns=1)
                hand, todo, requests, made, claim = flying.pop(ready[0])
                free.append(hand)
                with claim:
                    try:
                        record(todo, made | dict(zip(requests, ray.get(ready[0]), strict=True)), ledger)
                    except ray.exceptions.RayError as error:
                        told = " ".join(str(error).split())[:300]
                        raise StudyStopped(f"a Ray worker failed: {told}; {_so_far(task, ledger)}; the same command goes on") from None
                on_progress(*count(task, ledger))

        for last in (False, True):
            for batch in task.batches:
                land(wait=last)
                claim = ExitStack()
                open_cells = [cell for cell in batch if not finished(cell, ledger, task.retry and not last)]
                mine = claim.enter_context(claims.some_of([cell.key for cell in open_cells], wait=last))
                ledger.refresh()
                todo = [cell for cell in open_cells if cell.key in mine and not finished(cell, ledger, task.retry and not last)]
                made = _copied(todo, ledger, task.retry)
                requests = {cell.key: cell.request for cell in todo if cell.key not in made}
                if not requests:
                    with claim:
                        record(todo, made, ledger)
                    continue
                hand = free.pop()
                media = {ref: store.path(ref).read_bytes() for request in requests.values() for ref in named_by(request)}
                job = hand.make.remote(todo[0].backend, list(requests.values()), media)
                flying[job] = (hand, todo, requests, made, claim)
            land(wait=True)


def named_by(request: GenerationRequest) -> list[MediaRef]:
    """The media that a request needs."""
    others = (request.edit.source if request.edit else None, request.envelope)
    return [*request.media, *(ref for ref, _ in request.loa), *(ref for ref in others if ref is not None)]


class _Actor:
    """A worker in a process of Ray's, perhaps on another machine."""

    def __init__(self, recipes: dict[str, Recipe], rows: int, count: int) -> None:
        self._stack = ExitStack()
        self._stack.enter_context(threads(count))
        self._place = TemporaryDirectory(prefix="loa-study-")
        self._worker = Worker(recipes, rows, Path(self._place.name))
        self._store = MediaStore(Path(self._place.name))

    def make(self, label: str, requests: list[GenerationRequest], media: dict[MediaRef, bytes]) -> list[Made]:
        for ref, data in media.items():
            self._store.put_bytes(data, ref.mime, ref.kind)
        return self._worker.make(label, requests)


@contextmanager
def _ray(workers: int, cpus: int, gpus: float) -> Iterator[Any]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError:
        raise MissingExtra("--executor ray needs Ray, which is not installed; run: pip install 'loa[ray]'") from None
    quiet: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False, "configure_logging": True}
    where: dict[str, Any] = (
        {"address": os.environ["RAY_ADDRESS"]}
        if os.environ.get("RAY_ADDRESS")
        else {
            "address": "local",
            "include_dashboard": False,
            "num_cpus": workers * cpus,
            "_node_ip_address": "127.0.0.1",  # nobody outside this machine is answered
        }
    )
    if gpus and "num_cpus" in where:
        where["num_gpus"] = max(1, round(workers * gpus))
    root = str(Path(__file__).resolve().parent.parent)
    env = {"env_vars": {"PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH", ""))))}}
    ray.init(**where, **quiet, runtime_env=env)
    try:
        yield ray
    finally:
        with suppress(Exception):
            ray.shutdown()


# -- a card's energy --------------------------------------------------------------------------------------------------


def _joules() -> float | None:
    """Joules that the first card has used since its driver was loaded; None without a card or without the package nvidia-ml-py."""
    global _meter
    if _meter is None:
        _meter = _open_meter()
    return _meter()


_meter: Callable[[], float | None] | None = None


def _open_meter() -> Callable[[], float | None]:
    try:
        import pynvml

        pynvml.nvmlInit()
        card = pynvml.nvmlDeviceGetHandleByIndex(0)
        pynvml.nvmlDeviceGetTotalEnergyConsumption(card)
    except Exception:  # no package, no driver, no card, or one that does not tell: there is nothing to report
        return lambda: None
    return lambda: float(pynvml.nvmlDeviceGetTotalEnergyConsumption(card)) / 1000
