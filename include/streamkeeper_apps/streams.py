"""The declared streams, as commands name them."""

from __future__ import annotations

import difflib

from streamkeeper.errors import StreamkeeperError
from streamkeeper.settings import Settings
from streamkeeper.spec.loader import load_spec
from streamkeeper.spec.models import Spec


def declared(settings: Settings, name: str) -> Spec:
    """Return the declaration of a stream.

    Raises StreamkeeperError for a name that no file has, DeclarationError for a broken file.
    """
    path = settings.streams / f"{name}.yaml"
    if not path.is_file():
        raise unknown(settings, name)
    return load_spec(path)


def stream_names(settings: Settings) -> list[str]:
    """Return the names of the declared streams, broken ones too."""
    return sorted(path.stem for path in settings.streams.glob("*.yaml"))


def unknown(settings: Settings, name: str) -> StreamkeeperError:
    """Return the error for a stream that is not declared, with the valid names."""
    names = stream_names(settings)
    text = f"no stream {name!r} is declared in {settings.streams}"
    text += f"; declared: {', '.join(names)}" if names else "; there is no *.yaml file in it"
    nearest = difflib.get_close_matches(name, names, n=1)
    return StreamkeeperError(text + (f"; did you mean {nearest[0]!r}?" if nearest else ""))
