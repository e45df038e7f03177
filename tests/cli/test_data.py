"""``prepare`` by command."""

import os

from tse_refine.cli.main import main


def test_banks_are_checked_whole_by_command_and_a_damaged_one_is_named(tiny_config_file, tmp_path, capsys, refusal):
    words = ["prepare", "-c", str(tiny_config_file), f"--data.cache_dir={tmp_path / 'cache'}"]
    main(words)
    assert "Hz, verified)" not in capsys.readouterr().out
    main([*words, "--verify"])
    assert capsys.readouterr().out.count("Hz, verified)") == 2
    path = min((tmp_path / "cache").glob("bank-*/samples.i16"))
    stat, content = path.stat(), bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # so that only a look at all of it tells
    main(words)
    text = refusal(main, [*words, "--verify"])
    assert f"{path.parent} is damaged: samples.i16" in text
