from __future__ import annotations

import io
import math
import os
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import ToyFamily, make_problem

from windvane.models import FAMILIES
from windvane.search.workers.messages import pack_objects, receive, send, session_objects, unpack_objects

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.dictionaries(st.text(), VALUES, max_size=3), max_size=4))
def test_messages_arrive_in_order_and_unchanged(messages: list[dict[str, object]]) -> None:
    stream = io.BytesIO()
    for message in messages:
        send(stream, message)
    stream.seek(0)
    assert [receive(stream) for _ in messages] == messages
    assert receive(stream) is None


def test_infinite_seconds_arrive() -> None:
    stream = io.BytesIO()
    send(stream, {"seconds": math.inf, "loss": -math.inf})
    stream.seek(0)
    assert receive(stream) == {"seconds": math.inf, "loss": -math.inf}


def test_a_torn_last_line_counts_as_gone() -> None:
    stream = io.BytesIO()
    send(stream, {"a": 1})
    send(stream, {"b": 2})
    torn = io.BytesIO(stream.getvalue()[:-1])
    assert receive(torn) == {"a": 1}
    assert receive(torn) is None


def test_writing_to_nobody_is_an_os_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    stream = os.fdopen(writing, "wb")
    with pytest.raises(OSError):
        send(stream, {"a": 1})
    with pytest.raises(OSError):
        stream.close()  # what was not written is still in its buffer


def test_functions_of_a_script_travel_by_value() -> None:
    script = (
        "from windvane.search.workers.messages import pack_objects, send\nimport sys\n"
        "class Twice:\n    def __call__(self, x):\n        return scale * x\nscale = 2\n"
        "send(sys.stdout.buffer, {'objects': pack_objects({'own': Twice(), 'cube': lambda x: x ** 3})})"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    message = receive(io.BytesIO(done.stdout))
    assert message is not None
    objects = unpack_objects(message["objects"])
    assert (objects["own"](21), objects["cube"](2)) == (42, 8)


def test_packed_objects_are_one_line_of_text() -> None:
    assert pack_objects(list(range(10_000))).isascii()
    assert "\n" not in pack_objects(list(range(10_000)))
    assert unpack_objects(pack_objects([1, None])) == [1, None]


def test_workers_get_what_they_cannot_import() -> None:
    own = ToyFamily("linear")  # by the name of a family of windvane's
    metric = make_problem().metric
    assert session_objects(metric, {**FAMILIES, "linear": own}) == {"metric": metric, "families": {"linear": own}}
