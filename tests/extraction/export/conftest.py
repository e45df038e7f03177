"""Exported models of every size, with a threshold as an input or with a fixed refinement."""

import os

import pytest

from tests.fixtures.exports import EXPORTS, FIXED, FIXED_NAMES, export_once


@pytest.fixture(scope="session")
def exports_folder(tmp_path_factory):
    """A folder that all processes of a test run share."""
    folder = tmp_path_factory.getbasetemp()
    folder = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "exports"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def models(exports_folder):
    """Exports of every size, by size and format."""
    return {(size, file_format): export_once(exports_folder, size, file_format) for size, file_format in EXPORTS}


@pytest.fixture(scope="session", params=FIXED, ids=FIXED_NAMES)
def fixed_model(request, exports_folder):
    """An export with a fixed refinement."""
    refinement, file_format = request.param
    return export_once(exports_folder, "every frame, no skip path", file_format, refinement)


@pytest.fixture(params=EXPORTS, ids="-".join)
def model(request, models):
    return models[request.param]


@pytest.fixture(params=[export for export in EXPORTS if "onnx" in export], ids="-".join)
def onnx_model(request, models):
    return models[request.param]


@pytest.fixture(params=["onnx", "torch"])
def refining_model(request, models):
    return models["pooled", request.param]
