"""The matrix: which rows there are, and what its page says of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.matrix.record import Result, load_results, page, read_suites, save_results
from tests.matrix.rows import MatrixError, Row, load_rows

SUITE = """<testsuites><testsuite>
<testcase name="a"><properties><property name="figure: page size" value="16384 B (= 16384)"/></properties></testcase>
<testcase name="b"><failure message="no"/></testcase>
<testcase name="c"><error message="no"/></testcase>
<testcase name="d"><skipped/></testcase>
</testsuite></testsuites>"""
RESULT = Result("2026-11-21", "0a1b2c3", "a machine", 18.5, True, 90, 0, 2, {"page size": "16384 B", "other": "1"})


def test_the_matrix_holds_every_kind_of_board_and_every_swap() -> None:
    rows = load_rows()
    assert {"zero2w", "armhf", "pi3", "pi4", "pi5"} <= {row.board for row in rows}
    assert {"zram", "zswap", "file"} <= {row.swap for row in rows}
    assert max(row.kills for row in rows) >= 20
    assert min(row.kills for row in rows) >= 3


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ('board = "zero3w"\nswap = "zram"\nkills = 1', "there is no board 'zero3w'; known: zero2w"),
        ('board = "zero2w"\nswap = "ramdisk"\nkills = 1', "swap is 'ramdisk'; expected one of zram"),
        ('board = "zero2w"\nkills = 1', "missing swap; a row has board, swap, kills, system"),
        ('board = "zero2w"\nswap = "zram"\nkills = 1\ntier = "full"', "unknown tier"),
    ],
)
def test_a_row_that_cannot_be_run_is_named(tmp_path: Path, row: str, said: str) -> None:
    path = tmp_path / "matrix.toml"
    path.write_text(f"[[row]]\n{row}\n", "utf-8")
    with pytest.raises(MatrixError, match=f"matrix.toml, row 1: {said}"):
        load_rows(path)


def test_two_rows_of_one_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "matrix.toml"
    path.write_text('[[row]]\nboard = "zero2w"\nswap = "zram"\nkills = 1\n' * 2, "utf-8")
    with pytest.raises(MatrixError, match="row 2: zero2w-zram is there already"):
        load_rows(path)


def test_suites_are_summed_with_their_figures(tmp_path: Path) -> None:
    for name in ("1.xml", "2.xml"):
        (tmp_path / name).write_text(SUITE, "utf-8")
    found = read_suites(tmp_path.glob("*.xml"))
    assert (found.tests, found.failed, found.skipped) == (8, 4, 2)
    assert found.figures == {"page size": "16384 B (= 16384)"}


def test_the_page_shows_what_ran_what_failed_and_what_never_ran(tmp_path: Path) -> None:
    file = tmp_path / "matrix.json"
    save_results(file, {"pi5-zram": RESULT, "pi4-zram": RESULT._replace(passed=False, failed=1)})
    shown = page([Row(board, "zram", 3) for board in ("pi5", "pi4", "pi3")], load_results(file))
    assert "| pi5-zram | passed | 90 | 0 | 2 | 18.5 | 2026-11-21 | 0a1b2c3 |" in shown
    assert "| pi4-zram | **failed** | 90 | 1 |" in shown
    assert "| pi3-zram | not run |" in shown
    assert "- page size: 16384 B" in shown
    assert "other" not in shown
