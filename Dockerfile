# A node of peerkv. Build: docker build -t peerkv .
# Without a way to a package index, put wheels into ./wheels (pip wheel -w wheels . setuptools wheel) and build with
# --build-arg PIP_OPTIONS=--no-index. BASE is any image with Python 3.11 or newer, venv included. That Python should be
# built with profile-guided optimization (configure --enable-optimizations), as those of python:* and of Debian are: a
# node is an interpreter's loop, and without it every request takes 10 to 15 % longer. The build warns.
ARG BASE=python:3.12-slim

FROM ${BASE} AS build
ARG PIP_OPTIONS=""
WORKDIR /src
COPY README.md wheels* /wheels/
COPY pyproject.toml README.md ./
COPY peerkv peerkv
RUN python3 -c "import sysconfig as s; '--enable-optimizations' in (s.get_config_var('CONFIG_ARGS') or '') \
    or print('WARNING: this Python was built without --enable-optimizations: nodes take 10 to 15 % longer')"
RUN python3 -m venv /opt/peerkv \
    && /opt/peerkv/bin/pip install --no-cache-dir --disable-pip-version-check --find-links /wheels ${PIP_OPTIONS} . \
    && /opt/peerkv/bin/pip uninstall --yes --quiet pip setuptools

FROM ${BASE}
RUN useradd --system --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin peerkv
COPY --from=build /opt/peerkv /opt/peerkv
ENV PATH=/opt/peerkv/bin:$PATH PYTHONUNBUFFERED=1
USER peerkv
# Every option of a node is such a variable. The faces read these, too: docker exec NODE peerkv status finds NODE itself,
# also at another port, if that is told here and not as an option.
ENV PEERKV_NODE_HOST=0.0.0.0 PEERKV_NODE_PORT=6379
# Clients; peers (TCP for frames, UDP for gossip).
EXPOSE 6379 16379/tcp 16379/udp
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s CMD ["peerkv", "connect", "127.0.0.1", "PING"]
ENTRYPOINT ["peerkv"]
CMD ["node"]
