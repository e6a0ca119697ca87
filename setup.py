"""What setup.cfg cannot say to every colcon: the Python version, and the files that go under ``share/shelfscan``."""

from __future__ import annotations

from glob import glob

from setuptools import setup

setup(
    python_requires=">=3.10",
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/shelfscan"]),
        ("share/shelfscan", ["package.xml"]),
        ("share/shelfscan/launch", sorted(glob("launch/*.launch.py"))),
        ("share/shelfscan/config", sorted(glob("config/*.yaml") + glob("config/*.xml"))),
    ],
)
