import pytest
import torch

from tse_refine.model.filterbank import sinusoidal_filters
from tse_refine.model.network import Network, NetworkConfig


def test_centre_frequencies_rise_from_near_zero_to_near_nyquist():
    filters = sinusoidal_filters(32, 160, 16_000)[:, 0]
    spectrum = torch.fft.rfft(filters, n=4096).abs()
    peak = spectrum.argmax(dim=1) * 16_000 / 4096
    # random phases move a peak by less than the width of a filter, 100 Hz, where it nears 0 or Nyquist
    assert torch.all(peak.diff() > -100.0)
    assert peak[0] < 200.0
    assert peak[-1] > 7_800.0
    # mel: as many filters below 1.8 kHz as above
    assert peak[15] == pytest.approx(1_800.0, abs=300.0)


def test_norm_is_that_of_torchs_own_initialisation():
    torch.manual_seed(0)
    ours = sinusoidal_filters(256, 80, 16_000).norm(dim=2).mean()
    theirs = torch.nn.Conv1d(1, 256, 80).weight.norm(dim=2).mean()
    assert ours.item() == pytest.approx(theirs.item(), rel=0.02)


def test_network_starts_encoder_and_decoder_from_them_only_with_the_option():
    sizes = (16, 5.0, 8, 8, 8, 3, 2, 1, 1)
    told = Network(3, 8000, NetworkConfig(*sizes, sinusoidal_filters=True))
    plain = Network(3, 8000, NetworkConfig(*sizes))
    torch.testing.assert_close(told.encoder.weight, told.decoder.weight)
    assert not torch.allclose(plain.encoder.weight, plain.decoder.weight)
    # a windowed filter vanishes at its edges
    assert told.encoder.weight[:, 0, 0].abs().max() == 0.0
