# Two images from one file:
#
#   docker build --target server -t kelpie-server .
#   docker run -p 127.0.0.1:8787:8787 -v kelpie:/data kelpie-server
#
#   docker build --target worker -t kelpie-worker .      (a base for your own image: FROM kelpie-worker)

FROM python:3.11.14-slim-trixie AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY kelpie ./kelpie
RUN python -m venv /opt/kelpie && /opt/kelpie/bin/pip install --no-cache-dir .

FROM python:3.11.14-slim-trixie AS server
COPY --from=build /opt/kelpie /opt/kelpie
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin kelpie \
    && install -d -o kelpie -g kelpie -m 0700 /data
USER kelpie
WORKDIR /data
VOLUME /data
ENV PATH=/opt/kelpie/bin:$PATH KELPIE_HOST=0.0.0.0 KELPIE_PORT=8787 KELPIE_DATABASE=/data/kelpie.db
EXPOSE 8787
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8787/readyz', timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["kelpie"]
CMD ["serve"]

FROM python:3.11.14-slim-trixie AS worker
COPY --from=build /opt/kelpie /opt/kelpie
# Symbolic, not on PATH as a whole: the image's own python stays the one that jobs find.
RUN ln -s /opt/kelpie/bin/kelpie /usr/local/bin/kelpie
# docker stop gives 10 seconds unless told otherwise; leave time for the last upload:
#   docker stop --time 30, or terminationGracePeriodSeconds: 30
STOPSIGNAL SIGTERM
ENTRYPOINT ["kelpie"]
CMD ["worker"]
