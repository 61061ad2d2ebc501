# featviz with attribution, atlases, videos and timm's networks. docs/install.md says how to build and run it.
FROM python:3.12-slim

# Where pip finds PyTorch. The default package includes CUDA; https://download.pytorch.org/whl/cpu has the small one.
ARG TORCH_INDEX=https://pypi.org/simple

WORKDIR /src
RUN pip install --no-cache-dir --index-url "$TORCH_INDEX" torch torchvision
COPY pyproject.toml README.md LICENSE ./
COPY featviz featviz
RUN pip install --no-cache-dir '.[explain,atlas,video,timm]' && rm -rf /src

# Caches, such as downloaded weights, are kept in /cache: mount a volume there to keep them between runs. Any user may
# write there, so that `docker run --user` makes files that belong to the caller.
RUN mkdir -p /data /cache && chmod 1777 /data /cache
USER 1000
ENV HOME=/cache XDG_CACHE_HOME=/cache TORCH_HOME=/cache/torch HF_HOME=/cache/huggingface
WORKDIR /data
ENTRYPOINT ["featviz"]
CMD ["--help"]
