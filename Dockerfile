# syntax=docker/dockerfile:1

# ---- the packages, installed where the second stage can take them from -------------------------
FROM python:3.13-slim AS build
WORKDIR /app
RUN python -m venv /venv
COPY requirements.lock ./
RUN /venv/bin/pip install --no-cache-dir --require-hashes -r requirements.lock
COPY pyproject.toml README.md ./
COPY storage ./storage
COPY generation ./generation
COPY graph ./graph
RUN /venv/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

# ---- what runs ---------------------------------------------------------------------------------
FROM python:3.13-slim
RUN useradd --system --uid 10001 --home-dir /data --create-home darkroom
COPY --from=build /venv /venv
USER 10001
WORKDIR /data
# In a container others can reach it, so API keys are needed: the first is made with
#   docker run --rm -v darkroom:/data darkroom keys create --workspace NAME
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    DARKROOM_ENVIRONMENT=production \
    DARKROOM_HOST=0.0.0.0 \
    DARKROOM_PORT=8000 \
    DARKROOM_DATA_DIR=/data
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(f'http://127.0.0.1:{os.environ[\"DARKROOM_PORT\"]}/healthz', timeout=2)"]
ENTRYPOINT ["darkroom"]
CMD ["serve"]
