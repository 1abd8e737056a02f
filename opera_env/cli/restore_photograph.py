"""Restores one photograph of ``opera-env restore``: checks, reads, restores, writes and records."""

from __future__ import annotations

import shutil
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from opera_env.cli.comparison import draw_comparison, draw_variants
from opera_env.cli.jobs import RestoreJob, check_input, check_target, is_input
from opera_env.cli.options.restore import Restore
from opera_env.cli.restore_report import (
    CONVERTED,
    RESTORED,
    UNCHANGED,
    format_failure,
    restoration_record,
)
from opera_env.cli.results import claim_result, has_claim, has_result
from opera_env.data.images import resize
from opera_env.data.photo import Photo, format_from_name, suffix_notices
from opera_env.data.read import read_photo, read_size
from opera_env.data.write import check_max_side, write_photo
from opera_env.errors import OutputError
from opera_env.files import atomic_create, atomic_write
from opera_env.restoration import Restoration, Restorer
from opera_env.restoration.choice import best_variants
from opera_env.restoration.explanation import format_plan
from opera_env.signal_handlers import SignalsWait
from opera_env.signals import raise_signal_behind


@dataclass(frozen=True, eq=False)
class PhotographRestorer:
    """Restores the photographs of a command.

    Attributes:
        options: The options of the command.
        restorer: Plans for a photograph and runs the plan.
        inputs: Real paths of all photographs of the command; none of them is ever overwritten.
    """

    options: Restore
    restorer: Restorer
    inputs: frozenset[Path]

    def restore(self, job: RestoreJob) -> dict[str, Any]:
        """Restores one photograph and returns its record; a failure becomes part of the record."""
        record: dict[str, Any] = {"input": str(job.input_path), "output": str(job.output_path)}
        try:
            check_input(job)
            if self.options.skip_existing and not is_input(job.output_path, job, self.inputs):
                return record | self._restore_missing(job)
            return record | self._restore(job)
        except Exception as error:  # noqa: BLE001 - any agent or tool may fail; the others are still restored
            raise_signal_behind(error)
            if self.options.debug:
                traceback.print_exc()
            return record | {"status": "failed", "error": format_failure(job, error)}

    def _restore_missing(self, job: RestoreJob) -> dict[str, Any]:
        """Restores a photograph unless its result exists or another process is restoring it."""
        exists = {"status": "skipped", "reason": f"{job.output_path} exists"}
        if self._has_result(job) and not has_claim(job):
            return exists
        with SignalsWait() as signals, claim_result(job) as claimed:
            if not claimed:
                return {"status": "skipped", "reason": "another process is restoring it"}
            if self._has_result(job):  # written between the first look and the claim
                return exists
            try:
                return signals.come_during(lambda: self._restore(job))
            except FileExistsError:  # by a process of another machine
                return exists

    def _has_result(self, job: RestoreJob) -> bool:
        try:
            return has_result(job, self.options.scale)
        except OutputError:
            if self.options.force:
                return False
            raise

    def _restore(self, job: RestoreJob) -> dict[str, Any]:
        options = self.options
        check_target(
            job, self.inputs, options.force, options.compare, options.skip_existing, options.variants
        )
        height, width = read_size(job.input_path)
        self.restorer.check_size(height, width)  # from the header: too large a file is never decoded
        output_format = format_from_name(job.output_path) or format_from_name(job.input_path)
        if output_format is not None:
            check_max_side(job.output_path, output_format, (height * options.scale, width * options.scale))
        before = read_photo(job.input_path)
        return self._write(job, before, self.restorer.restore(before.tensor()))

    def _write(self, job: RestoreJob, before: Photo, result: Restoration) -> dict[str, Any]:
        """Writes the result, and the comparison if requested; returns the fields of the record."""
        # The name of a result decides its format: the result of a PNG file named a.jpg is a JPEG file.
        output_format = format_from_name(job.output_path) or before.format
        after = replace(before.with_image(result.image), format=output_format)
        with self._comparison(job, before, result), self._variants(job, before, result) as variants:
            status, notices = self._write_result(job, before, after, result)
        mislabelled, options = suffix_notices(job.input_path, before.format), self.options
        is_planned = options.plan is None and options.fix is None
        return {
            "status": status,
            "agent": self.restorer.config.agent if is_planned else None,
            "fix": None if options.fix is None else list(self.restorer.config.fix),
            **restoration_record(result, before, after),
            "variants": variants,
            "notices": [
                f"{notice}; the result is {output_format}" if notice in mislabelled else notice
                for notice in notices
            ],
        }

    def _write_result(
        self, job: RestoreJob, before: Photo, after: Photo, result: Restoration
    ) -> tuple[str, Sequence[str]]:
        """Writes the result; returns the status and the notices."""
        force, quality = self.options.force, self.options.quality
        if result.decision.plan or self.options.scale != 1 or after.format != before.format:
            status = RESTORED if result.decision.plan else CONVERTED
            return status, write_photo(job.output_path, after, quality, overwrite=force).notices
        # The file is copied and not encoded again, so that nothing is lost.
        with atomic_write(job.output_path) if force else atomic_create(job.output_path) as part:
            shutil.copyfile(job.input_path, part)
        return UNCHANGED, suffix_notices(job.input_path, before.format)

    @contextmanager
    def _comparison(self, job: RestoreJob, before: Photo, result: Restoration) -> Iterator[None]:
        """Writes the comparison before the result, and removes it if there will be no result.

        A result without its comparison would be left out when an interrupted run is resumed.
        """
        if not self.options.compare:
            yield
            return
        overwrite = self.options.force or self.options.skip_existing
        write_photo(job.comparison_path, draw_comparison(before, result), overwrite=overwrite)
        try:
            yield
        except BaseException:
            job.comparison_path.unlink(missing_ok=True)
            raise

    @contextmanager
    def _variants(self, job: RestoreJob, before: Photo, result: Restoration) -> Iterator[list[Any]]:
        """Writes the variants and their sheet, and removes them if there will be no result.

        Yields:
            The record of each variant: file, plan and score.
        """
        options, records, shown = self.options, list[dict[str, Any]](), list[tuple[str, Tensor]]()
        try:
            for plan in best_variants(result.scores, options.tool_cost, options.variants):
                variant = result
                if plan != result.decision.plan:
                    variant = self.restorer.restore_variant(before.tensor(), result, plan)
                path = job.variant_path(len(records) + 1)
                photo = replace(
                    before.with_image(variant.image), format=format_from_name(path) or before.format
                )
                write_photo(path, photo, options.quality, overwrite=options.force or options.skip_existing)
                records.append({"output": str(path), "plan": list(plan), "score": result.scores[plan]})
                shown.append((f"{len(records)}: {format_plan(plan)}", _thumbnail(variant.image)))
            if shown:
                overwrite = options.force or options.skip_existing
                write_photo(job.sheet_path, draw_variants(before, shown), overwrite=overwrite)
            yield records
        except BaseException:
            for path in (job.sheet_path, *(Path(record["output"]) for record in records)):
                path.unlink(missing_ok=True)
            raise


_THUMBNAIL = 1024
"""Longest side, in pixels, of the variants that are kept for their sheet."""


def _thumbnail(image: Tensor) -> Tensor:
    """Returns a small copy of an image, float32 (3, H, W), because several large ones need much memory."""
    height, width = image.shape[-2:]
    factor = min(1.0, _THUMBNAIL / max(height, width))
    return resize(image[None], (max(1, round(height * factor)), max(1, round(width * factor))))[0]
