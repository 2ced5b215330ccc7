"""All commands under one name. They are named, not imported: what a command needs loads when it is called."""

from cyclopts import App

app = App(name="csd", help="Keep a visual-search model learning without breaking its gallery.", version_flags=[])

for name in ("run", "summary"):
    app.command(f"csd_core.commands.pipeline:{name}", name=name)
for name in ("params", "profile", "tasks"):
    app.command(f"csd_core.commands.{name}:app", name=name)
app.command("csd_core.commands.check:check", name="check")
app.command("csd_core.commands.upgrade:app", name="upgrade")
app.command("csd_core.commands.gate:app", name="gate")
app.command("csd_core.commands.compare:app", name="compare")
for name in ("publish", "rollback", "releases", "verify"):
    app.command(f"csd_core.commands.releases:{name}", name=name)
app.command("csd_core.commands.backfill:backfill", name="backfill")
app.command("csd_core.commands.items:app", name="items")
for name in ("serve", "query", "embed"):
    app.command(f"csd_core.commands.{name}:{name}", name=name)
app.command("csd_core.commands.keys:app", name="keys")
app.command("csd_core.commands.inbox:app", name="inbox")
app.command("csd_core.commands.retrainings:retrainings", name="retrainings")
