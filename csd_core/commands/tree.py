"""All commands under one name. They are named, not imported: what a command needs loads when it is called.

What a command's docstring says first stands here again, so that `csd --help` loads no command.
"""

from typing import Any

from cyclopts import App, Parameter
from cyclopts.help.formatters import DefaultFormatter
from rich.text import Text

from csd_core.system.console import Terminal
from csd_core.system.programs import version


class Folded(DefaultFormatter):
    """Help that breaks lines where the terminal ends, not where the source does."""

    def __call__(self, console: Any, options: Any, panel: Any) -> None:
        """Print a panel."""
        for entry in panel.entries:
            text = getattr(entry.description, "primary_renderable", None)
            if isinstance(text, Text):
                text.plain = " ".join(text.plain.split())
        super().__call__(console, options, panel)


app = App(
    name="csd",
    help="Keep a visual-search model learning without breaking its gallery.",
    version=version,
    help_format="plaintext",
    help_formatter=Folded(),
    console=Terminal(),
    default_parameter=Parameter(negative=()),
)

_COMMANDS = {
    "init:init": "Set up a project in a folder; nothing that is there is overwritten.",
    "inspect:inspect": """Show what is in a folder of images, what is wrong with it, and what training on it would take.

In a project whose parameters name the folder, its images are looked at as these say; elsewhere as would fit them.""",
    "pipeline:run": "Run the stale stages of the pipeline (`dvc repro`), then print the summary.",
    "status:status": "List the stages that are stale and why; if none is, say what rejected candidates need.",
    "pipeline:summary": "Print the tables of the last run.",
    "params:app": "Check params.yaml.",
    "profile:app": "Choose a params.yaml.",
    "sources:app": "List the sources of images, and the files that they could not use.",
    "tasks:app": "List tasks and append new ones.",
    "standalone.check:check": (
        "Judge whether a new embedding model may take over search, and how; exit with 7 if it may not."
    ),
    "standalone.upgrade:app": "Plan and apply the upgrade of a gallery of your own.",
    "standalone.doctor:doctor": (
        "Say what is wrong with the vectors of an index, and what to do; exit with 9 if anything is."
    ),
    "gate:app": "Judge a check's report again.",
    "compare:app": "Compare methods on data profiles and seeds.",
    "production.releases:publish": "Activate the champion, with its gallery and the rows that people wrote since.",
    "production.releases:rollback": """Activate an earlier release again, under a new number.

Rows that people wrote since are re-embedded by its model; what was deleted since stays deleted.""",
    "production.releases:releases": "List the releases.",
    "production.releases:verify": (
        "Verify releases, gallery, pointer and audit log; exit with 4 if anything has changed."
    ),
    "production.backfill:backfill": """Re-embed with the active model the rows that older models made, then serve them.

Searches and writes continue meanwhile, and what people write or delete is kept. Run it again to resume.""",
    "production.items:app": "List, search, write and erase the items that production searches.",
    "production.serve:serve": """Answer queries over HTTP until Ctrl-C.

A publish or rollback takes effect without a restart.""",
    "production.query:query": "Show the items nearest to an image, as a running service finds them.",
    "production.embed:embed": """Embed all images of a folder into a Parquet file: path, id, vector.

Run it again to resume after a stop.""",
    "production.keys:app": "Make, list and revoke keys of the service.",
    "retraining.inbox:app": ("Show the batches of new images, mark one as complete, or return one that was set aside."),
    "flows.ui.server:ui": "Start scheduled retraining: server, worker and home page; Ctrl-C stops everything.",
    "flows.gc:gc": "Show what DVC's cache must keep for releases, reviews and branches, and how much else is in it.",
    "retraining.history:retrainings": "List the retrainings, oldest first, with their tasks, how they ended and why.",
}

for place, sentence in _COMMANDS.items():
    module, _, attribute = place.partition(":")
    where = place if module.startswith("flows.") else f"csd_core.commands.{place}"
    app.command(where, name=module.rpartition(".")[2] if attribute == "app" else attribute, help=sentence)
