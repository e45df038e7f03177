"""A trained network as one file that other programs run: ONNX, or a program of ``torch.export``.

One model holds the shared part, the classifier, the refinement and the mask part. Three operators need care, because
their usual export is wrong, or right only for the length that it was made with: the recurrence
(:func:`_recurrence_of_any_length`), the pooling in front of it (:class:`_Classifier`) and, in ONNX, the global layer
norm (:func:`_group_norm`).
"""

from __future__ import annotations

import io
import json
import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
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
from tse_refine.refinement import refine
from tse_refine.version import __version__

if TYPE_CHECKING:
    from onnxscript import ir

SUFFIXES = {"onnx": ".onnx", "torch": ".pt2"}  # by format
METADATA_FILE = "metadata.json"  # in a .pt2, which is an archive; ONNX has a place for it
_OUTPUTS = ["estimate", "probability", "refined_query"]  # the first alone where there is no classifier
_OPSET = 20  # the default of torch 2.11, written down because _group_norm is in terms of it
_EXAMPLE = (2, 8003)  # batch and samples of the capture; any would do, since nothing may depend on them


def export_checkpoint(
    checkpoint: str | Path, output: str | Path, file_format: str = "onnx", overwrite: bool = False
) -> tuple[str, ...]:
    """Write the network of a checkpoint as one model that needs neither this package nor the checkpoint.

    The model's inputs are ``mixture`` ``[batch, samples]``, ``query`` ``[batch, classes]`` and ``threshold`` ``[]``;
    its outputs ``estimate`` ``[batch, samples]``, ``probability`` and ``refined_query``, ``[batch, classes]`` each. All
    are float32, batch and samples are free. Where the refined query is empty the estimate is exact silence. A network
    without classifier cannot refine: its model takes a mixture and a query and gives an estimate.

    Args:
        checkpoint: of a run.
        output: the file to write, ending in ``.onnx`` or ``.pt2``; it appears whole or not at all.
        file_format: ``onnx``, or ``torch`` for a program of ``torch.export``.
        overwrite: replace an earlier file.

    Returns:
        The names of the model's inputs.

    Raises:
        InputError: the checkpoint cannot be used, the file exists or ends otherwise, or a package is missing.
    """
    output = Path(output)
    _check_output(output, file_format, overwrite)
    if file_format == "onnx":
        _check_packages()
    trained = load_network(checkpoint)
    about = metadata(trained)
    with _quiet(), _recurrence_of_any_length():
        program = _capture(trained.network)
        content = _onnx_bytes(program, about) if file_format == "onnx" else _torch_bytes(program, about)
    with replacing(output) as temporary:
        temporary.write_bytes(content)
    return tuple(program.graph_signature.user_inputs)


def metadata(trained: TrainedNetwork) -> dict[str, Any]:
    """Return what a model's file says of itself.

    Args:
        trained: what is exported.

    Returns:
        ``class_names`` in the order of the query, ``sample_rate`` (Hz), ``recommended_threshold`` (that
        of an ``Extractor``), ``duration_seconds`` of the training's mixtures and ``tse_refine_version``.
    """
    return {
        "class_names": list(trained.class_names),
        "sample_rate": trained.sample_rate,
        "recommended_threshold": Extractor(trained).recommended_threshold,
        "duration_seconds": trained.duration_seconds,
        "tse_refine_version": __version__,
    }


class _Extractor(nn.Module):
    """A network that answers an empty query by exact silence, with named outputs."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, mixture: Tensor, query: Tensor) -> dict[str, Tensor]:
        estimate = self.network.extract(self.network.features(mixture), query)
        return {"estimate": self._or_silence(estimate, query)}

    @staticmethod
    def _or_silence(estimate: Tensor, query: Tensor) -> Tensor:
        asked = (query != 0).any(dim=1, keepdim=True)  # [batch, 1]
        return torch.where(asked, estimate, torch.zeros_like(estimate))  # not a product: 0 times NaN is not 0


class _RefiningExtractor(_Extractor):
    """The same with refinement."""

    def forward(self, mixture: Tensor, query: Tensor, threshold: Tensor) -> dict[str, Tensor]:
        features = self.network.features(mixture)
        probability = features.probability()
        refined_query = refine(query, probability, threshold)
        estimate = self._or_silence(self.network.extract(features, refined_query), refined_query)
        return {"estimate": estimate, "probability": probability, "refined_query": refined_query}


class _Classifier(nn.Module):
    """A classifier whose pooling an export can follow.

    Pooling that averages the last frames over what is there branches on whether they fill a pool, and an export keeps
    the one branch that its example took. Sums over pools of a padded signal, divided by how many frames are in each, do
    not branch. They differ from the averages by a rounding.
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


