import numpy as np
import pytest
import torch
from torchaudio.transforms import MelSpectrogram

from tse_refine.errors import InputError
from tse_refine.model.classifier import ClassifierConfig
from tse_refine.model.cost import measure_cost
from tse_refine.model.mel_classifier import LogMel, MelClassifier, augmented
from tse_refine.model.network import Network, NetworkConfig

TINY = ClassifierConfig(1, "mel", 16, (4, 6))


def network(classifier=TINY):
    torch.manual_seed(0)
    sizes = NetworkConfig(16, 10.0, 8, 8, 8, 3, 2, 1, 1, 4, classifier, classifier_hidden_size=5)
    return Network(3, 8000, sizes).eval()


def noise(*shape):
    return 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(1))


def test_the_bands_are_those_of_torchaudio_without_mean_and_scale():
    ours = LogMel(16000, 64)
    theirs = MelSpectrogram(16000, 768, hop_length=320, f_min=50.0, n_mels=64, norm="slaney", pad_mode="constant")
    mixture = noise(2, 16000)
    level = torch.log(theirs(torch.nn.functional.pad(mixture, (0, 320))))
    level = (level - level.mean((1, 2), keepdim=True)) / level.std((1, 2), keepdim=True)
    # near the end lies padding, whose level ours bounds
    torch.testing.assert_close(ours(mixture)[..., :-2], level[..., :-2], atol=2e-2, rtol=0)


def test_an_augmentation_moves_bands_and_masks_spans():
    bands = torch.arange(1.0, 65.0)[None, :, None].expand(200, 64, 50)
    changed = augmented(bands, torch.Generator().manual_seed(0))
    masked_bands, masked_frames = ((changed == 0).all(dim) for dim in (2, 1))
    outside = ~(masked_bands[:, :, None] | masked_frames[:, None])
    assert ((changed != 0) == outside).all()
    for masked, most in ((masked_bands, 10), (masked_frames, 8)):
        assert 0.25 * most < masked.sum(1).float().mean() < 0.75 * most
        assert masked.sum(1).max() <= most
        assert ((masked[:, 1:].int() - masked[:, :-1].int()).clamp(min=0).sum(1) <= 1).all()  # one span each
    shifts = torch.where(outside, changed - bands, 0.0)
    found = {int(shift.abs().max() * shift.sum().sign()) for shift in shifts[:, 3:-3]}
    assert found == {-3, -2, -1, 0, 1, 2, 3}


def test_augmentations_follow_their_generator():
    bands = noise(3, 16, 20)
    first, second, other = (augmented(bands, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_a_classifier_augments_in_training_only():
    classifier = network().classifier
    classifier.augmentation = torch.Generator().manual_seed(0)
    mixture = noise(2, 8000)
    classifier.eval()
    assert torch.equal(classifier(mixture), classifier(mixture))
    classifier.blocks.requires_grad_(False)
    classifier.training = True  # the batch norms alone would change the logits too
    assert not torch.equal(classifier(mixture), classifier(mixture))


@pytest.mark.parametrize("gain", [1e-4, 30.0])
def test_the_level_of_a_recording_does_not_matter(gain):
    mixture = noise(2, 8000)
    bands = LogMel(8000, 16)
    torch.testing.assert_close(bands(gain * mixture), bands(mixture), atol=1e-3, rtol=0)


@pytest.mark.parametrize("samples", [1, 159, 160, 8000, 8001])
@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_any_length_and_silence_give_finite_logits_of_every_class(samples, scale):
    logits = network().classifier(scale * noise(2, samples))
    assert logits.shape == (2, ((samples // 160 + 3) // 2 + 1) // 2, 3)
    assert torch.isfinite(logits).all()


def test_a_mixture_alone_has_the_logits_that_it_has_in_a_batch():
    mixture = noise(3, 4000)
    together = network().features(mixture).frame_logits
    torch.testing.assert_close(network().features(mixture[1:2]).frame_logits[0], together[1])
    torch.testing.assert_close(network().classify(mixture), together)


def test_no_gradient_of_the_classification_reaches_the_extractor():
    net = network()
    net(noise(2, 4000), torch.ones(2, 3))[1].frame_logits.sum().backward()
    assert all(weight.grad is None for weight in net.shared_extractor.parameters())
    assert all(weight.grad is not None for weight in net.classifier.parameters())


def test_its_cost_equals_a_count_by_hand():
    cost = measure_cost(network())
    convolutions = 50 * 8 * 4 * 9 / 2 + 50 * 4 * 6 * 4 * 9 / 4  # per second: frames, bands, channels, kernel
    recurrence = 12.5 * (2 * 3 * 5 * (4 * 6 + 5) + 2 * 5 * 3)
    assert cost.gmac_per_second_classifier == pytest.approx(1e-9 * (convolutions + recurrence), rel=1e-9)
    assert cost.parameters_classifier == sum(weight.numel() for weight in network().classifier.parameters())


def test_it_keeps_within_the_cost_of_the_published_classifier():
    published = Network(41, 16000, NetworkConfig(classifier=ClassifierConfig()))
    mel = Network(41, 16000, NetworkConfig(classifier=ClassifierConfig(1, "mel")))
    costs = [measure_cost(net) for net in (published, mel)]
    assert costs[1].parameters_classifier <= costs[0].parameters_classifier
    assert costs[1].gmac_per_second_classifier < 0.2 * costs[0].gmac_per_second_classifier


@pytest.mark.parametrize(
    ("sizes", "option"),
    [
        ({"channels": ()}, "channels"),
        ({"channels": (4, 0)}, "channels"),
        ({"mel_bands": 3, "channels": (4, 4)}, "at least 4 bands"),
        ({"num_layers": 0}, "num_layers"),
    ],
)
def test_sizes_that_no_classifier_has_are_rejected(sizes, option):
    with pytest.raises(InputError, match=rf"model\.network\.classifier\..*{option}|{option}"):
        network(ClassifierConfig(**{"input": "mel", **sizes}))


def test_it_learns_which_of_two_tones_sounds_and_when():
    torch.manual_seed(0)
    net = MelClassifier(8000, 2, 16, (4, 6), 5, 1)
    time = torch.arange(8000) / 8000
    tones = torch.stack([torch.sin(2 * np.pi * pitch * time) for pitch in (500.0, 1500.0)])
    tones[:, :4000] = 0.0
    mixture = 0.3 * tones + 0.01 * noise(2, 8000)
    sounding = torch.zeros(2, 13, 2)
    sounding[0, 7:, 0] = sounding[1, 7:, 1] = 1.0
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        logits = net(mixture)
        torch.nn.functional.binary_cross_entropy_with_logits(logits, sounding).backward()
        optimizer.step()
    correct = (net.eval()(mixture) > 0) == (sounding > 0.5)
    assert correct[:, :5].all()
    assert correct[:, 8:].all()
