# The command `tse-refine` in a container; docs/extraction.md has how to build and to use it.
ARG PYTHON=3.12
FROM python:${PYTHON}-slim

# Where PyTorch's wheels come from: empty for pip's own index, whose wheels run on NVIDIA GPUs and on CPUs and take 5 GB;
# for an image without CUDA the index of CPU wheels that PyTorch's installation page names
ARG TORCH_INDEX=""
ARG EXTRAS="listen,hub"

# before the sources, so that a change in them does not install it again
RUN pip install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch==2.11.0 torchaudio==2.11.0

WORKDIR /opt/tse_refine
COPY pyproject.toml README.md LICENSE ./
COPY configs configs
COPY tse_refine tse_refine
RUN pip install --no-cache-dir ".[$EXTRAS]"

# caches go where every user of `docker run --user` may write
ENV HOME=/tmp
WORKDIR /work
ENTRYPOINT ["tse-refine"]
CMD ["--help"]
