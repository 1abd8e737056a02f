"""The table of the official weight files of the paper's tools."""

from __future__ import annotations

from collections.abc import Mapping

from opera_env.weights.published import PublishedFile

_RESTORMER_PAGE = "https://github.com/swz30/Restormer"
_XRESTORMER_PAGE = "https://github.com/Andrew0613/X-Restormer"
_SWINIR_PAGE = "https://github.com/JingyunLiang/SwinIR"


def _restormer(task: str, filename: str) -> PublishedFile:
    return PublishedFile(
        name=f"restormer.{task}",
        filename=filename,
        urls=(f"{_RESTORMER_PAGE}/releases/download/v1.0/{filename}",),
        page=_RESTORMER_PAGE,
        licence="Academic Public License, non-commercial",
        megabytes=105,
    )


def _xrestormer(task: str, filename: str, word: str) -> PublishedFile:
    return PublishedFile(
        name=f"xrestormer.{task}",
        filename=filename,
        urls=(),
        page=_XRESTORMER_PAGE,
        licence="MIT (the code)",
        megabytes=105,
        aliases=(f"xrestormer_{filename}", f"X-Restormer_{filename}"),
        task=word,
    )


def _swinir(task: str, filename: str, megabytes: int) -> PublishedFile:
    return PublishedFile(
        name=f"swinir.{task}",
        filename=filename,
        urls=(f"{_SWINIR_PAGE}/releases/download/v0.0/{filename}",),
        page=_SWINIR_PAGE,
        licence="Apache-2.0",
        megabytes=megabytes,
    )


_FILES = (
    _restormer("gaussian_denoise_15", "gaussian_color_denoising_sigma15.pth"),
    _restormer("gaussian_denoise_25", "gaussian_color_denoising_sigma25.pth"),
    _restormer("gaussian_denoise_50", "gaussian_color_denoising_sigma50.pth"),
    _restormer("derain", "deraining.pth"),
    _restormer("defocus_deblur", "single_image_defocus_deblurring.pth"),
    _restormer("motion_deblur", "motion_deblurring.pth"),
    _xrestormer("denoise_50", "denoise_300k.pth", "denoise"),
    _xrestormer("derain", "derain_155k.pth", "derain"),
    _xrestormer("dehaze", "dehaze_300k.pth", "dehaze"),
    _xrestormer("deblur", "deblur_300k.pth", "deblur"),
    _xrestormer("super_resolution", "sr_300k.pth", "sr"),
    _swinir("super_resolution", "003_realSR_BSRGAN_DFOWMFC_s64w8_SwinIR-L_x4_PSNR.pth", 145),
    _swinir("gaussian_denoise_15", "005_colorDN_DFWB_s128w8_SwinIR-M_noise15.pth", 125),
    _swinir("gaussian_denoise_25", "005_colorDN_DFWB_s128w8_SwinIR-M_noise25.pth", 125),
    _swinir("gaussian_denoise_50", "005_colorDN_DFWB_s128w8_SwinIR-M_noise50.pth", 125),
    _swinir("dejpeg", "006_colorCAR_DFWB_s126w7_SwinIR-M_jpeg40.pth", 105),
)

PAPER_FILES: Mapping[str, PublishedFile] = {file.name: file for file in _FILES}
"""The official weight files, by the names of their tools, in the paper's order.

Their sizes are those of their tensors. None of the publishers states a hash.
"""
