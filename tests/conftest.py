"""Fixtures that several test files share: tiny data, a tiny network, miniature corpora, a server to download from."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml

from tse_refine.cli.main import main
from tse_refine.data.corpora import SyntheticBackgrounds, SyntheticSounds
from tse_refine.data.datamodule import MixtureDataModule
from tse_refine.data.download import transfer
from tse_refine.data.download.archives import Archive, RemoteFile
from tse_refine.data.recipes import MixtureConfig
from tse_refine.evaluation.conditions import GATE, NONE, ORACLE
from tse_refine.evaluation.grid import GridResults
from tse_refine.evaluation.results import write_test_results
from tse_refine.model.checkpoint import TrainedNetwork
from tse_refine.model.classifier import ClassifierConfig
from tse_refine.model.cost import Cost
from tse_refine.model.network import Network, NetworkConfig
from tse_refine.training.sweep import run_sweep


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clip banks that the whole session shares."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def tiny_data(cache_dir: Path) -> MixtureDataModule:
    """Synthetic sounds at 4 kHz, 1 s mixtures, with the data sets of every split."""
    data = MixtureDataModule(
        SyntheticSounds(2, 2, 2),
        SyntheticBackgrounds(1, 1, 1),
        sample_rate=4000,
        mixture=MixtureConfig(duration_seconds=1.0, event_seconds=(0.5, 0.8)),
        batch_size=4,
        num_workers=0,
        num_train=8,
        num_val=6,
        num_test=6,
        cache_dir=str(cache_dir),
    )
    data.setup("test")
    test = data.datasets
    data.setup("fit")
    data.datasets |= test
    return data


@pytest.fixture
def tiny_network_config() -> NetworkConfig:
    """The cheapest network with every part."""
    return NetworkConfig(16, 10.0, 8, 8, 8, 3, 2, 1, 1, 4, ClassifierConfig(1), classifier_hidden_size=4)


@pytest.fixture
def believing(tiny_network_config: NetworkConfig) -> Callable[..., TrainedNetwork]:
    """Make an untrained network whose classes are as probable in every sound as is said: by name, in [0, 1]."""

    def make(probability: Mapping[str, float], rate: int, duration_seconds: float) -> TrainedNetwork:
        torch.manual_seed(0)
        network = Network(len(probability), rate, tiny_network_config).eval()
        with torch.no_grad():
            network.classifier.linear.weight.zero_()
            network.classifier.linear.bias.copy_(torch.logit(torch.tensor(list(probability.values()))))
        return TrainedNetwork(network, tuple(probability), rate, 0.5, duration_seconds)

    return make


@pytest.fixture
def tiny_config_file(tmp_path: Path, cache_dir: Path) -> Path:
    """A config that goes through fit, validate, test and predict in seconds on a CPU."""
    return write_tiny_config(tmp_path, cache_dir)


@pytest.fixture(scope="session")
def tiny_runs(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> Path:
    """The folder of a real sweep, trained and tested: loss weights 1 and 100, seeds 0 and 1, and ``sweep.csv``.

    Tests share it and change nothing in it: ``runs/sweep/loss_weight=1.0,seed_everything=0`` and so on.
    """
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("tiny")
    config = write_tiny_config(root, cache_dir)
    folder = root / "runs" / "sweep"
    sweep = {
        "command": ["tse-refine", "fit", "-c", str(config), f"--trainer.default_root_dir={folder}", "${args}"],
        "method": "grid",
        "metric": {"name": "val/snri_db/1a3i/refined", "goal": "maximize"},
        "parameters": {"model.loss_weight": {"values": [1.0, 100.0]}, "seed_everything": {"values": [0, 1]}},
    }
    path = root / "sweep.yaml"
    path.write_text(yaml.safe_dump(sweep))
    run_sweep(path, run=lambda words: main(list(words[1:])))  # in this process, which has imported everything
    return folder


def write_tiny_config(folder: Path, cache_dir: Path) -> Path:
    """Write ``tiny.yaml``, whose run is ``run`` in the same folder."""
    network = {"num_filters": 16, "window_ms": 10.0, "bottleneck_channels": 8, "hidden_channels": 8}
    network |= {"skip_channels": 8, "blocks_per_stack": 2, "shared_stacks": 1, "mask_stacks": 1}
    network |= {"classifier_pooling": 4, "classifier": {"num_layers": 1}}
    corpora = "tse_refine.data.corpora."
    instances = {"train_instances": 2, "val_instances": 2, "test_instances": 2}
    config = {
        "trainer": {
            "default_root_dir": str(folder / "run"),
            "accelerator": "cpu",
            "max_epochs": 1,
            "log_every_n_steps": 1,
            "enable_progress_bar": False,
            "enable_model_summary": False,
        },
        "model": {"network": network},
        "data": {
            "foregrounds": {"class_path": corpora + "SyntheticSounds", "init_args": instances},
            "backgrounds": {
                "class_path": corpora + "SyntheticBackgrounds",
                "init_args": {"train_instances": 1, "val_instances": 1, "test_instances": 1},
            },
            "sample_rate": 4000,
            "mixture": {"duration_seconds": 1.0, "event_seconds": [0.5, 0.8]},
            "batch_size": 4,
            "num_workers": 0,
            "num_train": 8,
            "num_val": 6,
            "num_test": 6,
            "cache_dir": str(cache_dir),
            "predict_indices": [0, 3],
        },
    }
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.fixture
def fsdkaggle2018_root(tmp_path: Path, write_sound: Callable[..., None]) -> Path:
    """FSDKaggle2018 in small: six labels, four training clips (three verified) and two test clips each."""
    root = tmp_path / "FSDKaggle2018"
    tables = {
        "train": ["fname,label,manually_verified,freesound_id,license"],
        "test": ["fname,label,usage,freesound_id,license"],
    }
    for number in range(36):
        label = ("Bark", "Cough", "Flute", "Knock", "Meow", "Telephone")[number % 6]
        part, marked = ("train", str(int(number < 18))) if number < 24 else ("test", "Public")
        tables[part].append(f"{0x44347 + 7919 * number:08x}.wav,{label},{marked},{28739 + number},Attribution")
        write_sound(root / f"FSDKaggle2018.audio_{part}" / tables[part][-1].split(",")[0])
    (root / "FSDKaggle2018.meta").mkdir()
    names = {"train": "train_post_competition.csv", "test": "test_post_competition_scoring_clips.csv"}
    for part, lines in tables.items():
        (root / "FSDKaggle2018.meta" / names[part]).write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture
def tau2019_root(tmp_path: Path, write_sound: Callable[..., None]) -> Path:
    """TAU Urban Acoustic Scenes 2019 in small: six scenes of three places of two segments, and three for evaluation."""
    root = tmp_path / "TAU2019"
    development, evaluation = (
        root / f"TAU-urban-acoustic-scenes-2019-{part}" for part in ("development", "evaluation")
    )
    form = {"rate": 48_000, "channels": 2, "subtype": "PCM_24"}
    lines = ["filename\tscene_label\tidentifier\tsource_label"]
    for segment in range(36):
        scene = ("airport", "bus", "metro", "park", "public_square", "tram")[segment // 6]
        place = f"{('barcelona', 'helsinki', 'london')[segment // 2 % 3]}-{segment // 2}"
        name = f"audio/{scene}-{place}-{segment}-a.wav"
        lines.append(f"{name}\t{scene}\t{place}\ta")
        write_sound(development / name, **form)
    (development / "meta.csv").write_text("\n".join(lines) + "\n")
    for number in range(3):
        write_sound(evaluation / f"audio/{number}.wav", **form)
    (evaluation / "evaluation_setup").mkdir()
    (evaluation / "evaluation_setup" / "test.csv").write_text("filename\naudio/0.wav\naudio/1.wav\naudio/2.wav\n")
    return root


@pytest.fixture
def fsd50k_root(tmp_path: Path, write_sound: Callable[..., None]) -> Path:
    """FSD50K in small: four clips of each class of configs/data/fsd50k.yaml, one of its parents, one of two leaves."""
    root = tmp_path / "FSD50K"
    dev, evaluation = ["fname,labels,mids,split"], ["fname,labels,mids"]
    chains = [
        "Bark,Dog,Domestic_animals_and_pets,Animal",
        "Church_bell,Bell",
        "Computer_keyboard,Typing,Domestic_sounds_and_home_sounds",
        "Cough,Respiratory_sounds",
        "Crow,Bird,Wild_animals,Animal",
        "Doorbell,Door,Domestic_sounds_and_home_sounds",
        "Fireworks,Explosion",
        "Knock,Door,Domestic_sounds_and_home_sounds",
        "Meow,Cat,Domestic_animals_and_pets,Animal",
        "Siren,Alarm",
        "Sneeze,Respiratory_sounds",
        "Toilet_flush,Domestic_sounds_and_home_sounds",
    ]
    for number, chain in enumerate(chains):
        parents = chain.split(",", 1)[1]
        rows = [(chain, "train"), (chain, "train"), (chain, "val"), (chain, "test")]
        rows += [(parents, "train"), (f"Wind,{chain}", "train")]
        for take, (labels, split) in enumerate(rows):
            fname = 64_760 + 10 * number + take
            mids = ",".join(f"/m/0{sum(map(ord, label))}" for label in labels.split(","))
            if split == "test":
                evaluation.append(f'{fname},"{labels}","{mids}"')
            else:
                dev.append(f'{fname},"{labels}","{mids}",{split}')
            write_sound(root / f"FSD50K.{'eval' if split == 'test' else 'dev'}_audio" / f"{fname}.wav")
    (root / "FSD50K.ground_truth").mkdir()
    (root / "FSD50K.ground_truth" / "dev.csv").write_text("\n".join(dev) + "\n")
    (root / "FSD50K.ground_truth" / "eval.csv").write_text("\n".join(evaluation) + "\n")
    return root


@pytest.fixture
def manifest_table(tmp_path: Path, write_sound: Callable[..., None]) -> Path:
    """A manifest of six classes and a background: one clip of each in every split, and a second one to train on."""
    table = tmp_path / "Geräusche" / "manifest.csv"
    lines = ["path,label,role,split,source"]
    for label in ("bell", "dog bark", "glass", "siren", "Türklingel", "Wasser läuft", "street"):
        role = "background" if label == "street" else "foreground"
        for number, split in enumerate(("train", "val", "test", "train")):
            name = f"{split} clips/{label} – {number}.wav"
            source = f"field day of {label}" if split == "train" else ""
            lines.append(f"{name},{label},{role},{split},{source}")
            write_sound(table.parent / name)
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return table


@pytest.fixture
def label_folders_root(tmp_path: Path, write_sound: Callable[..., None]) -> Path:
    """A tree of six labels of four recordings of several formats, one of them in a subfolder."""
    root = tmp_path / "label folders"
    for label in ("bell", "dog bark", "glass", "siren", "Türklingel", "口笛"):
        for name in ("one take.wav", "zwei – hören.flac", "three.OGG", "more/four.wav"):
            write_sound(root / label / name)
    return root


@pytest.fixture
def write_sound() -> Callable[..., None]:
    """Write a second of a tone in noise, another one each time, and make the folders it needs."""
    rng = np.random.default_rng(0)

    def write(path: Path, rate: int = 44_100, channels: int = 1, subtype: str | None = None) -> None:
        tone = np.sin(2 * np.pi * rng.uniform(200.0, 2000.0) * np.arange(rate) / rate)
        sound = 0.2 * tone[:, None] + 0.02 * rng.standard_normal((rate, channels))
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, sound, rate, subtype)

    return write


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Write the folder of a tested run whose figures are known.

    SNRi falls by 2 dB an inactive class without refinement, by 0.5 dB at 0.3, and not at all with the oracle; at 0.3 a
    fully matched query loses 0.25 dB. Every mixture adds its own hardness, which is the same in every run.
    """
    conditions = [(1, 0), (1, 1), (1, 3), (0, 1)]
    fall = {NONE: 2.0, 0.3: 0.5, ORACLE: 0.0, GATE: 2.0}

    def make(
        name: str, refines: bool = True, inactive_sample_rate: float = 0.0, offset: float = 0.0, mixtures: int = 40,
        loss_weight: float = 10.0, seed: int = 0, data_seed: int = 0,
    ) -> Path:  # fmt: skip
        rng = np.random.default_rng(100 + data_seed)
        thresholds = list(fall) if refines else [NONE, ORACLE]
        hardness = rng.normal(0.0, 3.0, (mixtures, 1, 1))
        shape = (mixtures, len(conditions), len(thresholds))
        snri, attenuation = np.full(shape, np.nan), np.full(shape, np.nan)
        for c, (active, inactive) in enumerate(conditions):
            for t, threshold in enumerate(thresholds):
                if active:
                    loss = 0.25 if threshold == 0.3 else 0.0
                    snri[:, c, t] = 10.0 + offset - fall[threshold] * inactive - loss + hardness[:, 0, 0]
                else:
                    attenuation[:, c, t] = 20.0 + 5.0 * t + hardness[:, 0, 0]
        orders = np.stack([rng.permutation(6) for _ in range(mixtures)])
        activity = np.zeros((mixtures, 6))
        np.put_along_axis(activity, orders[:, :3], 1.0, axis=1)
        probability = np.where(activity > 0, 0.8, 0.1) if refines else np.full((mixtures, 6), np.nan)
        kept = np.broadcast_to(np.array([a for a, _ in conditions])[None, :, None], shape)
        results = GridResults(
            np.arange(mixtures), np.full(mixtures, 3), orders, activity, probability,
            np.where([a > 0 for a, _ in conditions], rng.normal(-6.0, 1.0, (mixtures, 4)), np.nan),
            snri, attenuation, kept, np.zeros(shape, int),
        )  # fmt: skip
        folder = tmp_path / name
        cost = Cost(500_000, 100_000 if refines else 0, 0.07, 0.01 if refines else 0.0)
        classes = ["bell", "dog", "glass", "rain", "siren", "tram"]
        write_test_results(folder / "test", results, conditions, thresholds, classes, cost)
        config = {
            "seed_everything": seed,
            "trainer": {"max_epochs": 3, "default_root_dir": str(folder)},
            "model": {"network": {"classifier": {"num_layers": 2} if refines else None}, "loss_weight": loss_weight},
            "data": {"seed": data_seed, "queries": {"inactive_sample_rate": inactive_sample_rate}},
            "evaluation": {"threshold": 0.3},
        }
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        return folder

    return make


