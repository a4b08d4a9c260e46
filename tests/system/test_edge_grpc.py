"""gRPC through the edge, with grpcio on both sides: calls of all four kinds, metered and ended as all requests are."""
import concurrent.futures
import pathlib
import sys
import threading
import time

import grpc
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import test_edge_routing as routing  # noqa: E402
from edgefix import Edge, Tenant  # noqa: E402
from ports import Ports  # noqa: E402

pki = routing.pki


class App:
    """A gRPC server whose methods take and give bytes."""

    def __init__(self, edge, credentials=None):
        self.calls = []  # (method, metadata)
        self.cancelled = threading.Event()
        self.server = grpc.server(concurrent.futures.ThreadPoolExecutor(16))
        handlers = {"Echo": grpc.unary_unary_rpc_method_handler(self.echo), "Fail": grpc.unary_unary_rpc_method_handler(self.fail),
                    "Count": grpc.stream_unary_rpc_method_handler(self.count),
                    "Stream": grpc.unary_stream_rpc_method_handler(self.stream),
                    "Talk": grpc.stream_stream_rpc_method_handler(self.talk)}
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.App", handlers),))
        port = edge.ports.take()
        address = f"127.0.0.1:{port}"
        assert (self.server.add_secure_port(address, credentials) if credentials else self.server.add_insecure_port(address)) == port
        self.endpoint = f"{address};grpc"
        self.server.start()

    def note(self, method, context):
        self.calls.append((method, dict(context.invocation_metadata())))

    def echo(self, request, context):
        self.note("Echo", context)
        context.set_trailing_metadata((("x-late", "yes"),))
        return request

    def fail(self, request, context):
        self.note("Fail", context)
        context.set_trailing_metadata((("x-why", "because"),))
        context.abort(grpc.StatusCode.NOT_FOUND, "no such thing")

    def count(self, requests, context):
        self.note("Count", context)
        return str(sum(len(item) for item in requests)).encode()

    def stream(self, request, context):
        """Half a megabyte at once, then nothing until somebody ends it."""
        self.note("Stream", context)
        context.add_callback(self.cancelled.set)
        for _ in range(50):
            yield b"x" * 10000
        if request == b"all":
            return
        self.cancelled.wait(30)

    def talk(self, requests, context):
        self.note("Talk", context)
        for item in requests:
            yield item.upper()

    def stop(self):
        self.server.stop(0)


def make_edge(trust=routing.TRUST):
    port = Ports().take()
    edge = Edge(workers=1, edit=lambda text: text.replace("bulkhead on;", f"listen 127.0.0.1:{port} http2;\n        bulkhead on;")
                .replace(routing.TRUST, str(trust)))
    edge.h2_port, edge.next = port, 100
    edge.write_keyring()
    return edge


@pytest.fixture(scope="module")
def edge():
    edge = make_edge()
    edge.app, edge.web = App(edge), edge.echo("web")
    edge.acme = Tenant(42, "acme", endpoints=[edge.web.endpoint, edge.app.endpoint])
    edge.globex = Tenant(7, "globex", endpoints=[edge.web.endpoint])
    edge.put(edge.acme, edge.globex)
    edge.start()
    yield edge
    errors = edge.errors()
    edge.app.stop()
    edge.stop()
    assert "signal" not in errors, errors


class Client:
    def __init__(self, edge, tenant, bearer=None):
        self.channel = grpc.insecure_channel(f"127.0.0.1:{edge.h2_port}", options=[
            ("grpc.default_authority", f"{tenant.id}.localhost"), ("grpc.use_local_subchannel_pool", 1)])
        self.metadata = [("authorization", bearer or edge.bearer(tenant).split(": ", 1)[1])]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.channel.close()

    def call(self, method, request, *metadata, kind="unary_unary", timeout=15):
        make = getattr(self.channel, kind)
        return make(f"/t.App/{method}")(request, metadata=[*self.metadata, *metadata], timeout=timeout)

    def code(self, method="Echo", request=b"x", **options):
        try:
            self.call(method, request, **options)
            return "OK"
        except grpc.RpcError as error:
            return error.code().name


def test_calls_of_all_kinds(edge):
    with Client(edge, edge.acme) as client:
        big = bytes(range(256)) * 8000  # more than client_max_body_size
        assert client.call("Echo", big) == big
        assert client.call("Count", iter([b"a" * 100000] * 30), kind="stream_unary") == b"3000000"
        assert sum(len(item) for item in client.call("Stream", b"all", kind="unary_stream")) == 500000
        talk = client.call("Talk", iter([b"one", b"two"]), kind="stream_stream")
        assert list(talk) == [b"ONE", b"TWO"]


def test_both_sides_speak_in_turn(edge):
    """Nothing is held back until the other side has ended."""
    ask = []
    more = threading.Semaphore(0)

    def questions():
        for item in (b"a", b"b", b"c"):
            ask.append(item)
            yield item
            more.acquire(timeout=10)

    with Client(edge, edge.acme) as client:
        for answer in client.call("Talk", questions(), kind="stream_stream"):
            assert answer == ask[-1].upper()
            more.release()
    assert ask == [b"a", b"b", b"c"]


def test_status_and_trailers_arrive(edge):
    with Client(edge, edge.acme) as client:
        _, call = client.channel.unary_unary("/t.App/Echo").with_call(b"", metadata=client.metadata, timeout=10)
        assert call.code() == grpc.StatusCode.OK and ("x-late", "yes") in call.trailing_metadata()
        with pytest.raises(grpc.RpcError) as error:
            client.call("Fail", b"")
        assert (error.value.code(), error.value.details()) == (grpc.StatusCode.NOT_FOUND, "no such thing")
        assert ("x-why", "because") in error.value.trailing_metadata()
        assert client.code("None") == "UNIMPLEMENTED"


