"""The public face: ``import loa; loa.generate("a dog barks", seconds=5)``. Hands names on and defines nothing itself.

Names arrive when they are first asked for, so that importing loa costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from configs.schema import AppConfig as AppConfig
    from configs.schema import load_config as load_config
    from generators.base import Backend as Backend
    from generators.base import Generated as Generated
    from generators.base import GenerationRequest as GenerationRequest
    from media.audio import Audio as Audio
    from media.refs import MediaRef as MediaRef
    from media.refs import MediaStore as MediaStore
    from serving.app import App as App
    from serving.app import build as build
    from serving.app import generate as generate

_HOME_OF = {
    "App": "serving.app",
    "AppConfig": "configs.schema",
    "Audio": "media.audio",
    "Backend": "generators.base",
    "Generated": "generators.base",
    "GenerationRequest": "generators.base",
    "MediaRef": "media.refs",
    "MediaStore": "media.refs",
    "build": "serving.app",
    "generate": "serving.app",
    "load_config": "configs.schema",
}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'loa' has no attribute '{name}'; it hands on: {', '.join(sorted(_HOME_OF))}")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted(_HOME_OF)
