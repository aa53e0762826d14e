"""What can go wrong with a simulation itself."""

from runtime.errors import PackhorseError


class SimulationError(PackhorseError):
    """The simulation could not be run; says nothing about the devices."""
