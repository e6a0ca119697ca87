"""``shelfscan``: the command line. Exit 0 done, 1 the job failed, 2 bad usage or bad input."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from typer.exceptions import TyperException

from shelfscan import __version__
from shelfscan.cli import (
    bench,
    calibrate,
    campaign,
    demo,
    doctor,
    enrol,
    evaluate,
    export,
    health,
    history,
    label,
    ledger,
    losses,
    missions,
    models,
    photos,
    pilot,
    plan,
    replay,
    retention,
    run,
    schedule,
    score,
    serve,
    store,
    survey,
    tasks,
    train,
    wms,
)
from shelfscan.cli._console import err
from shelfscan.errors import BadInput, ShelfscanError

app = typer.Typer(
    name="shelfscan",
    help="Counts a store's shelves with a robot at night, and says how sure it is.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(store.app, name="store")
app.add_typer(wms.review, name="review")
app.add_typer(export.app, name="export")
app.add_typer(evaluate.app, name="eval")
app.add_typer(train.app, name="train")
app.add_typer(models.app, name="models")
app.add_typer(label.app, name="label")
app.add_typer(ledger.app, name="ledger")
app.add_typer(enrol.app, name="gallery")
app.add_typer(retention.app, name="retention")
app.add_typer(pilot.app, name="pilot")
app.add_typer(calibrate.app, name="calibrate")
app.add_typer(health.app, name="health")
app.add_typer(missions.app, name="missions")
app.add_typer(schedule.app, name="schedule")
app.add_typer(tasks.app, name="tasks")
store.app.command("blank")(survey.blank)
store.app.command("survey")(survey.survey)
store.app.command("plan")(plan.plan)
app.command("demo")(demo.demo)
app.command("run")(run.run)
app.command("history")(history.history)
app.command("forecast")(history.forecast)
app.command("overdue")(missions.overdue)
app.command("replay")(replay.replay)
app.command("score")(score.score)
app.command("sync")(wms.sync)
app.command("losses")(losses.losses)
app.command("serve")(serve.serve)
app.command("detect")(photos.detect)
app.command("audit")(photos.audit)
app.command("enrol")(enrol.enrol)
app.command("doctor")(doctor.doctor)
app.command("bench")(bench.bench)
app.command("campaign")(campaign.campaign)


def _version(asked: bool) -> None:
    if asked:
        print(f"shelfscan {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    pass


def main() -> None:
    """Entry point; never shows a traceback for what a user did or a sensor failed to do."""
    try:
        code = app(standalone_mode=False)
    except TyperException as e:  # wrong usage
        show = getattr(e, "show", None)
        if show is None:
            err.print(f"shelfscan: {e}", highlight=False, markup=False, soft_wrap=True)
        else:
            show()
        sys.exit(2)
    except BadInput as e:
        for problem in e.problems:
            err.print(f"shelfscan: {problem}", highlight=False, markup=False, soft_wrap=True)
        sys.exit(2)
    except ShelfscanError as e:
        err.print(f"shelfscan: {e}", highlight=False, markup=False, soft_wrap=True)
        sys.exit(1)
    except OSError as e:  # a full disk, a right that is missing: nothing a traceback would explain
        where = f"{e.filename}: " if e.filename else ""
        err.print(f"shelfscan: {where}{e.strerror or e}", highlight=False, markup=False, soft_wrap=True)
        sys.exit(1)
    except (KeyboardInterrupt, typer.Abort):
        err.print("shelfscan: interrupted")
        sys.exit(130)
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
