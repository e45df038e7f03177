"""Exported models of every size, with a threshold as an input or with a fixed refinement."""

import pytest

from tests.fixtures.exports import EXPORTS, FIXED, FIXED_NAMES, SIZES, export, write_checkpoint


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """Exports of every size, by size and format."""
    folder = tmp_path_factory.mktemp("exported")
    for size in SIZES:
        write_checkpoint(folder / f"{size}.ckpt", SIZES[size])
    return {(size, file_format): export(folder / f"{size}.ckpt", file_format) for size, file_format in EXPORTS}


@pytest.fixture(scope="session", params=FIXED, ids=FIXED_NAMES)
def fixed_model(request, tmp_path_factory):
    """An export with a fixed refinement."""
    refinement, file_format = request.param
    path = tmp_path_factory.mktemp("fixed") / "best.ckpt"
    return export(write_checkpoint(path, SIZES["every frame, no skip path"], 0.45), file_format, refinement)


@pytest.fixture(params=EXPORTS, ids="-".join)
def model(request, models):
    return models[request.param]


@pytest.fixture(params=[export for export in EXPORTS if "onnx" in export], ids="-".join)
def onnx_model(request, models):
    return models[request.param]


@pytest.fixture(params=["onnx", "torch"])
def refining_model(request, models):
    return models["pooled", request.param]
