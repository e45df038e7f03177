import os

import pytest

from tse_refine.errors import InputError
from tse_refine.extraction.outputs import plan_outputs


@pytest.fixture
def folder(record, tmp_path, monkeypatch):
    """A folder with recordings, and the working directory."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.wav", "b.flac", "set/a.wav", "set/deep/c.ogg", "other/a.wav"):
        record(name, subtype=None)
    (tmp_path / "odd.voc").write_bytes((tmp_path / "a.wav").read_bytes())
    return tmp_path


def plan(folder, inputs, output, **options):
    plans = plan_outputs([folder / name for name in inputs], folder / output, ("dog", "car/horn"), **options)
    return [[path.relative_to(folder).as_posix() for path in outputs.paths()] for outputs in plans]


@pytest.mark.parametrize(
    ("inputs", "output", "options", "written"),
    [
        (["a.wav"], "out.wav", {}, [["out.wav"]]),
        (["a.wav"], "new/out.FLAC", {}, [["new/out.FLAC"]]),
        (["a.wav"], "out.wav", {"file_format": "rf64"}, [["out.wav"]]),
        (["a.wav"], "out.aif", {"residual": True}, [["out.aif", "out.residual.aif"]]),
        (["a.wav"], "out.wav", {"each": True}, [["out.dog.wav", "out.car_horn.wav"]]),
        (["a.wav"], "out", {"file_format": "ogg"}, [["out/a.ogg"]]),
        (["a.wav"], "other", {"residual": True, "overwrite": True}, [["other/a.wav", "other/a.residual.wav"]]),
        (["a.wav", "b.flac"], "out", {}, [["out/a.wav"], ["out/b.flac"]]),
        (["a.wav", "b.flac"], "out", {"file_format": "mp3"}, [["out/a.mp3"], ["out/b.mp3"]]),
        (["a.wav", "set"], "set/out", {"file_format": "flac"}, None),
        (["set", "b.flac"], "out", {}, [["out/a.wav"], ["out/deep/c.ogg"], ["out/b.flac"]]),
        (["set"], "out", {}, [["out/a.wav"], ["out/deep/c.ogg"]]),
        (["odd.voc"], "out", {}, [["out/odd.voc.wav"]]),
        (["a.wav", "b.flac", "set/../a.wav"], "out", {}, [["out/a.wav"], ["out/b.flac"]]),
        (["a.wav", "a.wav"], "out.wav", {}, [["out.wav"]]),
        (["set", "set/deep/c.ogg"], "out", {}, [["out/a.wav"], ["out/deep/c.ogg"]]),
    ],
)
def test_outputs_are_named_after_output_and_input(folder, inputs, output, options, written):
    if written is None:  # set/a.wav and a.wav would both become set/out/a.flac
        with pytest.raises(InputError, match=r"a\.flac would be written twice"):
            plan(folder, inputs, output, **options)
    else:
        assert plan(folder, inputs, output, **options) == written


def test_the_format_is_that_of_the_suffix_or_of_the_option(folder):
    def file_format(output, **options):
        return plan_outputs([folder / "a.wav"], folder / output, ("dog",), **options)[0].file_format

    assert file_format("out.oga") == "ogg"
    assert file_format("out.wav", file_format="rf64") == "rf64"
    assert file_format("out", file_format="caf") == "caf"
    assert file_format("out") == "wav"


@pytest.mark.parametrize(
    ("inputs", "output", "options", "message"),
    [
        (["a.wav"], "out.xyz", {}, r"out\.xyz does not have the suffix of a format; expected is \.wav"),
        (["a.wav"], "out.wav", {"file_format": "flac"}, "does not have the suffix of --format flac"),
        (["a.wav"], "out.wav", {"file_format": "falc"}, "did you mean 'flac'"),
        (["a.wav", "b.flac"], "out.wav", {}, "names a file, but several recordings go into a folder"),
        (["set"], "out.wav", {}, "names a file, but a folder of recordings go"),
        (["a.wav", "b.flac"], "odd.voc", {}, "is a file, but several recordings go into a folder"),
        (["a.wav"], "b.flac", {}, r"b\.flac exists; .* --overwrite"),
        (["a.wav"], "a.wav", {"overwrite": True}, r"a\.wav is the recording .*a\.wav itself"),
        (["a.wav", "b.flac"], ".", {"overwrite": True}, "itself"),
        (["a.wav", "other/a.wav"], "out", {}, r"would be written twice, for .*a\.wav and for .*other/a\.wav"),
        (["a.wav", "gone.wav"], "out", {}, r"gone\.wav does not exist"),
    ],
)
def test_outputs_that_collide_or_are_ambiguous_are_rejected(folder, inputs, output, options, message):
    with pytest.raises(InputError, match=message) as error:
        plan(folder, inputs, output, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_the_recording_itself_is_not_overwritten_through_a_link(folder, link):
    link(folder / "a.wav", folder / "out.wav")
    with pytest.raises(InputError, match=r"out\.wav is the recording .*a\.wav itself"):
        plan(folder, ["a.wav"], "out.wav", overwrite=True)


def test_a_recording_is_not_overwritten_by_the_extraction_of_another(folder):
    (folder / "out").mkdir()
    os.link(folder / "b.flac", folder / "out" / "a.wav")
    with pytest.raises(InputError, match=r"out/a\.wav is the recording .*b\.flac itself"):
        plan(folder, ["a.wav", "b.flac"], "out", overwrite=True)


def test_a_class_called_residual_does_not_replace_the_residual(folder):
    (outputs,) = plan_outputs(
        [folder / "a.wav"], folder / "out.wav", ("residual", "Residual"), each=True, residual=True
    )
    assert len({path.name.lower() for path in outputs.paths()}) == 3
    assert outputs.residual == folder / "out.residual.wav"


@pytest.mark.parametrize("output", ["odd.voc/out", "odd.voc/new/out", "nowhere/out"])
def test_a_folder_that_cannot_be_created_is_rejected(folder, output):
    (folder / "nowhere").symlink_to(folder / "gone")
    with pytest.raises(InputError, match=r"out/a\.wav cannot be written because .*(odd\.voc|nowhere) is not a folder"):
        plan(folder, ["a.wav", "b.flac"], output)


def test_a_folder_without_permission_to_write_is_rejected(folder, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: path != folder / "other")  # root may write everywhere
    with pytest.raises(InputError, match=r"other/new/a\.wav cannot be written because you may not write in .*other;"):
        plan(folder, ["a.wav", "b.flac"], "other/new")


def test_a_folder_with_the_name_of_an_output_is_rejected(folder):
    (folder / "out" / "a.wav").mkdir(parents=True)
    with pytest.raises(InputError, match=r"out/a\.wav is a folder"):
        plan(folder, ["a.wav"], "out")
