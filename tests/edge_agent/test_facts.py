from pathlib import Path

import pytest

from edge_agent import facts, vitals
from edge_agent.workers import memory

NOW = 1_800_000_000.0
DAY_S = 86_400.0


def put(root: Path, path: str, text: str = "") -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def test_facts_of_this_machine_are_all_words() -> None:
    found = facts.collect()

    assert {"arch", "os", "kernel", "python", "agent", "cpus", "memory_mb", "accelerator"} <= set(
        found
    )
    assert all(isinstance(value, str) for value in found.values())
    assert int(found["memory_mb"]) > 0


def test_the_version_is_that_of_the_installed_distribution(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    assert facts.agent_version() == "unknown"

    (tmp_path / "packhorse-1.2.3.dist-info").mkdir()

    assert facts.agent_version() == "1.2.3"


def test_a_machine_without_proc_has_facts_all_the_same(tmp_path: Path) -> None:
    found = facts.collect(tmp_path)

    assert found["memory_mb"] == "0"
    assert found["accelerator"] == "none"
    assert facts.boot_id(tmp_path) == ""


@pytest.mark.parametrize(
    ("text", "jetpack", "l4t"),
    [
        ("# R36 (release), REVISION: 4.3, GCID: 1, BOARD: generic", "6", "36.4.3"),
        ("# R35 (release), REVISION: 2.1, GCID: 1", "5", "35.2.1"),
        ("# R99 (release), REVISION: 1.0", "", "99.1.0"),
        ("", "", ""),
    ],
)
def test_jetpack_is_told_by_the_release_of_its_kernel(
    tmp_path: Path, text: str, jetpack: str, l4t: str
) -> None:
    put(tmp_path, "etc/nv_tegra_release", text)

    assert (facts.jetpack(tmp_path), facts.l4t(tmp_path)) == (jetpack, l4t)


def test_providers_are_told_by_their_libraries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    assert facts.providers() == ("CPUExecutionProvider",)

    put(tmp_path, "onnxruntime/capi/libonnxruntime_providers_cuda.so")
    put(tmp_path, "onnxruntime/capi/libonnxruntime_providers_tensorrt.so")
    put(tmp_path, "onnxruntime/capi/libonnxruntime_providers_shared.so")

    assert facts.providers() == (
        "TensorrtExecutionProvider",
        "CUDAExecutionProvider",
        "CPUExecutionProvider",
    )


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("etc/nv_tegra_release", "jetson"),
        ("dev/nvhost-gpu", "jetson"),
        ("proc/driver/nvidia/version", "nvidia"),
        ("dev/hailo0", "hailo"),
        ("dev/apex_0", "coral"),
    ],
)
def test_accelerators_are_known_by_what_their_drivers_leave(
    tmp_path: Path, path: str, name: str
) -> None:
    put(tmp_path, path)

    assert facts.accelerator(tmp_path) == name


def test_a_board_says_its_name(tmp_path: Path) -> None:
    put(tmp_path, "proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.4\0")
    put(tmp_path, "etc/os-release", 'NAME="Debian"\nPRETTY_NAME="Debian GNU/Linux 12"\n')
    put(tmp_path, "proc/meminfo", "MemTotal:        3884288 kB\nMemFree: 1 kB\n")

    found = facts.collect(tmp_path)

    assert found["board"] == "Raspberry Pi 4 Model B Rev 1.4"
    assert found["os"] == "Debian GNU/Linux 12"
    assert found["memory_mb"] == "3793"


def test_vitals_leave_out_what_cannot_be_measured(tmp_path: Path) -> None:
    found = vitals.collect(tmp_path, tmp_path)

    assert "temperature_c" not in found
    assert "memory_free_mb" not in found
    assert found["disk_free_mb"] > 0
    assert found["agent_rss_mb"] > 1


def test_the_hottest_plausible_zone_counts(tmp_path: Path) -> None:
    for number, text in enumerate(["41000", "55500", "999999", "broken"]):
        put(tmp_path, f"sys/class/thermal/thermal_zone{number}/temp", text)

    assert vitals.collect(tmp_path, tmp_path)["temperature_c"] == 55.5


@pytest.mark.parametrize(
    ("now", "not_after", "reserve_mb", "words"),
    [
        (5.0, None, 0, "clock: reads 1970-01-01T00:00:05Z, set the time or enable NTP"),
        (NOW, NOW - DAY_S, 0, "certificate: expired"),
        (NOW, NOW + 10 * DAY_S, 0, "certificate: expires"),
        (NOW, None, 10**9, "disk: "),
    ],
)
def test_troubles_say_what_to_do(
    tmp_path: Path, now: float, not_after: float | None, reserve_mb: int, words: str
) -> None:
    (trouble,) = vitals.troubles(
        tmp_path, now=now, reserve_mb=reserve_mb, certificate_not_after=not_after
    )

    assert trouble.startswith(words)


def test_a_dead_clock_says_nothing_about_the_certificate(tmp_path: Path) -> None:
    found = vitals.troubles(tmp_path, now=5.0, reserve_mb=0, certificate_not_after=NOW)

    assert len(found) == 1


def test_a_healthy_device_has_no_troubles(tmp_path: Path) -> None:
    in_a_year = NOW + 365 * DAY_S

    assert vitals.troubles(tmp_path, now=NOW, reserve_mb=0, certificate_not_after=in_a_year) == []


def test_the_memory_of_a_process_that_has_gone_is_unknown() -> None:
    assert memory.resident_bytes(2**22 + 1) is None
    memory.trim()