def _capture(network: Network) -> ExportedProgram:
    """Return the program of a network; its classifier is replaced by one that can be followed."""
    network.eval().requires_grad_(False)
    batch, samples = Dim("batch"), Dim("samples")
    mixture = 0.1 * torch.randn(_EXAMPLE, generator=torch.Generator().manual_seed(0))
    example: dict[str, Tensor] = {"mixture": mixture, "query": torch.ones(len(mixture), network.num_classes)}
    shapes: dict[str, Any] = {"mixture": {0: batch, 1: samples}, "query": {0: batch}}
    model: nn.Module = _Extractor(network)
    if network.classifier is not None:
        network.classifier = _Classifier(network.classifier)
        model = _RefiningExtractor(network)
        example["threshold"], shapes["threshold"] = torch.tensor(0.1), None
    # sizes of one are sizes like others: without this the program refuses a batch of one and recordings of one pool
    with shape_config.patch(backed_size_oblivious=True):
        program = torch.export.export(model.eval(), (), example, dynamic_shapes=shapes)
    for module in program.graph_module.modules():  # parts of the graph are modules of their own
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)  # paths of this machine
    return program


@contextmanager
def _recurrence_of_any_length() -> Iterator[None]:
    """Let a GRU be captured as one operator for any number of frames.

    To learn the shape of a GRU's output, torch 2.11 unrolls it over the frames of the example, which ties the program
    to their number (https://github.com/pytorch/pytorch/issues/126339). The shape is known without.
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
    model = program_in_onnx.model
    check_recurrences(model)
    for value in (model.graph.inputs[0], model.graph.outputs[0]):  # the mixture and the estimate
        batch, samples = value.shape
        program_in_onnx.rename_axes({batch: "batch", samples: "samples"})
    for part in (model.graph, *model.graph):
        part.metadata_props.clear()  # the translation's notes to itself, a fifth of a small model's file
    model.metadata_props.update({key: json.dumps(value, ensure_ascii=False) for key, value in about.items()})
    return program_in_onnx.model_proto.SerializeToString()


def _group_norm(
    features: Any, num_groups: int, weight: Any, bias: Any, eps: float = 1e-5, cudnn_enabled: bool = True
) -> Any:
    """Write the global layer norm in ONNX: means over frames, then over channels.

    The usual translation, InstanceNormalization over channels and frames together, is summed up in one float32 by
    onnxruntime, and off by 2e-3 of the estimate after five minutes at 8 kHz.
    """
    from onnxscript import opset20 as op

    if num_groups != 1:
        raise ValueError(f"the network's norms have one group, found {num_groups}")

    def mean(value: Any) -> Any:
        return op.ReduceMean(op.ReduceMean(value, [2], keepdims=1), [1], keepdims=1)

    centred = op.Sub(features, mean(features))
    # sqrt(variance + eps) as sqrt(eps) sqrt(variance / eps + 1): onnxscript's optimiser takes 1e-8 for 0 and leaves its
    # addition out, which makes faint mixtures loud and silent ones a division by zero
    variance = op.Div(mean(op.Mul(centred, centred)), op.Constant(value_float=eps))
    deviation = op.Sqrt(op.Add(variance, op.Constant(value_float=1.0)))
    gain = op.Div(op.Unsqueeze(weight, [0, 2]), op.Constant(value_float=math.sqrt(eps)))
    return op.Add(op.Mul(op.Div(centred, deviation), gain), op.Unsqueeze(bias, [0, 2]))


def check_recurrences(model: ir.Model) -> None:
    """Refuse GRUs that apply the reset gate before the matrix, which is not what PyTorch's do.

    Older releases of onnxscript write them so (https://github.com/microsoft/onnxscript/issues/2852): the model would
    load, run, and be wrong.

    Raises:
        InputError: names the release that is needed.
    """
    for node in model.graph:
        if node.op_type == "GRU" and node.attributes.get_int("linear_before_reset", 0) != 1:
            raise InputError(
                "The installed onnxscript translates GRUs wrongly; 0.7.1 or newer is needed: "
                "`pip install --upgrade 'tse-refine[export]'`."
            )


def _check_output(output: Path, file_format: str, overwrite: bool) -> None:
    if file_format not in SUFFIXES:
        raise InputError(f"{file_format!r} is no format of models; known are: {', '.join(SUFFIXES)}.")
    suffix = SUFFIXES[file_format]
    if output.suffix != suffix:
        raise InputError(f"{output}: a file of the format {file_format} ends in {suffix}.")
    check_output(output, "file", overwrite)


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
    """Keep back what torch says of its own insides during an export: nothing that a user could act on."""
    registry = logging.getLogger("torch.onnx._internal.exporter._registration")  # misses torchvision, which we lack
    level = registry.level
    registry.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The tensor attributes .*_flat_weights")  # the GRU's own list of weights
            warnings.filterwarnings("ignore", ".*LeafSpec")
            yield
    finally:
        registry.setLevel(level)
