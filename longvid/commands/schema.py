"""`longvid schema`: the timeline's JSON schema, from which YAML editors complete."""

from __future__ import annotations

import json

import typer


def schema() -> None:
    """Print the JSON schema of a timeline, for your editor.

    Editors complete keys by it, and mark mistakes.

    longvid schema > timeline.schema.json, and as a timeline's first line:

    # yaml-language-server: $schema=timeline.schema.json
    """
    from longvid import timeline

    typer.echo(json.dumps(timeline.json_schema(), indent=2))
