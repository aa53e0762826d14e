"""Who gets what: the held-out data shared out among the devices, and the truth about it."""

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cloud.demo import train, wrist
from cloud.demo.score import Key

DIGITS, MOTION = "digits", "wrist-motion"


@dataclass
class Handout:
    """Gives items to devices, remembers each, and knows what it shows."""

    directory: Path
    """What cloud.demo.train wrote."""
    devices: tuple[str, ...]
    truth: dict[Key, Any] = field(default_factory=dict)
    """Label of each item that a device has been given."""
    _images: list[str] = field(default_factory=list)
    _labels: dict[str, int] = field(default_factory=dict)
    _motions: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Read the truth."""
        plain = json.loads((self.directory / "truth.json").read_bytes())
        self._labels, self._motions = plain[DIGITS], plain[MOTION]
        self._images = sorted(self._labels, reverse=True)

    @property
    def images_left(self) -> int:
        """How many images no device has been given yet."""
        return len(self._images)

    @property
    def example(self) -> list[float]:
        """The pixels of one image, as the model takes them."""
        with np.load(self.directory / "digits-1" / "golden" / "inputs.npz") as golden:
            return [float(value) for value in golden["image"][0]]

    def give_images(self, inboxes: dict[str, Path], count: int) -> None:
        """Put the next `count` images into the devices' inboxes, in turn."""
        for number in range(min(count, len(self._images))):
            device = self.devices[number % len(self.devices)]
            name = self._images.pop()
            target = inboxes[device]
            target.mkdir(parents=True, exist_ok=True)
            # Written under a hidden name first: what the source sees is always whole.
            hidden = target / f".{name}"
            shutil.copyfile(self.directory / "items" / name, hidden)
            hidden.rename(target / name)
            self.truth[device, DIGITS, f"item:{name}"] = self._labels[name]

    def write_sensor(self, device: str, path: Path) -> None:
        """Write a device's share of the recordings as the stream that its sensor gives."""
        with np.load(self.directory / "items" / train.RECORDINGS) as stream:
            readings = stream["readings"]
        place, step = self.devices.index(device), len(self.devices)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, readings=readings[place::step])
        number = 0
        for recording, label in zip(readings[place::step], self._motions[place::step], strict=True):
            for _window in wrist.windows(recording):
                self.truth[device, MOTION, f"item:{number}"] = label
                number += 1
