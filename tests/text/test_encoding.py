"""Text that databases and endpoints take."""

from __future__ import annotations

from fairlead.text.encoding import storable


def test_nothing_that_a_database_refuses_is_left() -> None:
    assert storable("a\0b\ud800c") == "a�b�c"
