"""Who is loaded: backends by name, built on first use, at most ``keep`` of them in memory.

Knows names and requests. Does not know presets, files or people; imports no torch.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from generators.base import (
    Backend,
    Generated,
    GenerationRequest,
    MissingExtra,
    UnknownName,
    UnsupportedRequest,
)

_TOLD = 3  # backends that are not ready, in the words of an error


class Pool:
    """Backends behind names.

    Args:
        backends: row name to a function that makes the backend; called once, on first use, and loads no weights.
        keep: how many backends may hold their weights at once; the one used longest ago is unloaded first. 1: one at a time.
        auto: the names that may be chosen where none is named; None: all.
    """

    def __init__(self, backends: Mapping[str, Callable[[], Backend]], keep: int = 2, auto: Collection[str] | None = None) -> None:
        self._make, self._keep = dict(backends), max(1, keep)
        self._auto = [name for name in self._make if auto is None or name in auto]
        self._made: dict[str, Backend] = {}
        self._used: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.RLock()

    def names(self) -> list[str]:
        """All names, in the order of preference."""
        return list(self._make)

    def get(self, name: str) -> Backend:
        """The backend called ``name``, not necessarily loaded.

        Raises:
            UnknownName: with the nearest known name.
        """
        with self._lock:
            if name not in self._make:
                raise UnknownName("backend", name, self.names())
            if name not in self._made:
                self._made[name] = self._make[name]()
            return self._made[name]

    def choose(self, request: GenerationRequest) -> Backend:
        """The first ready backend that covers the request; those made for its task (speech for words, else sounds) come first.

        Raises:
            UnsupportedRequest: none does; says why each one does not.
            MediaError: a medium that is not in the store.
        """
        refusals, absent, others = [], [], []
        task = "speech" if request.transcript is not None and not request.prompt else "sound"
        for name in self._auto:
            try:
                backend = self.get(name)
                state = backend.readiness()
                if not state.ready:
                    absent.append(f"backend '{name}' is not ready: {state.reason}")
                    continue
                backend.check(request)
            except UnsupportedRequest as refusal:
                refusals.append(str(refusal))
            except MissingExtra as missing:
                absent.append(f"backend '{name}' is not ready: {missing}")
            else:
                if task in backend.capabilities.tasks:
                    return backend
                others.append(backend)
        if others:
            return others[0]
        told = [*absent[:_TOLD], *([f"{len(absent) - _TOLD} more are not ready"] if len(absent) > _TOLD else []), *refusals]
        raise UnsupportedRequest("no backend here can do this: " + "; ".join(told))

    def generate(self, name: str, requests: Sequence[GenerationRequest], **how: Any) -> list[Generated]:
        """``Backend.generate`` of the named backend ("auto": chosen by the first request), making room for its weights."""
        backend = self.choose(requests[0]) if name == "auto" else self.get(name)
        for request in requests:
            backend.check(request)
        self._make_room(backend.name)
        return backend.generate(requests, **how)

    def unload(self) -> None:
        """Free all weights."""
        with self._lock:
            for name in self._used:
                self._made[name].unload()
            self._used.clear()

    def _make_room(self, name: str) -> None:
        with self._lock:
            self._used[name] = None
            self._used.move_to_end(name)
            while len(self._used) > self._keep:
                oldest, _ = self._used.popitem(last=False)
                self._made[oldest].unload()
