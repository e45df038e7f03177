import numpy as np
import pytest
import torch

from tse_refine.errors import InputError
from tse_refine.extraction.signal import as_blocks, as_channels, check_sample_rate, check_samples, restore_type


@pytest.mark.parametrize("shape", [(1,), (7,), (1, 7), (64, 7)])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_waveform_becomes_channels_in_float32_and_its_type_and_shape_can_be_restored(shape, dtype):
    waveform = np.linspace(-1, 1, np.prod(shape)).reshape(shape).astype(dtype)
    for original in (waveform, torch.from_numpy(waveform)):
        channels = as_channels(original)
        assert (channels.dtype, channels.shape) == (torch.float32, (shape[0] if len(shape) == 2 else 1, shape[-1]))
        restored = restore_type(channels, original)
        assert (type(restored), restored.dtype, tuple(restored.shape)) == (type(original), original.dtype, shape)
        np.testing.assert_allclose(np.asarray(restored), waveform, atol=1e-7)


@pytest.mark.parametrize("rate", [4000, 44_100, 384_000, np.int64(16_000), 8000.0])
def test_a_supported_sample_rate_is_returned_as_an_integer(rate):
    assert (type(check_sample_rate(rate)), check_sample_rate(rate)) == (int, int(rate))


@pytest.mark.parametrize("rate", [3999, 384_001, 44_100.5, "8000", None, float("nan")])
def test_other_sample_rates_are_rejected(rate):
    with pytest.raises(InputError, match=f"the sample rate is {rate!r} Hz; 4000 to 384000 Hz are expected"):
        check_sample_rate(rate)


@pytest.mark.parametrize(("value", "message"), [(np.nan, "not finite"), (np.inf, "not finite"), (-2e9, r"2e\+09")])
def test_samples_that_cannot_be_processed_are_rejected_with_their_owner(value, message):
    check_samples(torch.tensor([0.0, -1e9]), "in.wav")
    with pytest.raises(InputError, match=rf"^in\.wav has samples .*{message}"):
        check_samples(torch.tensor([0.0, value]), "in.wav")


def test_blocks_become_float32_without_empty_ones():
    blocks = list(as_blocks([np.zeros((2, 0)), np.ones((2, 3)), torch.ones(2, 1, dtype=torch.float64)]))
    assert [(block.dtype, tuple(block.shape)) for block in blocks] == [(torch.float32, (2, 3)), (torch.float32, (2, 1))]
