"""The version that pages and the command name."""

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version


def package_version() -> str:
    """The installed package's version, or "from source" where none is installed."""
    try:
        return installed_version("llava-gaze")
    except PackageNotFoundError:
        return "from source"
