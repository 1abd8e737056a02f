"""Damage to photographs as weather, cameras and the web make it, and photographs that only look damaged."""

from opera_env.degradations.base import DegradationType
from opera_env.degradations.real.base import RealDegradation
from opera_env.degradations.real.compression import WebCompression
from opera_env.degradations.real.exposure import Underexposure
from opera_env.degradations.real.haze import DepthHaze
from opera_env.degradations.real.lens import Misfocus
from opera_env.degradations.real.looks import LOOKS, draw_look
from opera_env.degradations.real.noise import SensorNoise
from opera_env.degradations.real.processing import Processing
from opera_env.degradations.real.rain import Rainfall
from opera_env.degradations.real.resampling import Resampling
from opera_env.degradations.real.rule import (
    REAL_LABELS,
    REAL_RECIPES,
    SITUATIONS,
    Situation,
    draw_recipe,
    list_recipes,
)
from opera_env.degradations.real.shake import HandShake

REAL_DEGRADATIONS: tuple[DegradationType, ...] = (
    DepthHaze,
    Rainfall,
    Misfocus,
    HandShake,
    Underexposure,
    SensorNoise,
    Processing,
    Resampling,
    WebCompression,
)
"""The degradations of real photographs, in the order in which a photograph meets them."""

__all__ = [
    "LOOKS",
    "REAL_DEGRADATIONS",
    "REAL_LABELS",
    "REAL_RECIPES",
    "SITUATIONS",
    "DepthHaze",
    "HandShake",
    "Misfocus",
    "Processing",
    "Rainfall",
    "RealDegradation",
    "Resampling",
    "SensorNoise",
    "Situation",
    "Underexposure",
    "WebCompression",
    "draw_look",
    "draw_recipe",
    "list_recipes",
]
