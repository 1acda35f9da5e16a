"""An engine that labels all that it makes, so that it can be found again whoever asked for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar, cast

from testbed.engine.api import ContainerSpec, Engine, NetworkSpec

AnyEngine = TypeVar("AnyEngine", bound=Engine)


def labelled(engine: AnyEngine, labels: Mapping[str, str]) -> AnyEngine:
    """The same engine, whose new containers and networks carry `labels` besides their own."""
    return cast(AnyEngine, _Labelled(engine, labels))


class _Labelled:
    """Everything else is the engine's."""

    def __init__(self, engine: Engine, labels: Mapping[str, str]) -> None:
        self._engine = engine
        self._labels = labels

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def create_network(self, spec: NetworkSpec) -> str:
        return self._engine.create_network(replace(spec, labels={**spec.labels, **self._labels}))

    def create_container(self, spec: ContainerSpec) -> str:
        return self._engine.create_container(replace(spec, labels={**spec.labels, **self._labels}))
