"""Image quality metrics, with and without reference."""

from opera_env.metrics.base import Features, FunctionMetric, Metric
from opera_env.metrics.pretrained import PyiqaMetric
from opera_env.metrics.suite import METRICS, MetricSuite, build_metric

__all__ = ["METRICS", "Features", "FunctionMetric", "Metric", "MetricSuite", "PyiqaMetric", "build_metric"]
