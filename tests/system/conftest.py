"""Fixtures: one stack for tests that mostly read, fresh ones for tests that break things."""
import os
import pathlib
import sys

import pytest

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from stack import BUILD, Stack  # noqa: E402


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    if outcome.get_result().failed:
        for parent in item.listchain():
            parent.bulkhead_failed = True


def _failed(request):
    return getattr(request.node, "bulkhead_failed", False)


def _close(stack, request):
    left = stack.close(keep_logs=_failed(request))
    assert not left, f"`bulkhead down` left processes behind: {left}"


def _start(request, name):
    assert os.access(BUILD / "bin/bulkhead", os.X_OK), (
        f"{BUILD}/bin/bulkhead is missing; run tools/test, or tools/build {BUILD} -Dfailpoints=true")
    stack = Stack(name)
    try:
        stack.up()
    except BaseException:
        stack.close(keep_logs=True)
        raise
    return stack


@pytest.fixture(scope="session")
def stack(request):
    """The product with the example tenants; leave it as you found it."""
    stack = _start(request, "shared")
    yield stack
    _close(stack, request)


@pytest.fixture(scope="module")
def module_stack(request):
    """A stack of this file's own."""
    stack = _start(request, request.module.__name__.removeprefix("test_"))
    yield stack
    _close(stack, request)


@pytest.fixture
def new_stack(request):
    """A stack of this test's own, not started: stack.up() is the test's."""
    stack = Stack("fresh")
    yield stack
    _close(stack, request)
