"""The cipher is ours to choose where ssh's settings say nothing of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from virtkit.host import ssh_cipher

FAST = ["-oCiphers=^aes128-gcm@openssh.com"]


@pytest.mark.parametrize(
    ("flags", "settings", "chosen"),
    [
        ("flags\t\t: fpu aes avx", "", FAST),
        ("Features\t: fp asimd aes", "Port 23", FAST),
        ("flags\t\t: fpu avx", "", []),
        ("", "", []),
        ("flags\t\t: aes", "Ciphers aes256-ctr", []),
        ("flags\t\t: aes", "Ciphers -aes128-gcm@openssh.com", []),
        ("flags\t\t: aes", "Ciphers ^aes256-gcm@openssh.com", []),
        ("flags\t\t: aes", "NoSuchKey yes", []),
    ],
)
def test_options(flags: str, settings: str, chosen: list[str], tmp_path: Path) -> None:
    cpuinfo, config = tmp_path / "cpuinfo", tmp_path / "config"
    cpuinfo.write_text(f"processor\t: 0\n{flags}\n")
    config.write_text(settings + "\n")
    line = ["ssh", "-F", str(config)]
    assert ssh_cipher.options(line, "ops@rack1.example.org", cpuinfo) == chosen


def test_no_cpuinfo(tmp_path: Path) -> None:
    assert ssh_cipher.options(["ssh"], "rack1", tmp_path / "none") == []
