"""The delivered HAProxy configuration with real gateways behind it: what passes, what does not, and a drain."""

from __future__ import annotations

import http.client
import signal
import socket
import struct
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.acceptance.program import free_port, wait_for
from tests.deploy.rig import HAPROXY, SERVICE, Balancer, Caller, Gateway, Load, WorkerHost, make_certificate, tool
from tests.pool.server import Server

pytestmark = pytest.mark.cluster
CARRIERS = ("twilio", "telnyx", "plivo", "exotel")


@dataclass
class Site:
    folder: Path
    balancer: Balancer
    gateways: dict[str, Gateway]
    stack: ExitStack

    def call(self, carrier: str, *, seconds: float) -> Caller:
        return self.stack.enter_context(Caller(carrier, self.folder, self.balancer, seconds=seconds))

    def serving(self) -> Gateway | None:
        return next((gateway for gateway in self.gateways.values() if gateway.calls()), None)

    def other(self, gateway: Gateway) -> Gateway:
        return next(one for one in self.gateways.values() if one is not gateway)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """HAProxy, two gateways, one worker host, one Redis: all up."""
    with ExitStack() as stack:
        redis = Server()
        stack.callback(redis.remove)
        redis.start()
        port = free_port()
        names = ("gateway-1", "gateway-2")
        gateways = {
            name: stack.enter_context(Gateway(name, tmp_path, f"https://localhost:{port}", redis.url)) for name in names
        }
        for gateway in gateways.values():
            wait_for(gateway.ready, 20, gateway.log)
        host = stack.enter_context(WorkerHost(tmp_path, [f"ws://{gateway.address}" for gateway in gateways.values()]))
        ready = f'gateway_worker_slots{{service_host="{SERVICE}",state="ready"}} 4.0'
        for gateway in gateways.values():
            wait_for(lambda gateway=gateway: ready in gateway.metrics(), 20, host.log)
        balancer = stack.enter_context(Balancer(tmp_path, [gateway.address for gateway in gateways.values()], port))
        for name in names:
            balancer.until(name, "UP")
        yield Site(tmp_path, balancer, gateways, stack)


def whole(caller: Caller, seconds: float) -> str:
    """The report of a call that went as it should."""
    status = caller.wait(seconds)
    assert status == 0, caller.log()
    assert "completed" in caller.log()
    return caller.log()


