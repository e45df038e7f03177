"""A trained network as one file: for other programs ONNX or a program of ``torch.export``, for this one safetensors.

A model for other programs contains the shared part, the classifier, the refinement and the mask part. Three operators
need care, because their usual export is wrong, or right only for the length of its example: the recurrence
(:func:`_recurrence_of_any_length`), the pooling in front of it (:class:`_Classifier`) and, in ONNX, the global layer
norm (:func:`_group_norm`).
"""

from __future__ import annotations

import io
import json
import logging
import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx.experimental import _config as shape_config
from torch.nn.functional import conv1d, pad

from tse_refine.errors import InputError
from tse_refine.extraction.extractor import Extractor
from tse_refine.files.atomic import check_output, replacing
from tse_refine.model.checkpoint import TrainedNetwork, load_network
from tse_refine.model.classifier import Classifier
from tse_refine.model.network import Network
from tse_refine.model.weights import SUFFIX
from tse_refine.refinement import Refinement, refine
from tse_refine.version import __version__

if TYPE_CHECKING:
    from onnxscript import ir

SUFFIXES = {"onnx": ".onnx", "torch": ".pt2", "safetensors": SUFFIX}  # by format
METADATA_FILE = "metadata.json"  # in a .pt2, which is an archive; ONNX has metadata of its own
_OUTPUTS = ["estimate", "probability", "refined_query"]  # the first alone where there is no classifier
_OPSET = 20  # the default of torch 2.11, stated because _group_norm uses its operators
_EXAMPLE = (2, 8003)  # batch and samples of the example; the model must not depend on them


def export_checkpoint(
    checkpoint: str | Path,
    output: str | Path,
    file_format: str = "onnx",
    overwrite: bool = False,
    threshold: float | str | Refinement | None = None,
    card: Mapping[str, str] = {},
) -> dict[str, Any]:
    """Write the network of a checkpoint as one model that needs neither this package nor the checkpoint.

    A file in safetensors is for this package: weights and description, which every command reads like a checkpoint,
    with the ``threshold`` as the recommended one. The others are for other programs: the model's inputs are ``mixture``
    ``[batch, samples]``, ``query`` ``[batch, classes]`` and ``threshold`` ``[]``; its outputs ``estimate`` ``[batch,
    samples]``, ``probability`` and ``refined_query``, ``[batch, classes]`` each. All are float32, batch and samples are
    free. Where the refined query is empty the estimate is exact silence. With a ``threshold``, the refinement is a
    fixed part of the model, which then has no such input. A network without classifier cannot refine: its model has the
    inputs mixture and query, and the output estimate.

    Args:
        checkpoint: checkpoint of a run.
        output: file to write, ending in ``.onnx``, ``.pt2`` or ``.safetensors``; it appears whole or not at all.
        file_format: ``onnx``, ``torch`` for a program of ``torch.export``, or ``safetensors``.
        overwrite: replace an existing file.
        threshold: fixed threshold or another refinement, such as ``soft:0.2-0.6``; by default the model's input.
        card: what a user has to know, by heading, such as ``licence``; for safetensors.

    Returns:
        The file's :func:`metadata`.

    Raises:
        InputError: the checkpoint or the threshold cannot be used, the file exists or has another suffix, or a package
            is missing.
    """
    output = Path(output)
    if file_format not in SUFFIXES:
        raise InputError(f"{file_format!r} is not a format of models; known are: {', '.join(SUFFIXES)}.")
    if output.suffix != SUFFIXES[file_format]:
        raise InputError(f"{output}: a file of the format {file_format} ends in {SUFFIXES[file_format]}.")
    check_output(output, "file", overwrite)
    if file_format == "onnx":
        _check_packages()
    trained = load_network(checkpoint)
    refinement = None if threshold is None else Extractor(trained).refinement(threshold)
    if refinement is not None and trained.network.classifier is None:
        raise InputError(
            "threshold: this network has no classifier (a baseline), so that its model cannot refine; leave it out."
        )
    about = metadata(trained, refinement)
    if file_format == "safetensors":
        recommended = trained.recommended_threshold if refinement is None else refinement.option
        replace(trained, recommended_threshold=recommended).save(output, card)
        return about
    with _quiet(), _recurrence_of_any_length():
        program = _capture(trained.network, refinement)
        content = _onnx_bytes(program, about) if file_format == "onnx" else _torch_bytes(program, about)
    with replacing(output) as temporary:
        temporary.write_bytes(content)
    return about


