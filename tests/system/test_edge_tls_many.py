"""Thousands of certificates: each name gets its own, memory is bounded, and one more or less needs no reload."""
import pathlib
import sys
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import tlsfix  # noqa: E402
from tlsfix import UNRECOGNIZED_NAME, client_hello, connect, name_list, shown  # noqa: E402

COUNT = 2000
KIB_EACH = 24  # parsed, with its key and its chain; about 7 were seen


@pytest.fixture(scope="module")
def edge():
    edge = tlsfix.start({})
    yield edge
    edge.stop()


def all_shown(edge, names):
    made, found = tlsfix.context(edge), {}
    for name in names:
        with connect(edge, name, made) as connection:
            found[name] = tlsfix.serial(connection)
    return found


def test_two_thousand_certificates(edge, capsys):
    worker, = edge.workers()
    assert shown(edge, "localhost") == edge.base_serial
    before, begun = tlsfix.rss(worker), time.monotonic()
    serials = tlsfix.put_many(edge, [f"d{i}.example" for i in range(COUNT)])
    committed = time.monotonic()
    assert all_shown(edge, serials) == serials
    cold, filled = time.monotonic(), tlsfix.rss(worker)
    assert all_shown(edge, serials) == serials
    warm, after = time.monotonic(), tlsfix.rss(worker)
    with capsys.disabled():
        print(f"\n{COUNT} certificates: {(filled - before) / COUNT:.1f} KiB each, {after - filled} KiB more in a second round; "
              f"handshake with parsing {1000 * (cold - committed) / COUNT:.2f} ms, parsed {1000 * (warm - cold) / COUNT:.2f} ms, "
              f"both with a client in Python; issued and committed in {committed - begun:.1f} s")
    assert filled - before < COUNT * KIB_EACH
    assert after - filled < COUNT * KIB_EACH / 10, "memory grows with handshakes"

    # one added, replaced and removed among them
    number = tlsfix.put(edge, "one-more.example")
    assert shown(edge, "one-more.example") == number
    assert tlsfix.put(edge, "d7.example") == shown(edge, "d7.example") != serials["d7.example"]
    tlsfix.remove(edge, "d8.example")
    assert tlsfix.answer_to(edge, client_hello((0, name_list(b"d8.example")))) == UNRECOGNIZED_NAME
    assert shown(edge, "d9.example") == serials["d9.example"]
    assert edge.workers() == [worker]


def test_what_is_replaced_over_and_over_leaves_nothing_behind(edge):
    worker, = edge.workers()

    def round_of(count):
        for _ in range(count):
            tlsfix.put(edge, "often.example")
            assert tlsfix.answer_to(edge, client_hello((0, name_list(b"often.example")))) == "hello"
        return tlsfix.rss(worker)

    first = round_of(30)
    assert round_of(60) - first < 60 * 2, "KiB: less than a certificate for each"
