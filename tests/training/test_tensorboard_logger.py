import importlib.util

import pytest

from tests.fixtures.tables import rows_of
from tse_refine.cli.main import main
from tse_refine.training import tensorboard_logger


def test_without_the_package_the_extra_is_named(refusal, tiny_config_file, monkeypatch):
    monkeypatch.setattr(tensorboard_logger, "find_spec", lambda name: None)
    text = refusal(main, ["fit", "-c", str(tiny_config_file), "-c", "logger/tensorboard"])
    assert "pip install 'tse-refine[tensorboard]'" in text


@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is None, reason="needs the extra tensorboard")
def test_numbers_options_tables_and_sounds_are_logged(tiny_config_file, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import AUDIO, TENSORS, EventAccumulator

    words = ["-c", str(tiny_config_file), "-c", "logger/tensorboard", "--trainer.logger.log_audio=true"]
    run = tmp_path / "run"
    main(["fit", *words])
    main(["test", *words])
    fit, test = (
        EventAccumulator(str(run / "tensorboard" / f"version_{number}"), {AUDIO: 0, TENSORS: 0}) for number in (0, 1)
    )
    fit.Reload()
    test.Reload()
    (event,) = fit.Scalars("val/snri_db/1a3i/none")
    row = next(row for row in rows_of(run / "metrics.csv") if row["val/snri_db/1a3i/none"])
    assert event.value == pytest.approx(float(row["val/snri_db/1a3i/none"]), abs=1e-4)

    def text(events, tag):
        return events.Tensors(f"{tag}/text_summary")[-1].tensor_proto.string_val[0].decode()

    assert "loss_weight: 10.0" in text(fit, "options")
    assert "digest: " in text(fit, "options")
    assert text(fit, "val/table").startswith("| threshold | (1:0) |")
    assert "| (1:3) |" in text(test, "test/examples")
    for sound in ("mixture", "target", "raw", "refined"):
        (audio,) = test.Audio(f"test/examples/1a3i/{sound}")
        assert (audio.sample_rate, audio.length_frames) == (4000, 4000)
