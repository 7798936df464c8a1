"""The command `legato`: verbs, and errors told in one line."""

import signal
import sys
from typing import Annotated, NoReturn

import typer

import legato
from legato.errors import LegatoError

app = typer.Typer(
    name="legato",
    help="Video models that keep time.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


def show_version(wanted: bool) -> bool:
    """Print the version and stop."""
    if wanted:
        typer.echo(f"legato {legato.__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Video models that keep time."""


def register() -> None:
    """Bring in the verbs; each lives in a module of its own."""
    from legato.cli import bench, demo, generate, inbetween, inspect, measure, puppets, retime, stream, train, watch

    app.command("watch")(watch.watch)
    app.command("inspect")(inspect.inspect)
    app.command("measure")(measure.measure)
    app.command("puppets")(puppets.puppets)
    app.command("retime")(retime.retime)
    app.command("generate")(generate.generate)
    app.command("inbetween")(inbetween.inbetween)
    app.command("stream")(stream.stream)
    app.command("train")(train.train)
    app.add_typer(bench.app, name="bench")
    app.command("demo")(demo.demo)


def leave(number: int, frame: object) -> NoReturn:
    """End in order on SIGTERM, so that no half-written file stays behind; a second one ends at once."""
    signal.signal(number, signal.SIG_DFL)
    sys.exit(128 + number)


def main() -> None:
    """Run the command line; a known error prints one line and exits with 2, an interrupt with 130, SIGTERM with 143."""
    signal.signal(signal.SIGTERM, leave)
    register()
    try:
        app(standalone_mode=True)
    except LegatoError as error:
        from legato.cli.output import tell

        tell(error)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
