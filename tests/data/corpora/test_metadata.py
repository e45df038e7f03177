import pytest

from tse_refine.data.corpora.metadata import read_table
from tse_refine.errors import InputError


@pytest.fixture
def table(tmp_path):
    return tmp_path / "table.csv"


def read(table, **options):
    return read_table(table, ("name", "label"), "Give the table.", **options)


def test_rows_come_in_order_with_what_else_they_hold(table):
    table.write_text('name,label,note\nb,"x,y",\na,z,twice\n\n')
    assert read(table) == [
        {"name": "b", "label": "x,y", "note": ""},
        {"name": "a", "label": "z", "note": "twice"},
    ]


def test_a_byte_order_mark_is_no_part_of_the_first_column(table):
    table.write_text("name,label\nä,x\n", encoding="utf-8-sig")
    assert read(table) == [{"name": "ä", "label": "x"}]


def test_other_delimiters(table):
    table.write_text("name\tlabel\na,b\tx\n")
    assert read(table, delimiter="\t") == [{"name": "a,b", "label": "x"}]


def test_a_value_may_be_empty_only_where_that_is_said(table):
    table.write_text("name,label\na,\n")
    assert read(table, may_be_empty=("label",)) == [{"name": "a", "label": ""}]
    with pytest.raises(InputError, match=r"table\.csv, line 2: label is empty"):
        read(table)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "the columns name, label are missing; found an empty file. Give the table."),
        (b"name;label\na;b\n", "the columns name, label are missing; found name;label. Give the table."),
        (b"name,kind\na,b\n", "the columns label are missing; found name, kind. Give the table."),
        (b"name,label\n\na,b\nc\n", "line 4: label is missing; the line breaks off early"),
        (b"name,label\na,b,c\n", "line 2: has more values than the header has columns"),
        (b"name,label\na,b\nc,d\na,e\n", "line 4: name 'a' is in line 2 too"),
        ("name,label\nä,b\n".encode("latin-1"), "not a table in UTF-8 .* Save it as UTF-8"),
    ],
)
def test_a_table_that_is_not_whole_is_refused_by_name_and_line(table, text, said):
    table.write_bytes(text)
    with pytest.raises(InputError, match=rf"table\.csv.*{said}"):
        read(table, key="name")


def test_a_missing_table_and_a_folder_are_refused_with_the_remedy(table):
    with pytest.raises(InputError, match=r"table\.csv: there is no such file\. Give the table\."):
        read(table)
    table.mkdir()
    with pytest.raises(InputError, match=r"table\.csv: cannot be read .*Give the table\."):
        read(table)
