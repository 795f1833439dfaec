from __future__ import annotations

import socket
import tempfile
from pathlib import Path

import pytest

from gateway.errors import UserError
from gateway.worker.places import MAX_PATH, check_listen, make_run_dir


def test_the_directory_is_its_users_alone(tmp_path: Path) -> None:
    made = Path(make_run_dir(str(tmp_path)))
    assert made.parent == tmp_path and made.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("length", [60, 76, 77, 78, 90, 109, 200])
def test_a_socket_of_the_longest_name_can_be_bound_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path).ljust(length, "x"))
    Path(tempfile.gettempdir()).mkdir(exist_ok=True)
    made = Path(make_run_dir(""))
    path = made / "w9999999.sock"
    assert len(str(path)) <= MAX_PATH
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
    path.unlink()
    made.rmdir()


@pytest.mark.parametrize("name", ["nothing-here", "ü" * 40])
def test_no_place_is_one_line_with_the_mend(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"no place for the workers' sockets: .*; name a short, writable") as e:
        make_run_dir(f"/{name}")
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("address", ["127.0.0.1", "localhost", "0.0.0.0"])
def test_an_address_of_this_machine_will_do(address: str) -> None:
    check_listen(address)


@pytest.mark.parametrize("address", ["203.0.113.9", "no-such-host.invalid"])
def test_another_machines_address_is_one_line_with_the_mend(address: str) -> None:
    with pytest.raises(UserError, match=f"--listen {address}: .*; name an address of this machine") as e:
        check_listen(address)
    assert "\n" not in str(e.value)
