"""The carriers that a command may be asked to simulate, those of other packages included."""

from __future__ import annotations

from argparse import ArgumentTypeError


def simulated_carrier(name: str) -> str:
    """An argument's type: a carrier, whose simulator `gateway.simulator` knows from then on.

    Raises ArgumentTypeError for a carrier that is not there, or that cannot be simulated.
    """
    from gateway.carriers import CARRIERS
    from gateway.carriers.plugin import resolve
    from gateway.errors import SettingsError
    from gateway.simulator.call import Simulator
    from gateway.simulator.carriers import add_simulator

    if name not in CARRIERS:
        raise ArgumentTypeError(f"{name!r} is not one of {', '.join(CARRIERS)}")
    try:
        target = CARRIERS[name].simulator
    except SettingsError as error:
        raise ArgumentTypeError(str(error)) from None
    if not target:
        raise ArgumentTypeError(f"{name} cannot be simulated: its package brings no simulator")
    try:
        simulator = resolve(target)
    except Exception as error:  # whatever another package's import raises, the mend is the same
        raise ArgumentTypeError(f"the simulator {target} of {name} cannot be imported: {error}") from error
    if not isinstance(simulator, Simulator):
        raise ArgumentTypeError(f"{target} of {name} is no gateway.simulator.call.Simulator")
    add_simulator(name, simulator)
    return name


def simulated_carriers(text: str) -> tuple[str, ...]:
    """The same for names separated by commas."""
    return tuple(simulated_carrier(name) for name in text.split(","))
