import csv

import numpy as np
import pytest

from tse_refine.errors import InputError, MissingFileError
from tse_refine.files import tables
from tse_refine.files.tables import Table, read_columns, read_csv, write_csv

COUNTS = Table(
    ("class", "name", "n"), [("a", "b", "1"), ("longer", "c", "20"), ("all", "", "21")], "n: mixtures", 2, (0, 2)
)
SPECIAL = Table(("δ", "λ < 1"), [("50 % & R|B", "$x_1$ > 2 [1, 3]")])


def test_text_is_aligned_with_a_line_for_each_rule():
    assert COUNTS.text().splitlines() == [
        "class   name   n",
        "----------------",
        "a       b      1",
        "longer  c     20",
        "----------------",
        "all           21",
        "",
        "n: mixtures",
    ]


def test_markdown_escapes_the_separator_only():
    assert SPECIAL.markdown().splitlines()[0] == "| δ | λ < 1 |"
    assert SPECIAL.markdown().splitlines()[2] == r"| 50 % & R\|B | $x_1$ > 2 [1, 3] |"
    assert COUNTS.markdown().splitlines()[1] == "| --- | --- | ---: |"
    assert COUNTS.markdown().endswith("|\n\nn: mixtures\n")


def test_latex_escapes_special_characters_and_has_rules_between_rows():
    lines = SPECIAL.latex().splitlines()
    assert lines[2] == r"$\delta$ & $\lambda$ \textless{} 1 \\"
    assert lines[4] == r"50 \% \& R\textbar{}B & \$x\_1\$ \textgreater{} 2 [1, 3] \\"
    assert [line for line in COUNTS.latex().splitlines() if "rule" in line] == [
        r"\toprule", r"\midrule", r"\midrule", r"\bottomrule",
    ]  # fmt: skip
    assert COUNTS.latex().splitlines()[0] == r"\begin{tabular}{llr}"
    assert COUNTS.latex().splitlines()[-1] == "% n: mixtures"


def test_latex_sets_intervals_small():
    assert r"-0.5 {\scriptsize[-1.0, 0.1]} \\" in Table(("x", "y"), [("a", "-0.5 [-1.0, 0.1]")]).latex()


def test_html_escapes_and_groups_rows_between_rules():
    assert "<th>λ &lt; 1</th>" in SPECIAL.html()
    assert '<td class="left">50 % &amp; R|B</td><td>$x_1$ &gt; 2 [1, 3]</td>' in SPECIAL.html()
    assert "note" not in SPECIAL.html()
    assert COUNTS.html().count("<tbody>") == COUNTS.html().count("</tbody>") == 2
    assert COUNTS.html().endswith('<p class="note">n: mixtures</p>')


@pytest.fixture
def path(tmp_path):
    return tmp_path / "table.csv"


def read(path, **options):
    return read_csv(path, ("name", "label"), "Give the table.", **options)


def test_floats_have_five_decimals_and_nan_is_an_empty_cell(path):
    row = {"a": 1.0, "b": np.float32(0.5), "c": float("nan"), "d": 7, "e": "x,y", "f": np.float64("nan")}
    write_csv(path, tuple(row), [row])
    assert path.read_bytes() == b'a,b,c,d,e,f\r\n1.00000,0.50000,,7,"x,y",\r\n'


def test_a_failing_row_leaves_the_older_table_whole(path):
    write_csv(path, ("a",), [{"a": 1.0}])

    def rows():
        yield {"a": 2.0}
        raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        write_csv(path, ("a",), rows())
    assert path.read_text().split() == ["a", "1.00000"]
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("delimiter", [",", "\t"])
def test_a_written_table_is_read_back(path, delimiter):
    rows = [{"name": "a\tb, c", "label": 'the "Rex"'}, {"name": "umlaut ü", "label": ""}]
    write_csv(path, ("name", "label"), rows, delimiter)
    assert read(path, delimiter=delimiter) == rows


FORMULAS = [
    "=1+1",
    '=HYPERLINK("http://elsewhere.example")',
    "+1+1",
    "-1+1",
    "@SUM(1)",
    " =1+1",
    "\t=1+1",
    "\tx",
]
OTHERS = ["dog", "-0.50000", "+3", "1e-5", "-1e+05", "-inf", "", "a=b", "a-b", "it's", "'quoted'", "dog's -3"]


@pytest.mark.parametrize("text", [*FORMULAS, "＝1", "-", "--", "+dog", "'=1+1", "''@x", "' -x", "'-3"])
def test_text_that_a_spreadsheet_would_compute_is_written_as_text_and_read_back(path, text):
    write_csv(path, ("name", text), [{"name": text, text: -1.5}])
    with open(path, newline="") as file:
        head, cells = csv.reader(file)
    assert (head, cells) == (["name", f"'{text}"], [f"'{text}", "-1.50000"])
    assert read_csv(path, ("name", text)) == [{"name": text, text: "-1.50000"}]
    columns = read_columns(path, {"name": str, text: float}, {})
    assert (columns["name"].tolist(), columns[text].tolist()) == ([text], [-1.5])


@pytest.mark.parametrize("text", OTHERS)
def test_other_text_and_numbers_as_text_are_written_as_they_are(path, text):
    write_csv(path, ("name", "label"), [{"name": text, "label": "x"}])
    with open(path, newline="") as file:
        assert list(csv.reader(file))[1] == [text, "x"]
    assert read(path) == [{"name": text, "label": "x"}]


