import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import soundfile

from tse_refine.data.bank import builder
from tse_refine.data.bank.builder import open_clip_bank
from tse_refine.data.corpora import LabelFolders
from tse_refine.errors import InputError

RATE = 8000


class Counted(LabelFolders):
    """Counts what is decoded; may fail at one clip."""

    def __init__(self, root, failure=None, fails_at="") -> None:
        super().__init__(str(root))
        self.decoded = []
        self.failure, self.fails_at = failure, fails_at

    def read(self, clip, start=0, stop=None):
        if clip.name == self.fails_at:
            raise self.failure
        self.decoded.append(clip.name)
        return super().read(clip, start, stop)


@pytest.fixture
def root(tmp_path):
    """Twenty short recordings of one class and, among them, one that is no audio."""
    root = tmp_path / "sounds"
    (root / "noise").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(20):
        soundfile.write(root / "noise" / f"{number:02}.wav", 0.1 * rng.standard_normal(RATE // 2), RATE)
    (root / "noise" / "05.wav").write_text("not audio")
    return root


def open_bank(corpus, cache):
    return open_clip_bank(corpus, RATE, cache, True, "data.foregrounds")


def contents(bank):
    return {path.name: path.read_bytes() for path in bank.folder.iterdir()}


def test_an_interrupted_build_continues_and_gives_the_same_bank(root, tmp_path, monkeypatch):
    monkeypatch.setattr(builder, "CLIPS_PER_COMMIT", 4)
    whole = open_bank(Counted(root), tmp_path / "whole")
    cache = tmp_path / "cache"
    with pytest.raises(KeyboardInterrupt):
        open_bank(Counted(root, KeyboardInterrupt(), "noise/14.wav"), cache)
    assert not list(cache.glob("bank-*"))
    part = next(cache.glob(".bank-*.part"))
    # as after a kill during a write: more data than the journal lists, and half a line
    for name in ("samples.i16", "hops.f32"):
        with open(part / name, "ab") as file:
            file.write(b"123")
    with open(part / "journal.jsonl", "a") as file:
        file.write('{"name": "noise/1')
    rest = Counted(root)
    resumed = open_bank(rest, cache)
    assert sorted(rest.decoded) == [f"noise/{number}.wav" for number in range(12, 20)]  # three commits were done
    assert contents(resumed) == contents(whole)
    assert "noise/05.wav" in resumed.rejected
    assert [path.name for path in cache.iterdir() if path.name.startswith(".")] == []


def test_a_build_interrupted_at_its_end_decodes_nothing_again(root, tmp_path, monkeypatch):
    with monkeypatch.context() as context:
        context.setattr(builder, "write_table", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
        with pytest.raises(InputError, match="there is no space left"):
            open_bank(Counted(root), tmp_path)
    rest = Counted(root)
    assert len(open_bank(rest, tmp_path)) == 19
    assert rest.decoded == []


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "samples.i16",
            lambda old: old[:100] + b"other" + old[105:],
            r"stored of noise/00\.wav is not what was decoded",
        ),
        ("journal.jsonl", lambda old: old[:30] + b"other" + old[35:], r"journal\.jsonl cannot be read"),
    ],
)
def test_a_build_that_was_damaged_while_interrupted_is_rejected(root, tmp_path, monkeypatch, name, change, message):
    with monkeypatch.context() as context:
        context.setattr(builder, "write_table", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
        with pytest.raises(InputError, match="there is no space left"):
            open_bank(Counted(root), tmp_path)
    (part,) = tmp_path.glob(f".bank-*.part/{name}")
    part.write_bytes(change(part.read_bytes()))
    with pytest.raises(InputError, match=rf"{message}.*emove that folder"):
        open_bank(Counted(root), tmp_path)


def test_an_incompletely_removed_bank_is_replaced(root, tmp_path):
    bank = open_bank(Counted(root), tmp_path)
    (bank.folder / "bank.json").unlink()
    assert len(open_bank(Counted(root), tmp_path)) == 19


def test_a_damaged_bank_of_other_recordings_is_ignored(root, tmp_path):
    (tmp_path / "bank-other").mkdir()
    (tmp_path / "bank-other" / "bank.json").write_text("")
    assert len(open_bank(Counted(root), tmp_path)) == 19


def test_a_killed_build_leaves_no_bank_and_the_next_one_is_whole(root, tmp_path):
    cache = tmp_path / "cache"
    program = textwrap.dedent("""
        import sys, time
        from pathlib import Path
        from tse_refine.data.bank import builder
        from tse_refine.data.corpora import LabelFolders

        class Slow(LabelFolders):
            def read(self, clip, start=0, stop=None):
                time.sleep(0.05)
                return super().read(clip, start, stop)

        builder.CLIPS_PER_COMMIT = 2
        builder.open_clip_bank(Slow(sys.argv[1]), 8000, Path(sys.argv[2]), True, "data.foregrounds")
    """)
    process = subprocess.Popen([sys.executable, "-c", program, str(root), str(cache)])
    deadline = time.monotonic() + 60
    while not any(path.stat().st_size for path in cache.glob(".bank-*.part/journal.jsonl")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not list(cache.glob("bank-*"))
    rest = Counted(root)
    resumed = open_bank(rest, cache)
    assert len(rest.decoded) < 20
    assert contents(resumed) == contents(open_bank(Counted(root), tmp_path / "whole"))


def test_two_processes_build_one_bank_between_them(root, tmp_path):
    cache = tmp_path / "cache"
    program = textwrap.dedent("""
        import sys
        from pathlib import Path
        from tse_refine.data.bank.builder import open_clip_bank
        from tse_refine.data.corpora import LabelFolders

        class Said(LabelFolders):
            def read(self, clip, start=0, stop=None):
                sys.stdout.write(f"{clip.name} ")
                return super().read(clip, start, stop)

        bank = open_clip_bank(Said(sys.argv[1]), 8000, Path(sys.argv[2]), True, "data.foregrounds")
        assert len(bank) == 19
    """)
    command = [sys.executable, "-c", program, str(root), str(cache)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    message = "".join(process.communicate(timeout=120)[0] for process in processes).split()
    assert [process.returncode for process in processes] == [0, 0]
    assert len(message) == 20
    assert len(list(cache.glob("bank-*"))) == 1


def test_a_full_disk_is_reported_and_decoded_clips_are_kept(root, tmp_path):
    cache = tmp_path / "cache"
    program = textwrap.dedent("""
        import resource, sys
        from tse_refine.data.bank import builder
        from tse_refine.errors import InputError
        from tse_refine.data.corpora import LabelFolders
        from pathlib import Path

        builder.CLIPS_PER_COMMIT = 2
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # as good as a full disk: writes fail
        try:
            builder.open_clip_bank(
                LabelFolders(sys.argv[1]), 8000, Path(sys.argv[2]), True, "data.foregrounds"
            )
        except InputError as error:
            print(error)
    """)
    run = subprocess.run([sys.executable, "-c", program, str(root), str(cache)], capture_output=True, text=True)
    assert "data.cache_dir: there is no space left" in run.stdout, run.stderr
    assert not list(cache.glob("bank-*"))
    rest = Counted(root)
    assert len(open_bank(rest, cache)) == 19
    assert 0 < len(rest.decoded) < 15


def test_a_temporary_read_error_is_not_stored(root, tmp_path):
    with pytest.raises(InputError, match=r"noise/03\.wav cannot be read now"):
        open_bank(Counted(root, OSError(5, "Input/output error"), "noise/03.wav"), tmp_path)
    assert "noise/03.wav" in open_bank(Counted(root), tmp_path)


def test_differences_from_a_similar_bank_are_reported(root, tmp_path, capsys):
    open_bank(Counted(root), tmp_path)
    assert capsys.readouterr().err == ""
    (root / "noise" / "07.wav").write_bytes((root / "noise" / "08.wav").read_bytes())
    os.remove(root / "noise" / "19.wav")
    open_bank(Counted(root), tmp_path)
    message = capsys.readouterr().err
    assert "has in addition 1 recordings (noise/19.wav)" in message
    assert "has another version of 1 recordings (noise/07.wav)" in message
