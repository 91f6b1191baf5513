"""Which cells a spec has: designs, seeds, and what is refused with its line."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distvi.errors import InputError
from distvi.studies.cells import Cell, cells_of, place_of, seed_of
from distvi.studies.spec import SpecFile, line_of
from tests.small_study import write_study


def cells(tmp_path: Path, blocks: str, *, seeds: int = 1) -> tuple[Cell, ...]:
    return cells_of(SpecFile(write_study(tmp_path / "s.toml", blocks, seeds=seeds)))


def settings(found: tuple[Cell, ...]) -> list[tuple[object, ...]]:
    return [tuple(cell.settings.values()) for cell in found]


def test_a_grid_has_all_combinations(tmp_path: Path) -> None:
    blocks = '[[blocks]]\nname = "b"\naxes = { scheme = ["sync", "async"], workers = [1, 3] }'
    found = cells(tmp_path, blocks)
    assert settings(found) == [("sync", 1), ("sync", 3), ("async", 1), ("async", 3)]


def test_one_at_a_time_varies_each_axis_around_the_base(tmp_path: Path) -> None:
    blocks = '[[blocks]]\nname = "b"\ndesign = "one-at-a-time"\n' + (
        "axes = { workers = [2, 4], batch_size = [8, 16, 32] }"
    )
    assert settings(cells(tmp_path, blocks)) == [(2, 16), (4, 16), (2, 8), (2, 32)]


def test_a_list_has_what_it_lists(tmp_path: Path) -> None:
    blocks = """
[[blocks]]
name = "b"
design = "list"
fixed = { scheme = "backup" }
cells = [{ workers = 3, "scheme_options.n" = 2 }, { workers = 4 }]
"""
    assert [cell.settings for cell in cells(tmp_path, blocks)] == [
        {"scheme": "backup", "workers": 3, "scheme_options.n": 2},
        {"scheme": "backup", "workers": 4},
    ]


def test_what_two_blocks_ask_for_is_there_once(tmp_path: Path) -> None:
    blocks = """
[[blocks]]
name = "first"
axes = { workers = [2, 4] }
[[blocks]]
name = "second"
fixed = { workers = 2 }
axes = { batch_size = [16, 32] }
"""
    found = cells(tmp_path, blocks, seeds=2)
    assert [(cell.block, cell.number) for cell in found] == [
        ("first", 0),
        ("first", 1),
        ("first", 0),
        ("first", 1),
        ("second", 0),
        ("second", 1),
    ]


def test_a_new_cell_changes_no_other(tmp_path: Path) -> None:
    before = cells(tmp_path, '[[blocks]]\nname = "b"\naxes = { workers = [2, 4] }', seeds=2)
    blocks = """