def test_configuration_is_valid_without_a_warning(tmp_path: Path) -> None:
    env = {"CERTIFICATE": str(make_certificate(tmp_path)), "GATEWAY_1": "127.0.0.1:8080", "GATEWAY_2": "127.0.0.1:8081"}
    checked = subprocess.run(
        [tool("haproxy", "haproxy"), "-c", "-f", str(HAPROXY)],
        capture_output=True, text=True, timeout=20, env=env, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stderr
    assert "WARNING" not in checked.stderr


def test_all_carriers_come_through_tls_to_both_gateways(site: Site) -> None:
    callers = [site.call(carrier, seconds=2) for carrier in (*CARRIERS, *CARRIERS)]
    for caller in callers:
        whole(caller, 30)
    for gateway in site.gateways.values():
        assert "gateway_calls_total{" in gateway.metrics(), "leastconn gave it nothing"
    log = site.balancer.log()
    assert "/webhooks/twilio/voice" in log and "/ws" in log
    assert "/ws/" not in log, "a stream token is in the log"
    assert "key=" not in log


def ask(connection: http.client.HTTPConnection, method: str, path: str, **options: object) -> int:
    with_close = {"Connection": "close"}
    connection.request(method, path, headers=with_close | dict(options.pop("headers", {})), **options)  # type: ignore
    status = connection.getresponse().status
    connection.close()
    return status


def test_the_public_side_has_webhooks_and_streams_only(site: Site) -> None:
    balancer = site.balancer
    public = http.client.HTTPSConnection("localhost", balancer.port, context=balancer.tls())
    closed = ("/", "/metrics", "/livez", "/readyz", "/lbz", "/status", "/start", "/v1/calls", "/v1/workers/connect")
    assert {path: ask(public, "GET", path) for path in closed} == dict.fromkeys(closed, 404)
    assert ask(public, "POST", "/webhooks/twilio/voice") == 403  # the gateway's word: nothing is signed
    assert ask(public, "PUT", "/webhooks/twilio/voice") == 405
    assert ask(public, "POST", "/webhooks/twilio/voice", headers={"Content-Length": "300000"}) == 413
    internal = http.client.HTTPConnection("127.0.0.1", balancer.internal)
    upgrade = {
        "Connection": "Upgrade", "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }  # fmt: skip
    assert ask(internal, "GET", "/v1/workers/connect", headers=upgrade) == 401  # the gateway's: no key
    assert ask(internal, "POST", "/webhooks/twilio/voice") == 404
    assert ask(internal, "GET", "/status") == 200
    operator = http.client.HTTPConnection("127.0.0.1", balancer.operator)
    assert ask(operator, "GET", "/metrics") == 200


def test_a_worker_host_registers_through_the_internal_side(site: Site) -> None:
    with WorkerHost(site.folder, [f"ws://127.0.0.1:{site.balancer.internal}"]):
        more = f'gateway_worker_slots{{service_host="{SERVICE}",state="ready"}} 8.0'
        gateway = site.gateways["gateway-1"]
        wait_for(lambda: more in gateway.metrics(), 20, gateway.metrics)


def test_a_drain_cuts_no_call_and_sends_new_ones_elsewhere(site: Site) -> None:
    staying = site.call("twilio", seconds=9)
    leaving = wait_for(site.serving, 10, staying.log)
    wait_for(lambda: staying.alive and leaving.calls() == 1, 5, staying.log)
    leaving.signal(signal.SIGTERM)
    site.balancer.until(leaving.name, "NOLB")
    newcomers = [site.call(carrier, seconds=1) for carrier in CARRIERS]
    for caller in newcomers:
        whole(caller, 30)
    assert leaving.alive and staying.alive and leaving.calls() == 1, leaving.log()
    assert site.other(leaving).metrics().count("gateway_calls_total{") >= len(CARRIERS)
    whole(staying, 30)
    assert leaving.wait(10) == 0
    site.balancer.until(leaving.name, "DOWN")


def test_a_gateway_set_to_drain_by_hand_gets_nothing_new_and_can_come_back(site: Site) -> None:
    site.balancer.admin("set server gateways/gateway-1 state drain")
    site.balancer.until("gateway-1", "DRAIN")
    for carrier in CARRIERS:
        whole(site.call(carrier, seconds=1), 30)
    assert "gateway_calls_total{" not in site.gateways["gateway-1"].metrics()
    site.balancer.admin("set server gateways/gateway-1 state ready")
    site.balancer.until("gateway-1", "UP")


def test_a_rolling_restart_by_the_readme_refuses_and_cuts_no_call(site: Site) -> None:
    """Out of the balancer first, back when it is ready, and only then the next one."""
    load = site.stack.enter_context(Load(site.folder, site.balancer, calls=60, rate=4, seconds=1))
    wait_for(site.serving, 20, load.log)
    for name, gateway in site.gateways.items():
        site.balancer.admin(f"set server gateways/{name} state drain")
        site.balancer.until(name, "DRAIN")
        gateway.signal(signal.SIGTERM)
        assert gateway.wait(15) == 0
        gateway.start()
        wait_for(gateway.ready, 20, gateway.log)
        site.balancer.admin(f"set server gateways/{name} state ready")
        site.balancer.until(name, "UP", seconds=10)
    assert load.alive, "the callers had gone before the second restart was done"
    results = load.results(60)
    assert Counter(results) == {"answered": 60}
    assert all('"refused"' not in gateway.log(all_starts=True) for gateway in site.gateways.values())


def test_a_hung_gateway_is_down_in_time_and_its_streams_are_cut(site: Site) -> None:
    site.call("twilio", seconds=60)
    hung = wait_for(site.serving, 10, site.balancer.log)
    hung.signal(signal.SIGSTOP)
    site.balancer.until(hung.name, "DOWN", seconds=2.5)  # 2.2 s as configured
    stream = f"gateways/{hung.name} GET /ws 101 "
    wait_for(lambda: stream in site.balancer.log(), 2, site.balancer.log)
    line = next(line for line in site.balancer.log().splitlines() if stream in line)
    assert " D" in line, "HAProxy names the cause: cut because its server was marked down"


def test_webhooks_that_meet_a_hung_gateway_are_answered_by_the_other(site: Site) -> None:
    site.gateways["gateway-1"].signal(signal.SIGSTOP)
    for caller in [site.call(carrier, seconds=1) for carrier in CARRIERS]:
        whole(caller, 30)


class Resetter(ThreadingHTTPServer):
    """What may stand before a dead gateway: it says that all is well, accepts connections, and resets them."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), BaseHTTPRequestHandler)
        self.address = f"127.0.0.1:{self.server_port}"
        self.reset = 0

    def finish_request(self, request: Any, client_address: Any) -> None:
        if b"GET /lbz" in request.recv(65536, socket.MSG_PEEK):
            request.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        else:
            request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.reset += 1

    def shutdown_request(self, request: Any) -> None:
        request.close()  # a shutdown would send a FIN


def test_webhooks_that_meet_a_reset_connection_are_answered_by_the_other(site: Site) -> None:
    with ExitStack() as stack:
        dead = stack.enter_context(Resetter())
        Thread(target=dead.serve_forever, daemon=True).start()
        stack.callback(dead.shutdown)
        folder = site.folder / "second"
        folder.mkdir()
        gateways = [dead.address, site.gateways["gateway-2"].address]
        balancer = stack.enter_context(Balancer(folder, gateways, free_port()))
        for name in site.gateways:
            balancer.until(name, "UP")
        public = http.client.HTTPSConnection("localhost", balancer.port, context=balancer.tls())
        asked = [ask(public, "POST", "/webhooks/twilio/resume", body="a=b") for _ in range(20)]
    assert asked == [403] * 20  # the gateway's word: nothing is signed
    assert dead.reset > 0


def test_plain_text_on_the_tls_port_is_refused(site: Site) -> None:
    with socket.create_connection(("127.0.0.1", site.balancer.port), timeout=5) as plain:
        plain.sendall(b"POST /webhooks/twilio/voice HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert plain.recv(100)[:4] != b"HTTP"
