from dataclasses import replace

import pytest
import torch

from tse_refine.cli.main import main
from tse_refine.errors import InputError
from tse_refine.model.checkpoint import TrainedNetwork, read_checkpoint
from tse_refine.model.classifier import ClassifierConfig
from tse_refine.model.network import Network
from tse_refine.training.initialization import copy_weights, freeze_parts


@pytest.fixture
def make(tiny_network_config):
    """Make an untrained network of some classes."""

    def make(*names, rate=4000, seed=0, **sizes):
        torch.manual_seed(seed)
        network = Network(len(names), rate, replace(tiny_network_config, **sizes)).eval()
        return TrainedNetwork(network, names, rate)

    return make


def copied(own, theirs):
    return copy_weights(own.network, own.class_names, theirs, "theirs.ckpt")


def test_common_classes_are_copied_by_name_and_new_ones_stay_as_drawn(make):
    theirs, own = make("bell", "dog", "rain"), make("rain", "siren", "bell", seed=1)
    drawn = {name: weight.clone() for name, weight in own.network.state_dict().items()}
    report = copied(own, theirs)
    for name, weight in own.network.state_dict().items():
        source = theirs.network.state_dict()[name]
        if name == "query_embedding.weight":
            assert torch.equal(weight[:, [0, 2]], source[:, [2, 0]])
            assert torch.equal(weight[:, 1], drawn[name][:, 1])
        elif name.startswith("classifier.linear"):
            assert torch.equal(weight[[0, 2]], source[[2, 0]])
            assert torch.equal(weight[1], drawn[name][1])
        else:
            assert torch.equal(weight, source)
    assert (report.classes, report.new_classes, report.new_parts) == (("rain", "bell"), ("siren",), ())


def test_with_the_same_classes_the_networks_agree(make):
    theirs, own = make("bell", "dog"), make("bell", "dog", seed=1)
    copied(own, theirs)
    mixture, query = torch.randn(2, 1000), torch.eye(2)
    assert torch.equal(own.network(mixture, query)[0], theirs.network(mixture, query)[0])


def test_a_classifier_that_is_missing_or_another_is_drawn_anew(make):
    own = make("bell", "dog", seed=1)
    assert copied(own, make("bell", "dog", classifier=None)).new_parts == ("classifier",)
    assert copied(own, make("bell", "dog", classifier=ClassifierConfig(2))).parts[-1] == "classifier"  # the first layer
    assert copied(own, make("bell", "dog", classifier_hidden_size=6)).new_parts == ("classifier",)


def test_a_context_is_copied_by_class_and_stays_as_drawn_where_there_was_none(make):
    theirs, own = make("bell", "dog", context=True), make("dog", "rain", seed=1, context=True)
    torch.nn.init.normal_(theirs.network.context_embedding.weight)
    assert "context_embedding" in copied(own, theirs).parts
    weight, source = own.network.context_embedding.weight, theirs.network.context_embedding.weight
    assert torch.equal(weight, torch.stack([source[:, 1], torch.zeros(len(source))], dim=1))
    assert copied(own, make("dog", "rain")).new_parts == ("context_embedding",)


def test_of_a_classifier_alone_only_the_classifier_is_copied(make):
    report = copied(make("bell", "dog", seed=1), replace(make("bell", "dog"), extracts=False))
    assert report.parts == ("classifier",)


def test_networks_of_other_sizes_or_rates_are_rejected(make):
    own = make("bell", "dog")
    with pytest.raises(InputError, match=r"theirs\.ckpt has a network of other sizes: .* is \[.*\] there, but \[.*\]"):
        copied(own, make("bell", "dog", bottleneck_channels=6))
    with pytest.raises(InputError, match=r"trained at 8000 Hz, but data\.sample_rate is 4000"):
        copied(own, make("bell", "dog", rate=8000))


def test_only_parts_of_the_network_can_be_frozen(make):
    network = make("bell", "dog", classifier=None).network
    freeze_parts(network, ["encoder"])
    assert not network.encoder.weight.requires_grad
    for part in ("classifier", "config"):
        with pytest.raises(InputError, match=f"model.freeze: '{part}' is not a part of this network; parts are enc"):
            freeze_parts(network, [part])


def test_a_training_starts_from_another_and_leaves_frozen_parts_as_they_are(tiny_config_file, tmp_path, capsys):
    main(["fit", "-c", str(tiny_config_file)])
    first = tmp_path / "run" / "checkpoints" / "best.ckpt"
    capsys.readouterr()
    frozen = "[encoder, bottleneck, shared_extractor, classifier]"
    words = ["fit", "-c", str(tiny_config_file), f"--trainer.default_root_dir={tmp_path / 'second'}"]
    main([*words, f"--model.init_from={first}", f"--model.freeze={frozen}"])
    assert f"model.init_from: {first}: copied: encoder, bottleneck, " in capsys.readouterr().out
    second = tmp_path / "second" / "checkpoints" / "last.ckpt"
    before, after = (read_checkpoint(path).weights for path in (first, second))
    same = {name.split(".")[0] for name, weight in after.items() if torch.equal(weight, before[name])}
    changed = {name.split(".")[0] for name, weight in after.items() if not torch.equal(weight, before[name])}
    assert same >= {"encoder", "bottleneck", "shared_extractor", "classifier"}
    assert {"query_embedding", "mask_estimator", "decoder"} == changed


def test_a_resumed_training_does_not_start_over(tiny_config_file, tmp_path):
    main(["fit", "-c", str(tiny_config_file)])
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    words = ["fit", "-c", str(tiny_config_file), f"--ckpt_path={last}", "--trainer.max_epochs=1"]
    main([*words, "--model.init_from=missing.ckpt"])  # not read


def test_freezing_everything_is_rejected(tiny_config_file, refusal):
    parts = "[encoder, bottleneck, shared_extractor, query_embedding, mask_estimator, decoder, classifier]"
    message = refusal(main, ["fit", "-c", str(tiny_config_file), f"--model.freeze={parts}"])
    assert "leaves nothing to train" in message
