import pytest

from tse_refine.files.tables import summary_table

TABLE = """\
SNRi in dB by condition (active:inactive); att: attenuation in dB
threshold  (1:0)  (1:3)  (0:1) att
----------------------------------
none       10.12  -1.50       3.46
0.3         9.90   8.00     120.00
oracle     10.12  10.12          -
----------------------------------
mixtures      12     12          9"""
VALUES = {
    "none": (10.123, -1.5, 3.456),
    "0.3": (9.9, 8.0, 120.0),
    "oracle": (10.123, 10.123, ""),
}
CONDITIONS = ((1, 0, 12), (1, 3, 12), (0, 1, 9))


def row(active, inactive, threshold, n, value, other=""):
    snri, attenuation = (value, other) if active else (other, value)
    head = {"active": active, "inactive": inactive, "threshold": threshold, "n": n}
    return {**head, "snri_db": snri, "attenuation_db": attenuation, "snri_db_low": -99.0, "attenuation_db_low": -99.0}


@pytest.fixture
def rows():
    return [
        row(*condition[:2], threshold, condition[2], values[column])
        for column, condition in enumerate(CONDITIONS)
        for threshold, values in VALUES.items()
    ]


def test_layout(rows):
    assert summary_table(rows) == TABLE


def test_numbers_and_text_give_the_same_table(rows):
    assert summary_table([{name: str(value) for name, value in row.items()} for row in rows]) == TABLE


def test_a_cell_that_is_not_a_number_is_empty_too(rows):
    # in memory a cell without a value is NaN, in summary.csv it is ""; the console and the report must agree
    missing = [{name: float("nan") if value == "" else value for name, value in row.items()} for row in rows]
    assert summary_table(missing) == TABLE


def test_columns_and_rows_come_in_the_order_of_the_summary(rows):
    lines = summary_table(rows[::-1]).splitlines()
    assert lines[1].split() == ["threshold", "(0:1)", "att", "(1:3)", "(1:0)"]
    assert [line.split()[0] for line in lines[3:-2]] == ["oracle", "0.3", "none"]


def test_all_lines_below_the_title_are_equally_long(rows):
    rows += [row(10, 0, name, 12345678, value) for name, value in (("none", -120.0), ("0.3", 0.0), ("oracle", 1e3))]
    assert len({len(line) for line in summary_table(rows).splitlines()[1:]}) == 1
