import dataclasses
import json

from tse_refine.cli.main import main


def test_classes_are_listed_and_nothing_else(checkpoint, capsys):
    main(["classes", "--checkpoint", str(checkpoint)])
    assert capsys.readouterr() == ("dog\ncar_horn\nsiren\n", "")


def test_an_alias_is_listed_where_asked_for_and_queries_its_class(trained, tmp_path, record, capsys):
    path = tmp_path / "named.ckpt"
    dataclasses.replace(trained, aliases={"dog": ("Bark", "Hund")}).save(path)
    main(["classes", "--checkpoint", str(path), "--aliases"])
    assert capsys.readouterr() == ("dog: Bark, Hund\ncar_horn\nsiren\n", "")
    main(["classes", "--checkpoint", str(path)])
    assert capsys.readouterr() == ("dog\ncar_horn\nsiren\n", "")
    words = ["--query", "bark", "siren", "--except", "Siren", "--output", str(tmp_path / "out.wav"), "--json"]
    main(["extract", "--checkpoint", str(path), "--device", "cpu", "--input", str(record()), *words])
    assert json.loads(capsys.readouterr().out)[0]["query"] == ["dog"]
