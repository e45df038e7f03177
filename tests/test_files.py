import pytest

from tse_refine.files import replacing, write_text


def test_a_file_is_replaced_only_when_it_is_whole(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    write_text(path, "old")

    def interrupted():
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]
    write_text(path, "new")
    assert path.read_text() == "new"


def test_text_is_written_in_utf_8_whatever_the_locale(tmp_path):
    write_text(tmp_path / "file.csv", "Hörnchen\n")
    assert (tmp_path / "file.csv").read_bytes() == "Hörnchen\n".encode()


def test_the_old_file_is_there_until_the_new_one_is(tmp_path):
    path = tmp_path / "file.txt"
    write_text(path, "old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.parent == path.parent  # one file system, so that the move happens at once
    assert path.read_text() == "new"