def metadata(trained: TrainedNetwork, refinement: Refinement | None = None) -> dict[str, Any]:
    """Return the metadata of a model's file.

    Args:
        trained: network that is exported.
        refinement: refinement that is a fixed part of the model; None where the threshold is an input.

    Returns:
        ``class_names`` in the order of the query, ``sample_rate`` (Hz), ``recommended_threshold`` as options write it
        (:attr:`Extractor.recommended_threshold`), ``duration_seconds`` of the training mixtures, ``tse_refine_version``
        and, where it is fixed, ``refinement``; where classes have aliases, ``aliases`` by class.
    """
    return {
        "class_names": list(trained.class_names),
        "sample_rate": trained.sample_rate,
        "recommended_threshold": Extractor(trained).recommended_threshold,
        "duration_seconds": trained.duration_seconds,
        "tse_refine_version": __version__,
        **({} if refinement is None else {"refinement": refinement.name}),
        **({"aliases": {name: list(words) for name, words in trained.aliases.items()}} if trained.aliases else {}),
    }


class _Extractor(nn.Module):
    """A network with its refinement and named outputs, whose estimate for an empty query is exact silence.

    ``refinement`` is None where the threshold is an input, or there is no classifier.
    """

    def __init__(self, network: Network, refinement: Refinement | None) -> None:
        super().__init__()
        self.network = network
        self.refinement = refinement

    def forward(self, mixture: Tensor, query: Tensor, threshold: Tensor | None = None) -> dict[str, Tensor]:
        features = self.network.features(mixture)
        probability = features.probability()
        others = {}
        if probability is not None:
            if self.refinement is not None:
                query = self.refinement(query, probability).clone()  # an output must not be the input itself
            else:
                assert threshold is not None, "the threshold is an input where no refinement is fixed"
                query = refine(query, probability, threshold)
            others = {"probability": probability, "refined_query": query}
        estimate = self.network.extract(features, query)
        sounds = (query != 0).any(dim=1, keepdim=True)  # [batch, 1]
        estimate = torch.where(sounds, estimate, torch.zeros_like(estimate))  # not a product: 0 times NaN is not 0
        return {"estimate": estimate, **others}


class _Classifier(nn.Module):
    """A classifier on the shared features whose pooling can be exported.

    The usual average pooling branches on whether the last frames fill a pool, and an export keeps only the branch of
    its example. Sums over pools of a padded signal, divided by the number of frames in each, do not branch. They differ
    from the averages by a rounding.
    """

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.pooling = classifier.pooling
        self.recurrence = classifier.recurrence
        self.linear = classifier.linear

    def forward(self, shared: Tensor) -> Tensor:
        pooled = self._pool(shared) if self.pooling > 1 else shared
        return self.linear(self.recurrence(pooled.transpose(1, 2))[0])

    def _pool(self, shared: Tensor) -> Tensor:
        channels, frames = shared.shape[1:]
        ones = shared.new_ones(channels, 1, self.pooling)
        sums = conv1d(pad(shared, (0, self.pooling - 1)), ones, stride=self.pooling, groups=channels)
        first = self.pooling * torch.arange(sums.shape[-1], device=shared.device)  # frame of each pool
        return sums / (frames - first).clamp(max=self.pooling)


def _capture(network: Network, refinement: Refinement | None) -> ExportedProgram:
    """Return the program of a network, whose classifier is replaced by one that can be exported."""
    network.eval().requires_grad_(False)
    batch, samples = Dim("batch"), Dim("samples")
    mixture = 0.1 * torch.randn(_EXAMPLE, generator=torch.Generator().manual_seed(0))
    example: dict[str, Tensor] = {"mixture": mixture, "query": torch.ones(len(mixture), network.num_classes)}
    shapes: dict[str, Any] = {"mixture": {0: batch, 1: samples}, "query": {0: batch}}
    if network.classifier is not None:
        if isinstance(network.classifier, Classifier):
            network.add_module("classifier", _Classifier(network.classifier))
        if refinement is None:
            example["threshold"], shapes["threshold"] = torch.tensor(0.1), None
    model = _Extractor(network, refinement).eval()
    # without this the program rejects sizes of one: a batch of one, and recordings of one pool
    with shape_config.patch(backed_size_oblivious=True):  # type: ignore[attr-defined]
        program = torch.export.export(model, (), example, dynamic_shapes=shapes)
    for module in program.graph_module.modules():  # parts of the graph are modules of their own
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)  # paths of this machine
    return program


