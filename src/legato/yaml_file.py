"""Reading YAML that a user wrote."""

from pathlib import Path
from typing import Any

from legato.errors import BadArgument

__all__ = ["read_yaml"]


def read_yaml(path: Path, name: str) -> Any:
    """What a YAML file says.

    Args:
        path: of the file.
        name: what it is to the user, such as "recipe".

    Raises:
        BadArgument: it cannot be read, or is not YAML.
    """
    import yaml

    try:
        return yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise BadArgument(f"the {name} {path} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise BadArgument(f"the {name} {path} is not YAML: {' '.join(str(error).split())}") from error
