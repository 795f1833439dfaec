"""What the gateway knows of one carrier, and the table of all carriers.

A carrier that ships with the gateway is one line of `BUILT_IN`. One from another package is an entry point of the
group `gateway.carriers`, whose name is the carrier's and whose object is a `CarrierPlugin`:

    [project.entry-points."gateway.carriers"]
    acme = "acme_gateway:PLUGIN"

Nothing is imported before it is asked for: names are known without importing any carrier.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from gateway.carriers.base import Carrier
from gateway.carriers.config import CarrierConfig
from gateway.errors import SettingsError

GROUP = "gateway.carriers"

BUILT_IN: Mapping[str, str] = {
    "twilio": "gateway.carriers.twilio:PLUGIN",
    "telnyx": "gateway.carriers.telnyx:PLUGIN",
    "plivo": "gateway.carriers.plivo:PLUGIN",
    "exotel": "gateway.carriers.exotel:PLUGIN",
}


@dataclass(frozen=True, slots=True)
class CarrierPlugin:
    """One carrier.

    carrier: its HTTP side, which names its serializer. config: the schema of `[carriers.<name>]`. env: the environment
    variables that its users already have, and the key of `[carriers.<name>]` that each one fills. bot_env: those of
    them that bots read which speak the carrier's own wire, as Pipecat's do. simulator: where the other end of the wire
    is, "package.module:OBJECT" ("" if there is none); only commands that simulate resolve it.
    """

    carrier: type[Carrier]
    config: type[CarrierConfig[Any]]
    env: Mapping[str, str] = field(default_factory=dict)
    bot_env: tuple[str, ...] = ()
    simulator: str = ""

    @property
    def name(self) -> str:
        """The carrier's name in settings, URLs and metrics."""
        return self.carrier.name


class CarrierTable(Mapping[str, CarrierPlugin]):
    """The plug-ins by name, each loaded when it is first asked for.

    The built-in ones come first.
    """

    def __init__(self, built_in: Mapping[str, str]) -> None:
        self._targets = dict(built_in)
        self._loaded: dict[str, CarrierPlugin] = {}
        self._complete = False

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __len__(self) -> int:
        return len(self._names())

    def __contains__(self, name: object) -> bool:
        return name in self._names()

    def __getitem__(self, name: str) -> CarrierPlugin:
        """Load the plug-in of that name.

        Raises KeyError if there is none, SettingsError if it cannot be used.
        """
        plugin = self._loaded.get(name)
        if plugin is None:
            plugin = self._loaded[name] = _load(name, self._names()[name])
        return plugin

    def _names(self) -> dict[str, str]:
        """Where each carrier is. A built-in name is never taken over by a package."""
        if not self._complete:
            for point in entry_points(group=GROUP):
                self._targets.setdefault(point.name, point.value)
            self._complete = True
        return self._targets


def _load(name: str, target: str) -> CarrierPlugin:
    setting = f"carriers.{name}"
    try:
        plugin = resolve(target)
    except Exception as error:  # whatever another package's import raises, the mend is the same
        cause = f"{type(error).__name__}: {error}".splitlines()[0]
        raise SettingsError(setting, f"its plug-in {target} cannot be imported ({cause}): mend or remove it") from error
    if not isinstance(plugin, CarrierPlugin) or plugin.name != name:
        raise SettingsError(setting, f"its plug-in {target} is no CarrierPlugin of that name: mend or remove it")
    return plugin


def resolve(target: str) -> Any:
    """The object at "package.module:OBJECT". Raises what the import raises."""
    module, _, name = target.partition(":")
    return getattr(import_module(module.strip()), name.strip())


CARRIERS: Mapping[str, CarrierPlugin] = CarrierTable(BUILT_IN)
