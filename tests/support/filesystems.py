"""File systems that are small enough to fill."""

import contextlib
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.support import parts


@contextlib.contextmanager
def of_size(*, megabytes: int) -> Iterator[Path]:
    """Mount an empty file system of this size; unmount it afterwards."""
    parts.require_root("mounts a small file system")
    with tempfile.TemporaryDirectory(prefix="small-fs-") as name:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=700", "tmpfs", name], check=True
        )
        try:
            yield Path(name)
        finally:
            # Lazily: a process that a test left running must not keep the next test from starting.
            subprocess.run(["umount", "--lazy", name], check=True)


class Disk:
    """An ext4 of its own, on a file; what arrives at the device below it is counted."""

    def __init__(self, place: Path, device: str) -> None:
        """`device` is the kernel's name of it, such as loop0."""
        self.place, self._device = place, device

    def written_bytes(self) -> int:
        """Return what the device was told to write, the file system's journal included."""
        subprocess.run(["sync", "--file-system", str(self.place)], check=True)
        return 512 * int(Path(f"/sys/block/{self._device}/stat").read_text().split()[6])


@contextlib.contextmanager
def disk(*, megabytes: int) -> Iterator[Disk]:
    """Mount an empty ext4 of this size; unmount it afterwards."""
    parts.require_root("mounts a file system")
    with tempfile.TemporaryDirectory(prefix="ph-disk-") as name:
        image, place = Path(name) / "image", Path(name) / "m"
        place.mkdir()
        with image.open("wb") as file:
            file.truncate(megabytes << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0", image], check=True)
        subprocess.run(["mount", "-o", "loop", image, place], check=True)
        try:
            found = subprocess.run(
                ["findmnt", "--noheadings", "--output", "SOURCE", str(place)],
                check=True, capture_output=True, text=True,
            )  # fmt: skip
            yield Disk(place, Path(found.stdout.strip()).name)
        finally:
            subprocess.run(["umount", "--lazy", place], check=True)