class Server(ThreadingHTTPServer):
    """A server on this machine whose faults are set by the test.

    Attributes:
        files: content by name.
        break_after: for each GET to come, the number of bytes after which it breaks off; None or no entry for all.
        gets: what was asked: (name, Range header, bytes sent).
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {}
        self.break_after = []
        self.gets = []
        self.num_heads = 0
        self.knows_ranges = True
        self.wrong_ranges = False
        self.knows_head = True
        self.tells_size = True

    def archive(self, *names):
        """Return the archive of these files as it would be published."""
        url = f"http://127.0.0.1:{self.server_address[1]}/files"
        return Archive(
            tuple(RemoteFile(f"{url}/{name}?download=1", hashlib.md5(self.files[name]).hexdigest()) for name in names),
            fills=("corpus/",),
        )


class Handler(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.server.num_heads += 1
        if self.server.knows_head:
            self.answer()
        else:
            self.send_error(405)

    def do_GET(self):
        asked = (self.path.split("?")[0].rsplit("/", 1)[1], self.headers["Range"])
        place = len(self.server.gets)
        if asked[0] in self.server.files:
            self.server.gets.append((*asked, 0))  # before the answer, which the test may be waiting for
        _, content = self.answer()
        content = content[: self.server.break_after.pop(0) if self.server.break_after else None]
        if content:
            self.server.gets[place] = (*asked, len(content))
        self.wfile.write(content)

    def answer(self):
        name = self.path.split("?")[0].rsplit("/", 1)[1]
        if name not in self.server.files:
            self.send_error(404)
            return name, b""
        content = self.server.files[name]
        etag = f'"{hashlib.md5(content).hexdigest()}"'
        start = 0
        if self.headers["Range"] and self.server.knows_ranges and self.headers.get("If-Range", etag) == etag:
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        if start >= len(content):
            self.send_error(416)
            return name, b""
        if start and self.server.wrong_ranges:
            start -= 10
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("ETag", etag)
        if self.server.tells_size:
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        return name, content[start:]

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server on this machine."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(transfer, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(transfer, "BLOCK", 1000)
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def _few_threads() -> None:
    """Tiny tensors lose time to many threads, and tests must not depend on the number of cores."""
    torch.set_num_threads(1)