def test_what_the_application_is_told(edge):
    with Client(edge, edge.acme) as client:
        edge.app.calls.clear()
        client.call("Echo", b"", ("x-tenant-id", "globex"), ("x-bulkhead-token", "forged"), ("x-mine", "kept"))
    metadata = edge.app.calls[-1][1]
    assert metadata["x-tenant-id"] == "acme" and metadata["x-mine"] == "kept"
    assert metadata["x-bulkhead-token"].count(".") == 2 and "authorization" not in metadata


@pytest.mark.parametrize("bearer,code", [("Bearer x", "UNAUTHENTICATED"), (None, "OK")])
def test_credentials(edge, bearer, code):
    before = len(edge.app.calls)
    with Client(edge, edge.acme, bearer) as client:
        assert client.code() == code
    assert len(edge.app.calls) - before == (code == "OK")
    with Client(edge, edge.acme, edge.bearer(edge.globex).split(": ", 1)[1]) as client:
        assert client.code() == "UNAUTHENTICATED"


def test_each_protocol_has_its_endpoints(edge):
    assert {edge.ask(edge.acme).json()["name"] for _ in range(6)} == {"web"}, "plain requests never go to gRPC"
    with Client(edge, edge.globex) as client:
        assert client.code() == "UNAVAILABLE", "nor calls to what does not speak it"
    with Client(edge, edge.acme) as client:
        assert [client.code() for _ in range(6)] == ["OK"] * 6
    only = Tenant(9, "only", endpoints=[edge.app.endpoint])
    edge.put(only)
    assert edge.ask(only).code == "upstream-failed"
    with Client(edge, only) as client:
        assert client.code() == "OK"


def test_metered_while_it_runs_and_ended_with_its_tenant(edge):
    tenant = Tenant(11, "streamer", endpoints=[edge.app.endpoint])
    edge.put(tenant)
    edge.app.cancelled.clear()
    with Client(edge, tenant) as client, Client(edge, edge.acme) as other:
        stream = client.call("Stream", b"", kind="unary_stream", timeout=30)
        got = sum(len(next(stream)) for _ in range(50))
        assert got == 500000
        deadline = time.monotonic() + 5
        while edge.counters(tenant)["bytes_out"] < got and time.monotonic() < deadline:
            time.sleep(0.05)
        assert edge.counters(tenant)["bytes_out"] >= got, "within 5 s, while it runs"
        assert edge.in_flight(tenant) == 1
        edge.change(tenant, state="suspended")
        begun = time.monotonic()
        with pytest.raises(grpc.RpcError):
            next(stream)
        assert time.monotonic() - begun < 5
        assert edge.app.cancelled.wait(5), "the application learns of it"
        assert other.code() == "OK"
    assert edge.until_in_flight(tenant, 0) == 0


def test_bytes_in_of_a_stream(edge):
    tenant = Tenant(12, "sender", endpoints=[edge.app.endpoint])
    edge.put(tenant)
    release = threading.Event()

    def items():
        for _ in range(20):
            yield b"y" * 10000
        release.wait(20)

    with Client(edge, tenant) as client:
        future = client.channel.stream_unary("/t.App/Count").future(items(), metadata=client.metadata, timeout=30)
        deadline = time.monotonic() + 6
        while edge.counters(tenant)["bytes_in"] < 200000 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert edge.counters(tenant)["bytes_in"] >= 200000
        release.set()
        assert future.result() == b"200000"


def test_calls_wait_while_the_tenant_moves(edge):
    tenant = Tenant(13, "mover", endpoints=[edge.app.endpoint], state="moving")
    edge.put(tenant)
    with Client(edge, tenant) as client:
        future = client.channel.unary_unary("/t.App/Echo").future(b"later", metadata=client.metadata, timeout=20)
        time.sleep(0.5)
        assert not future.done()
        edge.change(tenant, state="active")
        assert future.result() == b"later"


def test_tls_with_verified_name(pki):
    edge = make_edge(pki / "ca.pem")
    app = App(edge, grpc.ssl_server_credentials([((pki / "good.key").read_bytes(), (pki / "good.crt").read_bytes())]))
    plain = App(edge)
    try:
        good = Tenant(1, "good", endpoints=[f"{app.endpoint};tls=app.example.com"])
        wrong = Tenant(2, "wrong", endpoints=[f"{app.endpoint};tls=other.example.com"])
        clear = Tenant(3, "clear", endpoints=[plain.endpoint])
        edge.put(good, wrong, clear)
        edge.start()
        with Client(edge, good) as one, Client(edge, wrong) as two, Client(edge, clear) as three:
            for _ in range(3):
                assert (one.code(), two.code(), three.code()) == ("OK", "UNAVAILABLE", "OK")
        assert len(app.calls) == 3
    finally:
        app.stop()
        plain.stop()
        edge.stop()


def test_second_try(edge):
    tenant = Tenant(14, "second", endpoints=[f"127.0.0.1:{edge.ports.take()};grpc;weight=1000", edge.app.endpoint])
    edge.put(tenant)
    with Client(edge, tenant) as client:
        assert client.code() == "OK"


def test_location_must_be_there():
    edge = Edge(workers=1, edit=lambda text: text.replace("bulkhead_grpc @grpc", "bulkhead_grpc @nowhere"))
    try:
        with pytest.raises(AssertionError, match="@nowhere"):
            edge.start()
    finally:
        edge.process = None
        edge.stop()
