# The page (demo), the scoring server (serve) and all other commands of opera-env.
#
#   docker build -t opera-env .                                     # for CPUs
#   docker build --build-arg TORCH=cu130 -t opera-env:cuda .        # for NVIDIA GPUs
#   docker run --rm -p 127.0.0.1:7860:7860 opera-env                # the page, at http://127.0.0.1:7860
#   docker run --rm --user "$(id -u)" -v "$PWD:/data" opera-env restore /data/holiday.jpg -o /data/restored
ARG PYTHON=3.11
FROM python:${PYTHON}-slim
RUN useradd --create-home --uid 1000 opera

# The build of torch: cpu, or the CUDA version that the driver of the host has, such as cu130.
ARG TORCH=cpu
WORKDIR /opera

# torch first, as a layer of its own: it is large, and changes rarely. gradio asks for Pillow below 13.
COPY constraints.txt ./
RUN sed '/^pillow==/d' constraints.txt > bounds.txt && \
    pip install --no-cache-dir -c bounds.txt --extra-index-url "https://download.pytorch.org/whl/${TORCH}" torch torchvision

COPY pyproject.toml README.md LICENSE ./
COPY opera_env opera_env
COPY agents agents
COPY baselines baselines
RUN pip install --no-cache-dir -c bounds.txt ".[all]"

USER 1000
WORKDIR /home/opera

# One metric of the default reward of the scoring server.
RUN opera-env weights fetch lpips

EXPOSE 7860 8200
ENTRYPOINT ["opera-env"]
CMD ["demo", "--host", "0.0.0.0"]
