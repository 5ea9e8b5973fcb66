# The image of compose.yaml's services: the locked environment. The project itself is mounted at /project.
FROM python:3.11-slim
RUN apt-get update && apt-get install --yes --no-install-recommends git && rm -rf /var/lib/apt/lists/*
RUN git config --system --add safe.directory /project
ENV VIRTUAL_ENV=/venv PATH=/venv/bin:$PATH
WORKDIR /setup
COPY requirements.lock requirements-setup.txt ./
RUN python -m venv /venv \
 && pip install --no-cache-dir --require-hashes -r requirements-setup.txt \
 && uv pip sync --no-cache --require-hashes requirements.lock
WORKDIR /project
COPY . .
# MLflow finds the guard before its server by an entry point of the installed project.
RUN uv pip install --no-cache --no-deps --no-build-isolation --editable .
