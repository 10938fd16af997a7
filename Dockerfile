# Fairlead on CPUs:
#
#   docker build --tag fairlead .
#   docker run --rm --volume "$PWD/my-project:/work" fairlead run /work
#
# PyTorch's ordinary build brings the libraries of CUDA. For a small image name its index of CPU builds, which stands on
# PyTorch's page of installation: --build-arg TORCH_INDEX=ADDRESS
FROM python:3.11-slim-trixie AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/fairlead
ENV PATH=/opt/fairlead/bin:$PATH
WORKDIR /src
COPY constraints.txt ./
ARG TORCH_INDEX=""
# A layer of its own: it is large, and changes with the constraints alone.
RUN pip install --constraint constraints.txt ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} torch
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN pip install --constraint constraints.txt ".[serve]"

FROM python:3.11-slim-trixie
RUN useradd --create-home --uid 1000 fairlead && install --directory --owner fairlead /work
COPY --from=build /opt/fairlead /opt/fairlead
ENV PATH=/opt/fairlead/bin:$PATH
USER 1000
WORKDIR /work
ENTRYPOINT ["fairlead"]
CMD ["--help"]
