"""Who is loaded: backends by name, built on first use, at most ``keep`` of them in memory.

Knows names and requests. Does not know presets, files or people; imports no torch.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from generators.base import (
    Backend,
    CheckpointMissing,
    Generated,
    GenerationRequest,
    UnknownName,
    UnsupportedRequest,
)


class Pool:
    """Backends behind names.

    Args:
        backends: row name to a function that makes the backend; called once, on first use, and loads no weights.
        keep: how many backends may hold their weights at once; the one used longest ago is unloaded first.
    """

    def __init__(self, backends: Mapping[str, Callable[[], Backend]], keep: int = 2) -> None:
        self._make, self._keep = dict(backends), max(1, keep)
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
        """The first ready backend that covers the request.

        Raises:
            UnsupportedRequest: none does; says why each one does not.
            MediaError: a medium that is not in the store.
        """
        refusals = []
        for name in self.names():
            backend = self.get(name)
            try:
                backend.check(request)
            except (UnsupportedRequest, CheckpointMissing) as refusal:  # who is not here cannot even say what it takes
                refusals.append(str(refusal))
                continue
            state = backend.readiness()
            if state.ready:
                return backend
            refusals.append(f"backend '{name}' is not ready: {state.reason}")
        raise UnsupportedRequest("no backend here can do this: " + "; ".join(refusals))

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
