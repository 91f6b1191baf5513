"""The immutable table behaves as a dict would, and earlier tables never change."""

from hypothesis import given, settings
from hypothesis import strategies as st

from distvi.protocol import Table

keys = st.integers(-50, 50)


@settings(derandomize=True, deadline=None, database=None, max_examples=50)
@given(changes=st.lists(st.tuples(keys, st.none() | st.integers()), max_size=60))
def test_a_table_is_a_dict_whose_past_stays(changes: list[tuple[int, int | None]]) -> None:
    table, model = Table(), {}
    history = [(table, {})]
    for key, value in changes:
        if value is None:
            table = table.without(key)
            model.pop(key, None)
        else:
            table = table.set(key, value)
            model[key] = value
        history.append((table, dict(model)))
    for kept, expected in history:
        assert dict(kept) == expected
        assert len(kept) == len(expected)
        assert all((key in kept) == (key in expected) for key in range(-50, 51, 3))
        assert all(kept.get(key, -1) == expected.get(key, -1) for key in range(-50, 51, 3))


def test_equal_entries_make_equal_tables() -> None:
    assert Table().set(1, "a").set(2, "b") == Table().set(2, "b").set(3, "c").without(3).set(1, "a")
    assert "1" not in Table().set(1, "a")