def test_rows_come_in_order_with_all_their_columns(path):
    path.write_text('name,label,note\nb,"x,y",\na,z,twice\n\n')
    assert read(path) == [
        {"name": "b", "label": "x,y", "note": ""},
        {"name": "a", "label": "z", "note": "twice"},
    ]


def test_a_byte_order_mark_is_not_part_of_the_first_column(path):
    path.write_text("name,label\nä,x\n", encoding="utf-8-sig")
    assert read(path) == [{"name": "ä", "label": "x"}]


def test_other_delimiters(path):
    path.write_text("name\tlabel\na,b\tx\n")
    assert read(path, delimiter="\t") == [{"name": "a,b", "label": "x"}]


def test_a_value_may_be_empty_unless_its_column_must_be_filled(path):
    path.write_text("name,label\na,\n")
    assert read(path, filled=("name",)) == [{"name": "a", "label": ""}]
    with pytest.raises(InputError, match=r"table\.csv, line 2: label is empty; .* Give the table\."):
        read(path, filled=("name", "label"))


def test_the_last_line_may_lack_its_end_only_where_others_made_the_table(path):
    path.write_text("name,label\na,b\nc,4")  # the 4 may have been a 42
    assert read(path, final_newline=False)[1] == {"name": "c", "label": "4"}
    with pytest.raises(InputError, match=r"table\.csv: its last line does not end: .* Give the table\."):
        read(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the columns name, label are missing; found an empty file"),
        (b"name;label\na;b\n", "the columns name, label are missing; found name;label"),
        (b"name,kind\na,b\n", "the columns label are missing; found name, kind"),
        (b"name,label\n\na,b\nc\n", "line 4: label is missing; the line breaks off early"),
        (b"name,label\na,b,c\n", "line 2: has 3 cells, the header 2; quote"),
        (b"name,label\na,b\nc,d\na,e\n", "line 4: name 'a' is in line 2 too"),
        (b"name,label\na,\x00b\n", "it contains a NUL byte"),
        (b'name,label\na,"b\n', "unexpected end of data"),
        ("name,label\nä,b\n".encode("latin-1"), "is not a table in UTF-8 .* save it as UTF-8"),
        (bytes(range(256)), "is not a table in UTF-8"),
    ],
)
def test_a_table_that_is_not_complete_is_rejected_with_file_and_line(path, content, message):
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"table\.csv.*{message}.* Give the table\.$"):
        read(path, key="name")


@pytest.mark.parametrize("read", [read_csv, lambda path, columns: read_columns(path, dict.fromkeys(columns, str), {})])
def test_a_column_that_is_there_twice_is_rejected(path, read):
    path.write_text("label,path,label\ndog,a.wav,cat\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"the column label is there twice; remove one"):
        read(path, ["path", "label"])


def test_a_missing_table_and_a_folder_are_rejected_with_the_remedy(path):
    with pytest.raises(MissingFileError, match=r"table\.csv does not exist\. Give the table\.") as error:
        read(path)
    assert error.value.path == path
    path.mkdir()
    with pytest.raises(InputError, match=r"table\.csv: cannot be read .*Give the table\."):
        read(path)


KINDS = {"mixture": int, "threshold": str, "snri_db": float}


def test_columns_are_arrays_of_their_types(path):
    path.write_text("mixture,threshold,snri_db,other\n3,none,1.5,x\n7,0.3,,y\n")
    columns = read_columns(path, KINDS, {"absent": float})
    assert list(columns) == list(KINDS)
    np.testing.assert_array_equal(columns["mixture"], [3, 7])
    np.testing.assert_array_equal(columns["snri_db"], [1.5, np.nan])
    assert columns["threshold"].tolist() == ["none", "0.3"]
    assert [columns[name].dtype for name in KINDS] == [np.int64, object, np.float64]


def test_optional_columns_are_read_where_they_are_present(path):
    path.write_text("mixture,added\n3,1.5\n")
    assert read_columns(path, {"mixture": int}, {"added": float})["added"].tolist() == [1.5]


@pytest.mark.parametrize("rows", [0, 6, 7])
def test_long_tables_are_read_in_parts(path, monkeypatch, rows):
    monkeypatch.setattr(tables, "_ROWS_AT_ONCE", 3)
    path.write_text("mixture\n" + "".join(f"{row}\n" for row in range(rows)))
    assert read_columns(path, {"mixture": int}, {})["mixture"].tolist() == list(range(rows))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("mixture,threshold\n3,none\n", "the columns snri_db are missing"),
        ("mixture,threshold,snri_db\n3,none,1.5\n7,none,much\n", "snri_db: could not convert string to float: 'much'"),
        ("mixture,threshold,snri_db\n3.5,none,1.5\n", "mixture: invalid literal for int.*'3.5'"),
        (f"mixture,threshold,snri_db\n{10**30},none,1.5\n", "mixture: .*too large"),
        ("mixture,threshold,snri_db\n3,none\n", "line 2: snri_db is missing"),
        ("mixture,threshold,snri_db\n3,none,1.5", "its last line does not end"),
    ],
)
def test_columns_that_are_not_complete_are_rejected(path, content, message):
    path.write_text(content)
    with pytest.raises(InputError, match=f"{path.name}.*{message}.* Test again."):
        read_columns(path, KINDS, {}, "Test again.")
