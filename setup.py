"""The one thing that setup.cfg cannot say: a folder of the clone goes into the package under another name."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["lightning_gfn*", "datamodules*"]), "lightning_gfn.experiments"],
    package_dir={"lightning_gfn.experiments": "experiments"},
)
