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
        BadArgument: it cannot be read, is not YAML, or says something twice.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        """Refuses what is said twice; YAML's own loader takes the last of it."""

        def compose_mapping_node(self, anchor: Any) -> Any:
            node = super().compose_mapping_node(anchor)  # as it is written: what is merged into it comes later
            keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            for number, key in enumerate(keys):
                if any((key.tag, key.value) == (other.tag, other.value) for other in keys[:number]):
                    raise yaml.constructor.ConstructorError(None, None, f"'{key.value}' is said twice", key.start_mark)
            return node

    try:
        return yaml.load(path.read_text(), Loader)
    except OSError as error:
        raise BadArgument(f"the {name} {path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise BadArgument(f"the {name} {path} is not a text; expected YAML") from error
    except yaml.YAMLError as error:
        raise BadArgument(f"the {name} {path} is not YAML: {' '.join(str(error).split())}") from error