@contextmanager
def _recurrence_of_any_length() -> Iterator[None]:
    """Capture a GRU as one operator for any number of frames.

    To derive the shape of a GRU's output, torch 2.11 unrolls it over the frames of the example, which ties the program
    to their number (https://github.com/pytorch/pytorch/issues/126339). The shape follows without.
    """
    from torch.export._patches import _register_rnn_while_loop_decomposition

    def shape_only(
        frames: Tensor, hidden: Tensor, params: list[Tensor], has_biases: bool, num_layers: int, dropout: float,
        train: bool, bidirectional: bool, batch_first: bool,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        width = hidden.shape[2] * (2 if bidirectional else 1)
        return frames.new_empty(frames.shape[0], frames.shape[1], width), torch.empty_like(hidden)

    with _register_rnn_while_loop_decomposition(torch.ops.aten.gru.input, shape_only):
        yield


def _torch_bytes(program: ExportedProgram, about: dict[str, Any]) -> bytes:
    """Return the file of a program."""
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={METADATA_FILE: json.dumps(about, ensure_ascii=False)})
    return buffer.getvalue()


def _onnx_bytes(program: ExportedProgram, about: dict[str, Any]) -> bytes:
    """Return the file of a program translated to ONNX, with named outputs and axes."""
    program_in_onnx = torch.onnx.export(
        program,
        output_names=_OUTPUTS[: len(program.graph_signature.user_outputs)],
        opset_version=_OPSET,
        custom_translation_table={torch.ops.aten.group_norm.default: _group_norm},
        dynamo=True,
        verbose=False,
    )
    assert program_in_onnx is not None, "the exporter with dynamo=True returns a program"
    model = program_in_onnx.model
    check_recurrences(model)
    axes: Any = model.graph.inputs[0].shape  # of the mixture
    program_in_onnx.rename_axes(dict(zip(axes, ("batch", "samples"), strict=True)))
    axes = model.graph.outputs[0].shape  # of the estimate, whose length may be written as what it is computed from
    axes[0], axes[1] = "batch", "samples"
    for part in (model.graph, *model.graph):
        part.metadata_props.clear()  # notes of the translation, a fifth of a small model's file
    model.metadata_props.update({key: json.dumps(value, ensure_ascii=False) for key, value in about.items()})
    return program_in_onnx.model_proto.SerializeToString()


def _group_norm(
    features: Any, num_groups: int, weight: Any, bias: Any, eps: float = 1e-5, cudnn_enabled: bool = True
) -> Any:
    """Write the global layer norm in ONNX: means over frames, then over channels.

    The usual translation, InstanceNormalization over channels and frames together, is summed in one float32 by
    onnxruntime, with an error of 2e-3 of the estimate after five minutes at 8 kHz.
    """
    from onnxscript import opset20

    op: Any = opset20  # its annotations leave out that it converts lists
    if num_groups != 1:
        raise ValueError(f"the network's norms have one group, found {num_groups}")

    def mean(value: Any) -> Any:
        return op.ReduceMean(op.ReduceMean(value, [2], keepdims=1), [1], keepdims=1)

    centred = op.Sub(features, mean(features))
    # sqrt(variance + eps) as sqrt(eps) sqrt(variance / eps + 1): onnxscript's optimiser treats 1e-8 as 0 and removes
    # its addition, which makes faint mixtures loud and silent ones a division by zero
    variance = op.Div(mean(op.Mul(centred, centred)), op.Constant(value_float=eps))
    deviation = op.Sqrt(op.Add(variance, op.Constant(value_float=1.0)))
    gain = op.Div(op.Unsqueeze(weight, [0, 2]), op.Constant(value_float=math.sqrt(eps)))
    return op.Add(op.Mul(op.Div(centred, deviation), gain), op.Unsqueeze(bias, [0, 2]))


def check_recurrences(model: ir.Model) -> None:
    """Reject GRUs that apply the reset gate before the matrix, unlike PyTorch's.

    Older releases of onnxscript write them so (https://github.com/microsoft/onnxscript/issues/2852): the model would
    load, run, and be wrong.

    Args:
        model: model in ONNX.

    Raises:
        InputError: a newer release of onnxscript is needed.
    """
    for node in model.graph:
        if node.op_type == "GRU" and node.attributes.get_int("linear_before_reset", 0) != 1:
            raise InputError(
                "The installed onnxscript translates GRUs wrongly; 0.7.1 or newer is needed: "
                "`pip install --upgrade 'tse-refine[export]'`."
            )


def _check_packages() -> None:
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"Writing ONNX needs onnx and onnxscript ({error}); install them with `pip install 'tse-refine[export]'`."
        ) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress torch's messages about its own internals, on which a user could not act."""
    registry = logging.getLogger("torch.onnx._internal.exporter._registration")  # warns that torchvision is missing
    level = registry.level
    registry.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The tensor attributes .*_flat_weights")  # the GRU's own list of weights
            warnings.filterwarnings("ignore", ".*LeafSpec")
            yield
    finally:
        registry.setLevel(level)
