"""A recorded run with people in it, read back from its bag: nobody is readable, and no other picture is on the disk."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from fakes.people_store import Witness, people_store
from live_runs import environment

from shelfscan.adapters.frames_mcap import BagFrameSource
from shelfscan.perception.hidden import hidden_of, pixels_of

pytestmark = [pytest.mark.ros, pytest.mark.timeout(280)]


def test_nobody_is_readable_in_what_a_run_recorded(tmp_path: Path) -> None:
    store, run, config = people_store(tmp_path), tmp_path / "run", tmp_path / "config.yaml"
    config.write_text("tags: {reader: none}\nwms: {name: none}\n")
    command = [sys.executable, "-m", "shelfscan.cli.main", "run", "--store", store, "--out", run, "--config", config]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment())
    assert done.returncode == 0, done.stderr[-2000:]
    source, witness = BagFrameSource(run / "bag"), Witness(store)
    shown: Counter[str] = Counter()
    try:
        for bundle in source.frames():
            for frame in bundle.frames:
                # The demo store has no localisation error: the recorded pose is the true one.
                for (camera, role), (pixels, left) in witness.readable(bundle.T_map_base, frame).items():
                    # Poses are recorded to the millimetre of a wheel's slip: an outline may be a pixel off.
                    assert left <= 0.0005 * pixels, (
                        f"{bundle.viewpoint_id} {frame.head.name}/{camera}: {left} of {pixels} {role}"
                    )
                    shown[role] += pixels > 1000
                hidden = hidden_of(frame.rgb_jpeg)
                assert hidden is not None
                # The note tells the truth: what it calls hidden holds nothing but smooth colour.
                bgr = cv2.imdecode(np.frombuffer(frame.rgb_jpeg, np.uint8), cv2.IMREAD_COLOR)
                for picture, mask in ((bgr, hidden.rgb), (frame.left, hidden.left), (frame.right, hidden.right)):
                    inside = cv2.erode(pixels_of(mask, *picture.shape[:2]).astype(np.uint8), np.ones((17, 17), np.uint8)) > 0
                    if inside.any():
                        assert np.abs(cv2.Laplacian(picture, cv2.CV_32F))[inside].mean() < 2.0
    finally:
        witness.close()
    assert shown["head"] >= 2 and shown["body"] >= 8, "the run must have met people"
    # Pictures are in the bag and in the evidence, which is cut from what the bag has; nowhere else.
    with_pictures = {p.relative_to(run).parts[0] for p in run.rglob("*") if p.is_file() and b"\xff\xd8\xff" in p.read_bytes()}
    assert with_pictures <= {"bag", "evidence"}