[[blocks]]
name = "new"
axes = { scheme = ["async", "sync"] }
[[blocks]]
name = "b"
axes = { workers = [3, 4, 2] }
"""
    after = {cell.id: cell for cell in cells(tmp_path, blocks, seeds=3)}
    for cell in before:
        assert after[cell.id].config == cell.config


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=3), max_size=4))
def test_a_seed_does_not_depend_on_the_order_of_settings(table: dict[str, int | str]) -> None:
    turned = dict(reversed(table.items()))
    assert seed_of(table, 1) == seed_of(turned, 1) != seed_of(table, 2)
    assert 0 <= seed_of(table, 0) < 2**31


def test_cells_of_one_shape_differ_in_seed_and_learning_rate_alone(tmp_path: Path) -> None:
    blocks = '[[blocks]]\nname = "b"\naxes = { learning_rate = [0.1, 0.01], workers = [1, 2] }'
    found = cells(tmp_path, blocks, seeds=3)
    assert len({cell.shape for cell in found}) == 2
    assert len({cell.id for cell in found}) == len(found) == 12


def test_settings_of_the_base_engine_are_no_contradiction_for_another(tmp_path: Path) -> None:
    blocks = '[[blocks]]\nname = "b"\nfixed = { engine = "mesh", workers = 1 }\n' + (
        "axes = { batch_size = [8, 16] }"
    )
    assert all(cell.config.engine.kind == "mesh" for cell in cells(tmp_path, blocks))


def test_several_rules_are_one_value(tmp_path: Path) -> None:
    blocks = '[[blocks]]\nname = "b"\naxes = { rules = ["top-k", ["local-steps", "top-k"]] }'
    found = cells(tmp_path, blocks)
    assert settings(found) == [("top-k",), ("local-steps+top-k",)]
    assert found[1].config.algorithm.rules == ("local-steps", "top-k")


@pytest.mark.parametrize(
    ("blocks", "line", "words"),
    [
        ("axes = { wrokers = [1, 2] }", 4, "unknown setting 'wrokers' (did you mean 'workers'?)"),
        ("axes = { seed = [1, 2] }", 4, "seeds = 3"),
        ("axes = { workers = [0, 2] }", 4, "workers=0"),
        ('axes = { workers = [2] }\nfixed = { engine = "mesh", servers = 2 }', 5, "servers"),
        ('axes = { learning_rate = ["tuned"] }', 2, "there is no [tuning]"),
        ("axes = {}", 2, "there are no axes"),
        ("axis = { workers = [2] }", 4, "unknown key"),
        ('axes = { scheme = ["backup"] }\nfixed = { "scheme_options.n" = 9 }', 5, "scheme"),
        ('axes = { exchange = ["all-reduce"] }\nfixed = { scheme = "async" }', 5, "all-reduce"),
        ("axes = { workers = [2] }\nfixed = { workers = 3 }", 2, "both fixed and an axis"),
    ],
)
def test_what_is_wrong_is_refused_with_its_line(
    tmp_path: Path, blocks: str, line: int, words: str
) -> None:
    before = write_study(tmp_path / "s.toml", "").read_text().count("\n")
    text = f'\n[[blocks]]\nname = "b"\n{blocks}\n'
    with pytest.raises(InputError) as caught:
        cells(tmp_path, text)
    message = str(caught.value)
    assert words in message, message
    assert f"s.toml, line {before + line}: " in message, (message, before)
    assert "\n" not in message


@pytest.mark.parametrize(
    ("wrong", "right", "words"),
    [
        ("batch_size = 16", "batch_sise = 16", "batch_sise"),
        ("updates = 6", "updates = 6\nexamples = 5", "choose one"),
        ("batch_size = 16", "batch_size = 16\nepochs = 2", "how long"),
        ("batch_size = 16", "seed = 16", "seeds = 3"),
        ("[base.training]", "[base.trainig]", "trainig"),
        ('dataset = "digits"', "", "no data set"),
    ],
)
def test_a_wrong_base_is_refused_with_its_line(
    tmp_path: Path, wrong: str, right: str, words: str
) -> None:
    path = write_study(tmp_path / "s.toml")
    path.write_text(path.read_text().replace(wrong, right))
    with pytest.raises(InputError, match=r"s\.toml, line \d+: ") as caught:
        cells_of(SpecFile(path))
    assert words in str(caught.value)


def test_places_of_settings() -> None:
    assert place_of("workers") == ("engine", "workers")
    assert place_of("engine") == ("engine", "kind")
    assert place_of("rule_options.steps") == ("algorithm", "rule_options", "steps")
    assert place_of("model.width") == ("model", "width")
    assert place_of("nothing") is None
    assert place_of("nothing.at_all") is None


def test_lines_within_tables_of_lists() -> None:
    text = "a = 1\n[b]\nc = 2\n[[d]]\nx = 1\n[d.e]\ny = 2\n[[d]]\nx = { z = 1 }\n[d.e]\ny = 3\n"
    assert line_of(text, ["b", "c"]) == 3
    assert line_of(text, ["d", "0", "x"]) == 5
    assert line_of(text, ["d", "1", "x", "z"]) == 9
    assert line_of(text, ["d", "1", "e", "y"]) == 11
    assert line_of(text, ["d", "0", "e", "y"]) == 7
    assert line_of(text, ["nowhere"]) == 1
